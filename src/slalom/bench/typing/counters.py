"""What an engine itself says it has computed: prompt and generated tokens, from its metrics page.

Owns the names under which llama.cpp and vLLM publish them, the differences over a run, and the wait
until an engine has nothing left to do. Called by the runs.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp

from slalom.engines.gauges import parse_gauges

_PROMPT = frozenset({"llamacpp:prompt_tokens_total", "vllm:prompt_tokens_total"})
_CACHED = frozenset({"llamacpp:prompt_tokens_cached_total", "vllm:prefix_cache_hits_total"})
_GENERATED = frozenset({"llamacpp:tokens_predicted_total", "vllm:generation_tokens_total"})
_LOOK_EVERY_S = 0.1
_TIMEOUT_S = 5.0
#: It is at rest when it is idle so many times in a row.
_IDLE_LOOKS = 3


@dataclass(frozen=True, slots=True)
class Computed:
    """Tokens since an engine's start, or between two looks at it."""

    #: Of prompts: computed, and found in the engine's own cache. vLLM counts the latter among the
    #: former, llama.cpp does not.
    prompt: float
    cached: float
    generated: float

    def since(self, before: "Computed") -> "Computed":
        """What was added."""
        return Computed(
            self.prompt - before.prompt,
            self.cached - before.cached,
            self.generated - before.generated,
        )


@dataclass(frozen=True, slots=True)
class Gauge:
    """Where an engine publishes its figures."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    async def computed(self) -> Computed | None:
        """What it has computed so far; None where it does not say."""
        text = await self._page()
        return read(text) if text is not None else None

    async def rest(self, limit_s: float) -> bool:
        """Wait until it has nothing left to do, for so long at most; whether it came to that."""
        idle = 0
        for _ in range(max(round(limit_s / _LOOK_EVERY_S), 1)):
            gauges = parse_gauges(await self._page() or "")
            # An engine too busy to publish anything is not at rest.
            idle = idle + 1 if gauges and not (gauges.running or gauges.waiting) else 0
            if idle >= _IDLE_LOOKS:
                return True
            await asyncio.sleep(_LOOK_EVERY_S)
        return False

    async def _page(self) -> str | None:
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        headers = {**self.headers, "connection": "close"}
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(self.url, headers=headers) as response,
            ):
                return await response.text() if response.status == 200 else None
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None


def read(text: str) -> Computed | None:
    """An engine's figures from its metrics page; None if it is neither vocabulary's."""
    sums: dict[str, float] = {}
    for line in text.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        for kind, names in (("prompt", _PROMPT), ("cached", _CACHED), ("generated", _GENERATED)):
            if name in names:
                sums[kind] = sums.get(kind, 0.0) + float(line.rpartition("}")[2].split()[-1])
    if "generated" not in sums:
        return None
    return Computed(sums.get("prompt", 0.0), sums.get("cached", 0.0), sums["generated"])
