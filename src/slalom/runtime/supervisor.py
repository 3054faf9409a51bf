"""Brings replicas up and down, puts them to sleep and wakes them, and watches those that live.

Owns one task for each life of a replica: launch, measure, watch, stop. Decides nothing: it does
what `LoadReplica`, `SleepReplica`, `WakeReplica` and `UnloadReplica` ask and reports what happens,
fenced by the epoch. Every life it is told to begin ends in exactly one `ReplicaGone`.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from slalom.clock import Clock
from slalom.core.actions import (
    LoadReplica,
    SleepReplica,
    UnloadCause,
    UnloadReplica,
    WakeReplica,
)
from slalom.core.events import (
    Event,
    FailureKind,
    LoadProgress,
    MemorySampled,
    ReplicaAsleep,
    ReplicaFailed,
    ReplicaGone,
    ReplicaReady,
)
from slalom.engines.launching import launched
from slalom.engines.protocol import Engine, Launcher
from slalom.errors import EngineError, SlalomError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WatchParams:
    """How closely living replicas are watched."""

    #: Between two health checks, s.
    health_every_s: float = 2.0
    #: Health checks that fail in a row before a replica counts as hung.
    health_failures_max: int = 3
    #: Between two memory measurements, s.
    memory_every_s: float = 5.0
    #: Time a replica gets to end politely, s; a failed one gets none.
    stop_grace_s: float = 5.0


#: By model, or by model and device.
Launchers = Mapping[str | tuple[str, str], Launcher]
#: Given a model's id, says for people who holds the memory that it did not get.
ExplainMemory = Callable[[str], Awaitable[str]]
#: Longest wait for that, s.
_EXPLAIN_S = 15.0


@dataclass(slots=True, eq=False)
class _Life:
    """One life of a replica."""

    replica_id: str
    epoch: int
    task: "asyncio.Task[None] | None" = None
    engine: Engine | None = None
    unload_asked: asyncio.Event = field(default_factory=asyncio.Event)
    cause: UnloadCause = UnloadCause.SHUTDOWN
    #: Falls asleep or wakes.
    nap: "asyncio.Task[None] | None" = None

    @property
    def is_moving(self) -> bool:
        """Whether it falls asleep or wakes."""
        return self.nap is not None and not self.nap.done()


class Supervisor:
    """The lives of all replicas of this process.

    Args:
        launchers: By model id; for a device that a model may have besides its first, by the pair
            of model id and device.
        post: Takes events for the scheduler, in order.
        clock: Stamps measurements.
        params: How closely to watch.
    """

    def __init__(
        self,
        launchers: "Launchers",
        post: Callable[..., None],
        clock: Clock,
        params: WatchParams,
    ) -> None:
        self._launchers = dict(launchers)
        self._post = post
        self._clock = clock
        self._params = params
        self._lives: dict[tuple[str, int], _Life] = {}
        #: Asked where a load dies of memory; also looks anew at who holds it.
        self.explain_memory: ExplainMemory | None = None

    def __repr__(self) -> str:
        return f"Supervisor(lives={len(self._lives)})"

    def engine(self, replica_id: str, epoch: int) -> Engine | None:
        """The engine of a ready life, or None."""
        life = self._lives.get((replica_id, epoch))
        return life.engine if life else None

    def launch_by(self, launchers: Launchers) -> None:
        """Launch these models by these from now on; what lives is left alone."""
        self._launchers.update(launchers)

    def move(self, action: LoadReplica | UnloadReplica | SleepReplica | WakeReplica) -> None:
        """Begin what a replica is to do."""
        match action:
            case LoadReplica():
                self.load(action)
            case UnloadReplica():
                self.unload(action)
            case SleepReplica():
                self.sleep(action)
            case WakeReplica():
                self.wake(action)

    def load(self, action: LoadReplica) -> None:
        """Begin a life."""
        life = _Life(action.replica_id, action.epoch)
        self._lives[action.replica_id, action.epoch] = life
        life.task = asyncio.get_running_loop().create_task(
            self._live(life, self._launcher(action)), name=f"replica {action.replica_id}"
        )

    def _launcher(self, action: LoadReplica) -> Launcher:
        there = self._launchers.get((action.model, action.device))
        return there or self._launchers[action.model]

    def unload(self, action: UnloadReplica) -> None:
        """End a life; one that is already over is reported gone again."""
        life = self._lives.get((action.replica_id, action.epoch))
        if life is None:
            self._post(ReplicaGone(action.replica_id, action.epoch))
            return
        life.cause = action.cause
        life.unload_asked.set()

    def sleep(self, action: SleepReplica) -> None:
        """Let a life fall asleep."""
        self._begin_nap(action, lambda engine: engine.sleep(action.level))

    def wake(self, action: WakeReplica) -> None:
        """Wake a life that sleeps."""
        self._begin_nap(action, lambda engine: engine.wake())

    def _begin_nap(
        self, action: SleepReplica | WakeReplica, move: Callable[[Engine], Awaitable[None]]
    ) -> None:
        """Do it beside the life's own task; a life that is over needs neither."""
        life = self._lives.get((action.replica_id, action.epoch))
        if life is not None and life.engine is not None:
            life.nap = asyncio.get_running_loop().create_task(
                self._nap(life, life.engine, action, move), name=f"replica {life.replica_id} nap"
            )

    async def _nap(
        self,
        life: _Life,
        engine: Engine,
        action: SleepReplica | WakeReplica,
        move: Callable[[Engine], Awaitable[None]],
    ) -> None:
        try:
            await move(engine)
            measured = await engine.memory_bytes()
        except SlalomError as error:
            self._failed(life, _kind_of(error, FailureKind.ENGINE_ERROR), str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the bytes must come back
            _log.exception("replica %s: its driver failed", life.replica_id)
            self._failed(life, FailureKind.ENGINE_ERROR, f"internal error: {error!r}")
        else:
            if isinstance(action, SleepReplica):
                self._post(ReplicaAsleep(life.replica_id, life.epoch, action.turn, measured))
            else:
                self._post(ReplicaReady(life.replica_id, life.epoch, measured, action.turn))

    async def stop_all(self) -> None:
        """End every life at once and wait until the last is over; for an exit without a drain."""
        lives = list(self._lives.values())
        for life in lives:
            life.cause = UnloadCause.FAILED
            life.unload_asked.set()
        await asyncio.gather(*(life.task for life in lives if life.task), return_exceptions=True)

    async def _live(self, life: _Life, launcher: Launcher) -> None:
        try:
            life.engine = await self._launch(life, launcher)
            if life.engine is not None:
                await self._watch(life, life.engine)
            await life.unload_asked.wait()
            await _break_off(life.nap)
            if life.engine is not None:
                engine, life.engine = life.engine, None
                polite = life.cause is not UnloadCause.FAILED
                await engine.stop(self._params.stop_grace_s if polite else 0.0)
        except Exception as error:  # noqa: BLE001 - whatever it is, the bytes must come back
            _log.exception("replica %s: its driver failed", life.replica_id)
            self._failed(life, FailureKind.START_FAILED, f"internal error: {error!r}")
            if life.engine is not None:
                await life.engine.stop(0.0)
            await life.unload_asked.wait()
        finally:
            del self._lives[life.replica_id, life.epoch]
            self._post(ReplicaGone(life.replica_id, life.epoch))

    async def _launch(self, life: _Life, launcher: Launcher) -> Engine | None:
        """Launch, unless an unload comes first; None if there is no engine to stop."""

        def on_progress(fraction: float) -> None:
            self._post(LoadProgress(life.replica_id, life.epoch, fraction))

        try:
            launch = launcher.launch(life.replica_id, on_progress)
            engine = await launched(launch, life.unload_asked)
        except SlalomError as error:
            kind = _kind_of(error, FailureKind.START_FAILED)
            self._failed(life, kind, str(error) + await self._whose_memory(life, kind))
            return None
        if engine is not None and not life.unload_asked.is_set():
            measured = await engine.memory_bytes()
            life.engine = engine
            self._post(ReplicaReady(life.replica_id, life.epoch, measured))
        return engine

    async def _whose_memory(self, life: _Life, kind: FailureKind) -> str:
        """Who holds what a load did not get, as the end of an error; empty if nobody knows."""
        if kind is not FailureKind.OUT_OF_MEMORY or self.explain_memory is None:
            return ""
        try:
            async with asyncio.timeout(_EXPLAIN_S):
                return "; " + await self.explain_memory(life.replica_id.rpartition("#")[0])
        except Exception:  # noqa: BLE001 - the load's own failure is what must be told
            _log.exception("replica %s: cannot say who holds its memory", life.replica_id)
            return ""

    async def _watch(self, life: _Life, engine: Engine) -> None:
        """Watch until an unload is asked for or something is wrong."""
        watches = [
            asyncio.ensure_future(life.unload_asked.wait()),
            asyncio.ensure_future(self._watch_process(life, engine)),
            asyncio.ensure_future(self._watch_health(life, engine)),
            asyncio.ensure_future(self._watch_memory(life, engine)),
        ]
        try:
            await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)

    async def _watch_process(self, life: _Life, engine: Engine) -> None:
        self._failed(life, FailureKind.CRASHED, await engine.wait_closed())

    async def _watch_health(self, life: _Life, engine: Engine) -> None:
        failures = 0
        while failures < self._params.health_failures_max:
            await asyncio.sleep(self._params.health_every_s)
            failures = 0 if await engine.health() or life.is_moving else failures + 1
        self._failed(life, FailureKind.STALLED, f"it failed {failures} health checks in a row")

    async def _watch_memory(self, life: _Life, engine: Engine) -> None:
        while True:
            await asyncio.sleep(self._params.memory_every_s)
            with contextlib.suppress(EngineError):
                measured = await engine.memory_bytes()
                now_ns = self._clock.now_ns()
                if measured:
                    self._post(MemorySampled(life.replica_id, life.epoch, measured, now_ns))

    def _failed(self, life: _Life, kind: FailureKind, detail: str) -> None:
        event: Event = ReplicaFailed(life.replica_id, life.epoch, kind, detail)
        self._post(event)


def _kind_of(error: SlalomError, otherwise: FailureKind) -> FailureKind:
    return FailureKind(error.code) if error.code in set(FailureKind) else otherwise


async def _break_off(nap: "asyncio.Task[None] | None") -> None:
    """End a sleep or a wake whose replica is unloaded meanwhile."""
    if nap is not None:
        nap.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await nap
