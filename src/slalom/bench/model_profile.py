"""What one model costs, measured alone: loads from disk and page cache, first tokens, memory.

Owns the experiments and their order; takes a launcher, because only assembly knows which one a
model needs, and remembers nothing. Called by `slalom models profile`.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slalom.bench.calibrate_streams import Stream, watch
from slalom.clock import Clock, MonotonicClock
from slalom.engines.protocol import Engine, Launcher
from slalom.models.measurements import Measurement, Quantity, Tier
from slalom.models.page_cache import drop, read_in, tier_of

#: Prompt of the first request after a load, and what makes a replica touch its memory, tokens.
_SHORT_TOKENS = 16
_WORK_TOKENS = 512
_WORK_ANSWER_TOKENS = 8
_STOP_S = 5.0

#: Told what is being done, experiments done, and experiments in all.
OnStage = Callable[[str, int, int], None]


@dataclass(slots=True)
class ModelProfile:
    """What was found."""

    figures: list[Measurement] = field(default_factory=list)
    #: What could not be measured, and why; for people.
    remarks: list[str] = field(default_factory=list)

    def note(self, quantity: Quantity, tier: Tier, value: int) -> None:
        """Add a figure of now."""
        self.figures.append(Measurement(quantity, tier, value, time.time()))


@dataclass(frozen=True, slots=True)
class ProfileParams:
    """How a model is measured."""

    #: Loads from each tier.
    repeats: int = 3
    #: Longest prompt that fits into one place while all are full, tokens, and the places.
    context_tokens: int = _WORK_TOKENS
    places: int = 1
    #: Time to fill all places, seconds; 0 leaves it out.
    fill_s: float = 20.0
    #: Level at which the model sleeps; 0 for never.
    sleep_level: int = 0
    sleep_tier: Tier = Tier.HOST


async def profile_model(
    name: str,
    launcher: Launcher,
    files: Sequence[Path],
    params: ProfileParams | None = None,
    *,
    clock: Clock | None = None,
    on_stage: OnStage = lambda _stage, _done, _total: None,
) -> ModelProfile:
    """Measure one model; nothing else should run it meanwhile.

    Args:
        name: For the replicas' names.
        launcher: Brings its engine up.
        files: Its files, if they are known: without them no tier can be chosen.
        params: How.
        clock: For tests.
        on_stage: Told of progress.

    Raises:
        EngineError: The engine did not start or refused a request.
        OSError: A file cannot be read.
    """
    experiment = _Experiment(name, launcher, params or ProfileParams(), clock or MonotonicClock())
    found = experiment.found
    tiers = (Tier.DISK, Tier.PAGE_CACHE) if files else (Tier.MIXED,)
    wakes = experiment.params.repeats if experiment.params.sleep_level else 0
    total = len(tiers) * experiment.params.repeats + wakes
    done = 0
    for tier in tiers:
        for round_number in range(experiment.params.repeats):
            on_stage(f"load from {tier.value.replace('_', ' ')}", done, total)
            if _placed(files, tier):
                await experiment.load(tier, fill=tier is not Tier.DISK and round_number == 0)
            elif (said := _NOT_PLACED[tier]) not in found.remarks:
                found.remarks.append(said)
            done += 1
    if wakes:
        on_stage("sleep and wake", done, total)
        await experiment.wakes()
    on_stage("done", total, total)
    return found


_NOT_PLACED = {
    Tier.DISK: "loads from disk: the file stays in the page cache (a process has it mapped, or "
    "the file system has no disk)",
    Tier.PAGE_CACHE: "loads from the page cache: there is not enough free memory for the file",
}


def _placed(files: Sequence[Path], tier: Tier) -> bool:
    """Bring the files to where a load is to find them; whether that worked."""
    if tier is Tier.MIXED:
        return True
    if tier is Tier.DISK:
        drop(files)
    else:
        read_in(files)
    return tier_of(files) is tier


@dataclass(slots=True)
class _Experiment:
    """One model being measured."""

    name: str
    launcher: Launcher
    params: ProfileParams
    clock: Clock
    found: ModelProfile = field(default_factory=ModelProfile)
    _salt: int = 0

    async def load(self, tier: Tier, *, fill: bool) -> None:
        """One load, its first token, and the memory of the replica at work."""
        began_ns = self.clock.now_ns()
        engine = await self._launch()
        try:
            self.found.note(Quantity.LOAD, tier, self.clock.now_ns() - began_ns)
            await self._first_token(engine, tier)
            tokens = min(_WORK_TOKENS, self.params.context_tokens - _WORK_ANSWER_TOKENS)
            await self._ask(engine, tokens, _WORK_ANSWER_TOKENS)
            await self._memory(engine)
            if fill and self.params.fill_s:
                await self._fill(engine)
        finally:
            await engine.stop(_STOP_S)

    async def wakes(self) -> None:
        """Sleeps and wakes of one replica."""
        level, tier = self.params.sleep_level, self.params.sleep_tier
        engine = await self._launch()
        try:
            await self._ask(engine, _SHORT_TOKENS, 1)
            for _ in range(self.params.repeats):
                await engine.sleep(level)
                began_ns = self.clock.now_ns()
                await engine.wake()
                self.found.note(Quantity.WAKE, tier, self.clock.now_ns() - began_ns)
                await self._first_token(engine, tier)
        finally:
            await engine.stop(_STOP_S)

    async def _fill(self, engine: Engine) -> None:
        """The memory with every place's context full, if that can be had in time."""
        tokens = self.params.context_tokens - _WORK_ANSWER_TOKENS
        asked = (self._ask(engine, tokens, 1) for _ in range(self.params.places))
        try:
            async with asyncio.timeout(self.params.fill_s):
                await asyncio.gather(*asked)
        except TimeoutError:
            self.found.remarks.append(
                f"memory with every place full: that takes more than {self.params.fill_s:g} s "
                "(--fill-seconds); what it may still grow by is estimated"
            )
            full = False
        else:
            full = True
        if total := await engine.memory_bytes():
            quantity = Quantity.MEMORY_FULL if full else Quantity.MEMORY
            self.found.note(quantity, Tier.RESIDENT, total)

    async def _launch(self) -> Engine:
        return await self.launcher.launch(f"{self.name}-profiled", lambda _fraction: None)

    async def _first_token(self, engine: Engine, tier: Tier) -> None:
        stream = await self._ask(engine, _SHORT_TOKENS, 1)
        self.found.note(Quantity.FIRST_TOKEN, tier, stream.first_ns)

    async def _ask(self, engine: Engine, prompt_tokens: int, answer_tokens: int) -> Stream:
        self._salt += 1
        stream = Stream(max(prompt_tokens, 1))
        return await watch(engine, self.clock, stream, salt=self._salt, output_tokens=answer_tokens)

    async def _memory(self, engine: Engine) -> None:
        total, use = await engine.memory_bytes(), await engine.memory_use()
        if total:
            self.found.note(Quantity.MEMORY, Tier.RESIDENT, total)
        if use is not None:
            self.found.note(Quantity.PROPORTIONAL, Tier.RESIDENT, use.proportional)
            self.found.note(Quantity.WEIGHTS, Tier.RESIDENT, use.weights)
            self.found.note(Quantity.PRIVATE, Tier.RESIDENT, use.private)
            self.found.note(Quantity.PROGRAM, Tier.RESIDENT, use.program)
