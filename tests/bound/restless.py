"""A planner that pauses whenever it may: if pausing could beat the bound, this one would.

Owns no judgement. Starts all it can, and each time it looks breaks off what has run longest, up
to twice for each request.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from slalom.core.planning import Observation, Plan, Planner, PlanView
from slalom.core.request import ModelSpec
from slalom.testing.scripted_planner import start_all
from slalom.units import MS


@dataclass(frozen=True, slots=True)
class Restless:
    """Its options."""

    every_ns: int = 10 * MS
    pauses_max: int = 2

    def begin(self, models: Sequence[ModelSpec]) -> Planner:
        """A planner that has paused nothing yet."""
        return _Restless(self)


class _Restless:
    def __init__(self, options: Restless) -> None:
        self._options = options

    def observe(self, seen: Observation, model: PlanView, now_ns: int) -> None:
        """Learn nothing."""

    def plan(self, model: PlanView, now_ns: int) -> Plan:
        pauses = [
            attempt.request.id
            for replica in model.ready()
            for attempt in replica.active()
            if attempt.request.resumable
            and attempt.first_ns >= 0
            and not attempt.leaving
            and attempt.pauses < self._options.pauses_max
        ]
        return Plan(
            starts=start_all(model), pauses=pauses[:1], look_ns=now_ns + self._options.every_ns
        )
