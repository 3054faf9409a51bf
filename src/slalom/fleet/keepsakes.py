"""What one life of the core leaves to the next, on whatever machine that is.

Owns what is kept and its form: the chains that are under way, and the step times that traffic has
taught. Requests are not kept: ingresses hold those whose clients are there. Where it is kept is
given to it. Called by `core_server`.
"""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from slalom.assembly.parts import Parts
from slalom.assembly.serving import save_learned
from slalom.bench.calibrate_store import profiles_dir
from slalom.gateway.chains import OpenChain
from slalom.workload.chains import ChainSpec, StepSpec

_log = logging.getLogger(__name__)

_CHAINS = "chains"
_LEARNED = "learned"
#: What the files of learned step times are called.
_LEARNED_FILES = "*.learned.json"
#: Files of learned step times that are kept, and their size; both are far more than there is.
_FILES_MAX = 1024
_FILE_BYTES_MAX = 64 << 10
#: Between two times that chains are kept lies so many times what that takes.
_SHARE = 100.0
#: Learned step times are written to their files, and kept, so often, s.
_LEARNED_EVERY_S = 60.0


class Kept(Protocol):
    """A few named blobs that outlive a process. Both calls may take a network's time."""

    def get(self, name: str) -> bytes | None:
        """A blob; None where there is none."""
        ...

    def put(self, name: str, blob: bytes) -> None:
        """Keep a blob in the place of the last one of its name."""
        ...


@dataclass(frozen=True, slots=True)
class _ChainKept:
    """A chain on paper. Times are Unix times, since the next life has another clock, ns."""

    key: str
    id: str
    opened_ns: int
    heard_ns: int
    deadline_ns: int
    steps: int
    done: int
    done_step: str
    abandoned: bool
    is_opened: bool
    #: The graph of its steps; none where they have no names.
    template: str = ""
    graph: tuple[StepSpec, ...] = ()
    graph_deadline_ms: float = 0.0


@dataclass(eq=False)
class Keepsakes:
    """Puts away and puts back.

    Args:
        kept: Where.
    """

    kept: Kept
    _last: dict[str, bytes] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Keepsakes {sorted(self._last)}>"

    def put_back_files(self) -> None:
        """Write what was learned of step times where the next `assemble` looks for it."""
        blob = self._get(_LEARNED)
        if blob is None:
            return
        try:
            files = msgspec.json.decode(blob, type=dict[str, str])
            folder = profiles_dir()
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                path = folder / name
                if path.parent == folder and not path.exists():
                    path.write_text(text, encoding="utf-8")
        except (OSError, msgspec.MsgspecError) as problem:
            _log.warning("learned step times could not be put back: %s", type(problem).__name__)

    def put_back(self, parts: Parts) -> None:
        """Remember the chains again."""
        blob = self._get(_CHAINS)
        if blob is None:
            return
        try:
            found = msgspec.json.decode(blob, type=list[_ChainKept])
        except msgspec.MsgspecError:
            _log.warning("the chains of the last life cannot be read")
            return
        chains = parts.gateway.shared.chains
        shift_ns = _unix_shift_ns(parts)
        for one in found:
            chains.open(_chain(one, shift_ns))

    async def keep_on(self, parts: Parts, every_s: float) -> None:
        """Keep what has changed, now and then, for as long as it runs."""
        learned_s = time.monotonic()
        shift_ns = _unix_shift_ns(parts)  # once, so that what has not changed reads as before
        pause_s = every_s
        while True:
            await asyncio.sleep(pause_s)
            began_s = time.monotonic()
            blob = _chains_blob(parts, shift_ns)
            # Thousands of chains take milliseconds, in which nothing else goes on.
            pause_s = max(every_s, _SHARE * (time.monotonic() - began_s))
            await self._put(_CHAINS, blob)
            if time.monotonic() - learned_s >= _LEARNED_EVERY_S:
                learned_s = time.monotonic()
                await asyncio.to_thread(save_learned, parts)
                await self._put(_LEARNED, await asyncio.to_thread(_learned_blob))

    async def _put(self, name: str, blob: bytes) -> None:
        if self._last.get(name) == blob:
            return
        try:
            await asyncio.to_thread(self.kept.put, name, blob)
        except Exception as problem:  # noqa: BLE001 - whoever keeps it may be away for a while
            _log.warning("%s could not be kept: %s", name, type(problem).__name__)
        else:
            self._last[name] = blob

    def _get(self, name: str) -> bytes | None:
        try:
            return self.kept.get(name)
        except Exception as problem:  # noqa: BLE001 - as above
            _log.warning("%s of the last life cannot be had: %s", name, type(problem).__name__)
            return None


def _unix_shift_ns(parts: Parts) -> int:
    """What to add to the runtime's clock for Unix time, ns."""
    return time.time_ns() - parts.runtime.now_ns()


def _chains_blob(parts: Parts, shift_ns: int) -> bytes:
    chains = parts.gateway.shared.chains
    return msgspec.json.encode([_paper(one, shift_ns) for one in chains.all()])


def _paper(chain: OpenChain, shift_ns: int) -> _ChainKept:
    spec = chain.spec
    return _ChainKept(
        key=chain.key,
        id=chain.id,
        opened_ns=chain.opened_ns + shift_ns,
        heard_ns=chain.heard_ns + shift_ns,
        deadline_ns=chain.deadline_ns + shift_ns if chain.deadline_ns >= 0 else -1,
        steps=chain.steps,
        done=chain.done,
        done_step=chain.done_step,
        abandoned=chain.abandoned,
        is_opened=chain.is_opened,
        template=spec.name if spec is not None else "",
        graph=tuple(spec.steps.values()) if spec is not None else (),
        graph_deadline_ms=spec.deadline_ms if spec is not None else 0.0,
    )


def _chain(kept: _ChainKept, shift_ns: int) -> OpenChain:
    chain = OpenChain(kept.key, kept.id, kept.opened_ns - shift_ns)
    chain.heard_ns = kept.heard_ns - shift_ns
    chain.deadline_ns = max(kept.deadline_ns - shift_ns, 0) if kept.deadline_ns >= 0 else -1
    if kept.graph:
        chain.spec = ChainSpec(kept.template, kept.graph, kept.graph_deadline_ms)
    chain.steps = kept.steps
    chain.done = kept.done
    chain.done_step = kept.done_step
    chain.abandoned = kept.abandoned
    chain.is_opened = kept.is_opened
    return chain


def _learned_blob() -> bytes:
    files: dict[str, str] = {}
    for path in sorted(profiles_dir().glob(_LEARNED_FILES))[:_FILES_MAX]:
        if path.stat().st_size <= _FILE_BYTES_MAX:
            files[path.name] = path.read_text(encoding="utf-8", errors="replace")
    return msgspec.json.encode(files)
