"""Watches a live scheduler's steps and remembers what loads, wakes and replicas really cost.

Owns the reading of measurements from events and actions: load and wake times by tier, the first
token after them, memory in use. Changes nothing about what it watches and never blocks the loop:
the page cache is looked at, and figures are written, in threads. Built by `serving`.
"""

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field

from slalom.assembly.model_costs import Measured, ModelCosts, sleep_tier
from slalom.core.actions import (
    Action,
    Dispatch,
    LoadReplica,
    SleepReplica,
    WakeReplica,
)
from slalom.core.events import (
    AttemptFailed,
    AttemptFinished,
    Event,
    FirstToken,
    MemorySampled,
    ReplicaGone,
    ReplicaReady,
)
from slalom.core.journal import Entry
from slalom.core.scheduler import Scheduler
from slalom.errors import EngineError
from slalom.models.measurements import Measurement, Quantity, Tier
from slalom.models.page_cache import tier_of
from slalom.runtime.driver import Runtime

#: A longer prompt takes so long to read that its first token says little about the load.
_PROMPT_TOKENS_MAX = 256


_HEARD = frozenset(
    {FirstToken, AttemptFinished, AttemptFailed, ReplicaReady, MemorySampled, ReplicaGone}
)
_BEGUN = frozenset({Dispatch, LoadReplica, SleepReplica, WakeReplica})


@dataclass(slots=True, eq=False)
class _Life:
    """One life of a replica, as far as it is measured."""

    made: Measured
    replica_id: str
    epoch: int
    #: Start of its load, or of its last wake.
    began_ns: int
    #: Where its weights come from; found out meanwhile.
    tier: "asyncio.Future[Tier]"
    quantity: Quantity = Quantity.LOAD
    #: Number of that wake; the load was 0.
    turn: int = 0
    sleep_level: int = 0
    #: Whether the next dispatch is the first one since it came up.
    is_fresh: bool = False
    #: Its first attempt since it came up, and when that was dispatched.
    fence: tuple[str, int] | None = None
    dispatched_ns: int = 0
    #: Whether it has worked: before that, not all of its memory is in use.
    worked: bool = False
    peak_bytes: int = 0
    kept_bytes: int = 0


