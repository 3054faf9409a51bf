"""Runs one engine on the machine it was sent to, for a core that may be on another one.

Owns the engine's process through an ordinary launcher, and its lease: an engine that no core asks
about any more ends by itself. Knows no Ray: an actor holds one of these (`ray_engines`), and so do
the tests.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from slalom.assembly.launchers import launcher_for
from slalom.core.events import FailureKind
from slalom.engines.http_engine import HttpEngine
from slalom.engines.launching import launched
from slalom.engines.memory_use import MemoryUse
from slalom.engines.protocol import Launcher
from slalom.errors import EngineError, SlalomError
from slalom.fleet.engine_facts import EngineFacts, EngineOrder, Launched
from slalom.fleet.loop_thread import LoopThread

_log = logging.getLogger(__name__)

#: Between two looks at the lease, s.
_LEASE_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where an engine's host runs."""

    #: Address at which others reach it, and by which the engine listens.
    host: str = "127.0.0.1"
    node: str = ""
    #: Indices of the GPUs that it was given; none where it was given none, or none has a number.
    gpus: tuple[int, ...] = ()


class EngineHost:
    """The host of one engine; every method may be called from any thread and blocks.

    Args:
        order: What to run.
        place: Where this is.
        on_lapse: Called when nobody has asked for anything for the length of the lease.
        launcher: In place of the order's own, for tests.
    """

    def __init__(
        self,
        order: EngineOrder,
        place: Place,
        on_lapse: Callable[[], None] | None = None,
        launcher: Launcher | None = None,
    ) -> None:
        self._order = order
        self._place = place
        self._on_lapse = on_lapse
        self._launcher = launcher
        self._thread = LoopThread(f"engine {order.model.id}")
        self._engine: HttpEngine | None = None
        self._fraction = 0.0
        self._asleep = False
        self._is_launching = False
        self._heard_s = time.monotonic()
        self._stop_asked = asyncio.Event()
        self._thread.start(self._watch_lease())

    def __repr__(self) -> str:
        return f"<EngineHost {self._order.name} {self._engine!r}>"

    def launch(self) -> Launched:
        """Bring the engine up; returns when it serves or has failed."""
        self._is_launching = True
        try:
            return Launched(self._thread.call(self._launch()))
        except EngineError as error:
            return Launched.failed(error)
        except SlalomError as error:  # the model is not on this machine
            return Launched(None, str(error), FailureKind.MODEL_UNUSABLE, retryable=False)
        finally:
            self._hear()
            self._is_launching = False

    def progress(self) -> float:
        """How far the launch is, 0.0 to 1.0."""
        self._hear()
        return self._fraction

    def facts(self) -> EngineFacts | None:
        """The engine; None unless it runs."""
        self._hear()
        engine = self._engine
        if engine is None or engine.process is None or engine.process.returncode is not None:
            return None
        return self._facts(engine)

    def memory_bytes(self) -> int:
        """Memory of its processes."""
        self._hear()
        return 0 if self._engine is None else self._thread.call(self._engine.memory_bytes())

    def memory_use(self) -> MemoryUse | None:
        """What that memory is made of."""
        self._hear()
        return None if self._engine is None else self._thread.call(self._engine.memory_use())

    def note_asleep(self, *, asleep: bool) -> None:
        """A core has put it to sleep, or woken it."""
        self._hear()
        self._asleep = asleep

    def wait_closed(self, most_s: float) -> str | None:
        """Wait until the engine has ended, and say what it said last; None if it still runs then.

        Bounded, since whoever waits may be gone long before the engine is.
        """
        engine = self._engine
        if engine is None:
            return ""
        try:
            return self._thread.call(engine.wait_closed(), most_s)
        except TimeoutError:
            return None

    def stop(self, grace_s: float) -> None:
        """End the engine, also one that comes up; returns when its memory is free."""
        self._thread.call(self._stop(grace_s))

    async def _launch(self) -> EngineFacts:
        launcher = self._launcher
        if launcher is None:
            launcher = await asyncio.to_thread(self._make_launcher)
        launch = launcher.launch(self._order.name, self._note_progress)
        engine = await launched(launch, self._stop_asked)
        if engine is None:
            raise EngineError(
                f"{self._order.name}: ended while it came up", code=FailureKind.START_FAILED
            )
        if not isinstance(engine, HttpEngine):
            raise EngineError(
                f"{self._order.name}: only engines behind HTTP can have a host of their own",
                code=FailureKind.START_FAILED,
            )
        self._engine = engine
        return self._facts(engine)

    def _make_launcher(self) -> Launcher:
        order, place = self._order, self._place
        made, _ = launcher_for(
            order.model,
            tokens_max=order.tokens_max,
            gpu=order.device.gpu,
            gpus=place.gpus,
            host=place.host,
        )
        return made

    async def _stop(self, grace_s: float) -> None:
        self._stop_asked.set()
        if self._engine is not None:
            await self._engine.stop(grace_s)

    def _facts(self, engine: HttpEngine) -> EngineFacts:
        return EngineFacts(
            model=self._order.model.id,
            device=self._order.device.id,
            fingerprint=self._order.fingerprint,
            base_url=engine.upstream.where,
            headers=engine.upstream.headers,
            model_name=engine.model_name,
            capabilities=engine.capabilities,
            health_path=engine.health_path,
            metrics_path=engine.metrics_path,
            sleep_paths=engine.sleep_paths,
            node=self._place.node,
            pid=os.getpid(),
            engine_pid=engine.process.pid if engine.process is not None else 0,
            asleep=self._asleep,
        )

    def _note_progress(self, fraction: float) -> None:
        self._fraction = max(self._fraction, fraction)

    def _hear(self) -> None:
        self._heard_s = time.monotonic()

    def _lease_left_s(self) -> float:
        """Seconds until it lapses; a launch has a bound of its own."""
        if self._is_launching:
            return self._order.lease_s
        return max(self._heard_s + self._order.lease_s - time.monotonic(), 0.0)

    async def _watch_lease(self) -> None:
        order = self._order
        for left_s in iter(self._lease_left_s, 0.0):
            await asyncio.sleep(min(left_s, _LEASE_EVERY_S))
        _log.warning("%s: no core has asked for it for %g s", order.name, order.lease_s)
        await self._stop(0.0)
        if self._on_lapse is not None:
            self._on_lapse()
