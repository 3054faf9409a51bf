"""Two models take turns in memory for one: request to first token, cold, from page cache, resident.

Owns the experiment and the command line. A real server with the built-in engine serves two models
of random weights under a budget for one; each request asks for the one that is not there. Run it
with `python -m slalom.bench.alternation [--quick] [--write docs/benchmarks/alternation.md]`.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import aiohttp

from slalom.bench.alternation_phases import Phases, phases_of
from slalom.bench.alternation_report import render
from slalom.bench.demo_server import journal_folder, running_server
from slalom.clock import MonotonicClock
from slalom.config.engine_sections import LlamaCppEngine
from slalom.config.footprint import llama_cpp_bytes
from slalom.errors import EngineError
from slalom.journal.files import read_entries
from slalom.models.measurements import Tier
from slalom.models.page_cache import drop, read_in, tier_of
from slalom.models.synth import synthesize

ROUNDS = 10
PARAMETERS = 250_000_000
_QUICK_PARAMETERS = 4_000_000
_CONTEXT_TOKENS = 1024
_PLACES = 2
_ANSWER_TOKENS = 4
#: Tokens of the answer that a model writes when its memory is wanted: some hundred milliseconds,
#: so that many for a large model and for one below so many parameters.
_BUSY_TOKENS, _BUSY_TOKENS_SMALL = 24, 600
_SMALL_PARAMETERS = 50_000_000
_PROMPT = "def add(a, b):"
_REQUEST_S = 300.0


class Start(StrEnum):
    """How a request finds its model."""

    #: Not loaded, its file not in the page cache.
    COLD = "cold"
    #: Not loaded, its file in the page cache.
    PAGE_CACHE = "page cache"
    #: The same while the other model writes an answer.
    BUSY = "page cache, the other busy"
    #: Loaded.
    RESIDENT = "resident"


@dataclass(frozen=True, slots=True)
class Turn:
    """One request."""

    start: Start
    #: From sending it to the first token, as its client saw it, ns.
    client_ns: int
    phases: Phases


@dataclass(frozen=True, slots=True)
class Alternation:
    """What was measured."""

    turns: tuple[Turn, ...]
    file_bytes: int
    budget_bytes: int
    needed_bytes: int
    #: Cold starts that could not be had, because the file stayed in the page cache.
    not_cold: int


async def measure(folder: Path, *, parameters: int, rounds: int) -> Alternation:
    """Run the experiment.

    Args:
        folder: For the models' files and the server's.
        parameters: Of each model.
        rounds: Of A and B with every start.

    Raises:
        SlalomError: The server did not start, or a request failed.
    """
    files = {name: folder / f"{name}.gguf" for name in ("a", "b")}
    for seed, path in enumerate(files.values()):
        if not path.exists():
            _say(f"making {path.name}")
            synthesize(path, parameters=parameters, seed=seed)
    engine = LlamaCppEngine(
        source=str(files["a"]), context_tokens=_CONTEXT_TOKENS, places=_PLACES, threads=1
    )
    needed = llama_cpp_bytes(engine)
    budget = needed * 3 // 2
    turns: list[tuple[Start, str, int]] = []
    async with (
        running_server(folder / "server", _config(files, budget)) as url,
        aiohttp.ClientSession() as http,
    ):
        is_small = parameters < _SMALL_PARAMETERS
        busy_tokens = _BUSY_TOKENS_SMALL if is_small else _BUSY_TOKENS
        table = _Table(url, http, files, turns, busy_tokens)
        await table.ask("a", Start.COLD, count=False)
        for number in range(rounds):
            _say(f"round {number + 1} of {rounds}")
            await table.round()
    phases = phases_of(read_entries(journal_folder(folder / "server")))
    return Alternation(
        turns=tuple(
            Turn(start, client_ns, phases[request_id]) for start, request_id, client_ns in turns
        ),
        file_bytes=files["a"].stat().st_size,
        budget_bytes=budget,
        needed_bytes=needed,
        not_cold=table.not_cold,
    )


def _config(files: dict[str, Path], budget: int) -> dict[str, Any]:
    return {
        "devices": [{"id": "host", "budget": budget}],
        "models": [
            {
                "id": name,
                "engine": {
                    "kind": "llama-cpp",
                    "source": str(path),
                    "context_tokens": _CONTEXT_TOKENS,
                    "places": _PLACES,
                    "threads": 1,
                },
            }
            for name, path in files.items()
        ],
        # A swap is to be measured, not the time for which the policy puts it off.
        "scheduler": {"min_residency_ms": 0, "swap_patience_ms": 0},
    }


@dataclass(slots=True)
class _Table:
    """The two models, of which one is there."""

    url: str
    http: aiohttp.ClientSession
    files: dict[str, Path]
    turns: list[tuple[Start, str, int]]
    busy_tokens: int
    not_cold: int = 0

    async def round(self) -> None:
        """Each model from each start; begins and ends with a loaded."""
        for model in ("b", "a"):
            drop([self.files[model]])
            if tier_of([self.files[model]]) is Tier.DISK:
                await self.ask(model, Start.COLD)
            else:
                self.not_cold += 1
                await self.ask(model, Start.COLD, count=False)
            await self.ask(model, Start.RESIDENT)
        for model in ("b", "a"):
            read_in([self.files[model]])
            await self.ask(model, Start.PAGE_CACHE)
        for model, other in (("b", "a"), ("a", "b")):
            read_in([self.files[model]])
            await self._while_busy(model, other)

    async def _while_busy(self, model: str, other: str) -> None:
        under_way = asyncio.Event()
        busy = asyncio.ensure_future(self._send(other, self.busy_tokens, under_way))
        started = asyncio.ensure_future(under_way.wait())
        await asyncio.wait((busy, started), return_when=asyncio.FIRST_COMPLETED)
        await self.ask(model, Start.BUSY)
        await busy

    async def ask(self, model: str, start: Start, *, count: bool = True) -> None:
        """One request, noted unless it is only to bring a model up."""
        request_id, client_ns = await self._send(model, _ANSWER_TOKENS)
        if count:
            self.turns.append((start, request_id, client_ns))

    async def _send(
        self, model: str, tokens: int, under_way: asyncio.Event | None = None
    ) -> tuple[str, int]:
        """(request id, ns to the first token)."""
        body = {
            "model": model,
            "prompt": _PROMPT,
            "max_tokens": tokens,
            "ignore_eos": True,
            "stream": True,
        }
        clock = MonotonicClock()
        sent_ns, first_ns = clock.now_ns(), 0
        timeout = aiohttp.ClientTimeout(total=_REQUEST_S)
        async with self.http.post(
            f"{self.url}/v1/completions", json=body, timeout=timeout
        ) as reply:
            if reply.status != 200:
                raise EngineError(f"model {model}: status {reply.status}: {await reply.text()}")
            rest = b""
            async for data in reply.content.iter_any():
                rest += data
                if not first_ns and b"data:" in rest:
                    first_ns = clock.now_ns()
                    if under_way is not None:
                        under_way.set()
            if b"[DONE]" not in rest:
                raise EngineError(f"model {model}: its answer broke off: {rest[-200:]!r}")
            return reply.headers["x-request-id"], first_ns - sent_ns


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m slalom.bench.alternation", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="tiny models, one round: a smoke test")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of every start (%(default)s)")
    parser.add_argument("--parameters", type=int, default=PARAMETERS, help="of each model")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every turn here")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the page to FILE")
    chosen = parser.parse_args(arguments)
    rounds = 1 if chosen.quick else chosen.rounds
    parameters = _QUICK_PARAMETERS if chosen.quick else chosen.parameters
    with tempfile.TemporaryDirectory(prefix="slalom-alternation-") as folder:
        found = asyncio.run(measure(Path(folder), parameters=parameters, rounds=rounds))
    command = "make bench-alternation" if chosen.write else "python -m slalom.bench.alternation"
    page = render(found, command)
    print(page, end="")
    if chosen.write:
        chosen.write.write_text(page, encoding="utf-8")
    if chosen.json:
        rows = [
            {
                "start": turn.start,
                "client_ns": turn.client_ns,
                **{name: getattr(turn.phases, name) for name in Phases.__dataclass_fields__},
            }
            for turn in found.turns
        ]
        chosen.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
