"""Brings fake engines up, in scripted time or not at all.

Owns how long a load takes, what progress it tells and how it fails. Called by tests.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from slalom.core.events import FailureKind
from slalom.errors import EngineError
from slalom.testing.fake_engine import FakeEngine
from slalom.testing.fake_script import FakeScript
from slalom.units import SECOND


@dataclass(frozen=True, slots=True)
class FakeLoad:
    """How one load goes."""

    duration_ns: int = 0
    #: Reports of progress on the way.
    steps: int = 4
    #: How it fails at its end, or None.
    failure: FailureKind | None = None


@dataclass(eq=False, slots=True)
class FakeLauncher:
    """A `Launcher` of fake engines.

    Args:
        script: How the engines behave; a function of the load's number (from 1) where they
            differ.
        load: How loads go; the same.
    """

    script: FakeScript | Callable[[int], FakeScript] = field(default_factory=FakeScript)
    load: FakeLoad | Callable[[int], FakeLoad] = FakeLoad()
    model_name: str = "fake"
    #: Replica ids in the order of their launches, and the engines that came up.
    launches: list[str] = field(default_factory=list)
    engines: list[FakeEngine] = field(default_factory=list)
    #: Launches that were cancelled.
    cancelled: int = 0

    async def launch(self, replica_id: str, on_progress: Callable[[float], None]) -> FakeEngine:
        """Take the scripted time, then fail or come up."""
        self.launches.append(replica_id)
        number = len(self.launches)
        load = self.load(number) if callable(self.load) else self.load
        script = self.script(number) if callable(self.script) else self.script
        loop = asyncio.get_running_loop()
        start_ns = round(loop.time() * SECOND)
        try:
            for step in range(load.steps):
                on_progress(step / load.steps)
                due_ns = start_ns + load.duration_ns * (step + 1) // load.steps
                await asyncio.sleep(max(0.0, due_ns / SECOND - loop.time()))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if load.failure is not None:
            raise EngineError(
                f"{replica_id}: the fake engine was told to fail its load ({load.failure})",
                code=load.failure,
                retryable=load.failure is not FailureKind.MODEL_UNUSABLE,
            )
        on_progress(1.0)
        engine = FakeEngine(script, model_name=self.model_name)
        self.engines.append(engine)
        return engine
