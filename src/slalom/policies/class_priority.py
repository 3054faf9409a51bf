"""`class-priority`: the more urgent class first, in the queue and inside the engine.

Owns what operators do with priorities: classes in a fixed order, first come first served within a
class. Engines that know priorities (vLLM's `--scheduling-policy priority`) get the class as one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from slalom.core.planning import Observation, Plan, Planner, PlanView, Start
from slalom.core.request import ModelSpec, Request
from slalom.policies.places import Places
from slalom.units import MS

#: Class of a request without objectives for its first token or its end, ms.
_NEVER_MS = 1 << 31
#: Arrivals lie below it, ns: two thousand years.
_CLASS_SPAN = 1 << 66


@dataclass(frozen=True, slots=True)
class ClassPriority:
    """`class-priority`: the class with the tightest objective first, arrivals in order within it.

    A request's class is its tightest objective for the first token or the end. With `in_engine`
    it is the engine's priority too (less is more urgent), and the engine does the ordering.
    """

    #: Attempts at a time on each replica; 0 for as many as it has places.
    window: int = 0
    #: Whether the engine is told the class as a priority.
    in_engine: bool = True

    def begin(self, models: Sequence[ModelSpec]) -> Planner:
        """Itself: it learns nothing."""
        return self

    def key(self, request: Request, default_deadline_ns: int) -> int:
        """The class, then the arrival; only the queue's time-out bounds how long one waits."""
        return class_ms(request) * _CLASS_SPAN + request.arrived_ns

    def observe(self, seen: Observation, model: PlanView, now_ns: int) -> None:
        """Nothing to learn."""

    def plan(self, model: PlanView, now_ns: int) -> Plan:
        """Start the most urgent while places are left."""
        places = Places(model, self.window)
        return Plan(
            starts=[
                Start(
                    one.request.id,
                    places.take_any(),
                    priority=class_ms(one.request) if self.in_engine else 0,
                )
                for one in model.waiting(places.left)
            ]
        )


def class_ms(request: Request) -> int:
    """Its tightest objective for the first token or the end, whole ms."""
    sla = request.sla
    limits = [limit for limit in (sla.ttft_ns, sla.e2e_ns) if limit is not None]
    return min(min(limits) // MS, _NEVER_MS) if limits else _NEVER_MS
