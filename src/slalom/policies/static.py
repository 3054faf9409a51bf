"""`static`: a fixed number at a time, first come first served.

Owns the baseline of every published comparison: an engine with a fixed batch size in front of a
plain queue (vLLM's `max_num_seqs`, llama.cpp's slots). Nothing is refused and nothing overtaken.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from slalom.core.planning import Observation, Plan, Planner, PlanView, Start
from slalom.core.request import ModelSpec, Request
from slalom.policies.places import Places


@dataclass(frozen=True, slots=True)
class Static:
    """`static`: so many at a time on each replica, first come first served.

    What an engine's batch size does by itself; SABER's baseline (arXiv 2506.19677).
    """

    #: Attempts at a time on each replica; 0 for as many as it has places.
    window: int = 0

    def begin(self, models: Sequence[ModelSpec]) -> Planner:
        """Itself: it learns nothing."""
        return self

    def key(self, request: Request, default_deadline_ns: int) -> int:
        """The scheduled arrival."""
        return request.arrived_ns

    def observe(self, seen: Observation, model: PlanView, now_ns: int) -> None:
        """Nothing to learn."""

    def plan(self, model: PlanView, now_ns: int) -> Plan:
        """Start the oldest while places are left."""
        places = Places(model, self.window)
        waiting = model.waiting(places.left)
        return Plan(starts=[Start(one.request.id, places.take()) for one in waiting])