@dataclass(slots=True, eq=False)
class Recorder:
    """An observer of steps; add it to `Runtime.on_step`.

    Args:
        costs: Remembers the figures.
        runtime: Gives the engines to look at.
        scheduler: Gives the size of a request's prompt.
    """

    costs: ModelCosts
    runtime: Runtime
    scheduler: Scheduler
    _lives: dict[tuple[str, int], _Life] = field(default_factory=dict)
    #: First attempts whose first token has not come.
    _awaited: dict[tuple[str, int], _Life] = field(default_factory=dict)
    _tasks: "set[asyncio.Task[None]]" = field(default_factory=set)

    def __repr__(self) -> str:
        return f"Recorder(lives={len(self._lives)}, awaited={len(self._awaited)})"

    def __call__(self, entry: Entry) -> None:
        """Look at one step."""
        # Most events of a busy server say nothing here: they must cost little.
        for event in entry.events:
            if type(event) in _HEARD:
                self._heard(event, entry.now_ns)
        for action in entry.actions:
            if type(action) in _BEGUN:
                self._began(action, entry.now_ns)

    def flush(self) -> None:
        """Write down the memory seen since the last time."""
        for life in self._lives.values():
            self._keep_peak(life)

    async def close(self) -> None:
        """Write what is left and wait until everything is written."""
        self.flush()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _began(self, action: Action, now_ns: int) -> None:
        match action:
            case Dispatch():
                self._dispatched(action, now_ns)
            case LoadReplica():
                made = self.costs.models.get(action.model)
                if made is not None:
                    tier = asyncio.ensure_future(asyncio.to_thread(tier_of, made.files))
                    life = _Life(made, action.replica_id, action.epoch, now_ns, tier)
                    self._lives[action.replica_id, action.epoch] = life
            case SleepReplica():
                if life_found := self._lives.get((action.replica_id, action.epoch)):
                    self._keep_peak(life_found)
                    life_found.sleep_level = action.level
            case WakeReplica():
                if life_found := self._lives.get((action.replica_id, action.epoch)):
                    life_found.began_ns, life_found.turn = now_ns, action.turn
                    life_found.quantity = Quantity.WAKE
                    life_found.tier = asyncio.get_running_loop().create_future()
                    life_found.tier.set_result(sleep_tier(life_found.sleep_level))

    def _heard(self, event: Event, now_ns: int) -> None:
        match event:
            case FirstToken():
                life = self._awaited.pop((event.request_id, event.attempt), None)
                if life is not None:
                    took_ns = now_ns - life.dispatched_ns
                    self._later(self._keep(life, Quantity.FIRST_TOKEN, took_ns))
                    self._later(self._look_at_memory(life))
            case AttemptFinished() | AttemptFailed():
                self._awaited.pop((event.request_id, event.attempt), None)
            case ReplicaReady():
                life = self._lives.get((event.replica_id, event.epoch))
                if life is not None and life.turn == event.turn:
                    life.is_fresh = True
                    self._later(self._keep(life, life.quantity, now_ns - life.began_ns))
            case MemorySampled():
                life = self._lives.get((event.replica_id, event.epoch))
                if life is not None and life.worked:
                    life.peak_bytes = max(life.peak_bytes, event.measured_bytes)
            case ReplicaGone():
                life = self._lives.pop((event.replica_id, event.epoch), None)
                if life is not None:
                    self._keep_peak(life)
                    if life.fence is not None:
                        self._awaited.pop(life.fence, None)

    def _dispatched(self, action: Dispatch, now_ns: int) -> None:
        life = self._lives.get((action.replica_id, action.epoch))
        if life is None:
            return
        life.worked = True
        if not life.is_fresh:
            return
        life.is_fresh = False
        record = self.scheduler.state.requests.get(action.request_id)
        if record is not None and record.request.prompt_tokens <= _PROMPT_TOKENS_MAX:
            life.fence, life.dispatched_ns = (action.request_id, action.attempt), now_ns
            self._awaited[life.fence] = life

    async def _keep(self, life: _Life, quantity: Quantity, took_ns: int) -> None:
        tier = await life.tier
        await self._write(life, [_figure(quantity, tier, took_ns)])

    async def _look_at_memory(self, life: _Life) -> None:
        engine = self.runtime.engine(life.replica_id, life.epoch)
        if engine is None:
            return
        with contextlib.suppress(EngineError):
            total, use = await engine.memory_bytes(), await engine.memory_use()
            parts = {Quantity.MEMORY: total}
            if use is not None:
                parts[Quantity.PROPORTIONAL] = use.proportional
                parts[Quantity.WEIGHTS] = use.weights
                parts[Quantity.PRIVATE] = use.private
                parts[Quantity.PROGRAM] = use.program
            if total:
                life.peak_bytes = life.kept_bytes = max(life.peak_bytes, total)
                figures = [_figure(name, Tier.RESIDENT, value) for name, value in parts.items()]
                await self._write(life, figures)

    def _keep_peak(self, life: _Life) -> None:
        if life.peak_bytes > life.kept_bytes:
            life.kept_bytes = life.peak_bytes
            figure = _figure(Quantity.MEMORY, Tier.RESIDENT, life.peak_bytes)
            self._later(self._write(life, [figure]))

    async def _write(self, life: _Life, figures: Sequence[Measurement]) -> None:
        await asyncio.to_thread(self.costs.keep_of, life.made, figures)

    def _later(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="remember a measurement")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _figure(quantity: Quantity, tier: Tier, value: int) -> Measurement:
    return Measurement(quantity, tier, value, time.time())
