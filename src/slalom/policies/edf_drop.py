"""`edf-drop`: earliest deadline first, and what cannot be on time is refused.

Owns the textbook answer to overload: firm deadlines, a cap on what runs, and no work for those that
are lost. A request is judged when its turn comes, not before: what it needs may still come free.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from slalom.core.planning import Observation, Plan, Planner, PlanView, Refuse, Start
from slalom.core.request import ModelSpec, Request
from slalom.policies.due import is_hopeless
from slalom.policies.places import Places

#: Most requests refused in one plan; the rest is looked at a nanosecond later.
_REFUSALS_MAX = 200


@dataclass(frozen=True, slots=True)
class EdfDrop:
    """`edf-drop`: earliest deadline first, refusing what is late or could not be on time alone.

    Firm-deadline EDF with a cap. "Alone" is the calibrated time of its prompt and its expected
    length on an idle engine; where nothing is calibrated, only what is late already is refused.
    """

    #: Attempts at a time on each replica; 0 for as many as it has places.
    window: int = 48

    def begin(self, models: Sequence[ModelSpec]) -> Planner:
        """Itself: it learns nothing."""
        return self

    def key(self, request: Request, default_deadline_ns: int) -> int:
        """The first instant at which an objective breaks."""
        return request.sla.first_deadline_ns(request.arrived_ns, default_ns=default_deadline_ns)

    def observe(self, seen: Observation, model: PlanView, now_ns: int) -> None:
        """Nothing to learn."""

    def plan(self, model: PlanView, now_ns: int) -> Plan:
        """Walk the queue while places are left: start or refuse."""
        places = Places(model, self.window)
        starts: list[Start] = []
        refusals: list[Refuse] = []
        for one in model.waiting(places.left + _REFUSALS_MAX):
            if not places.left:
                break
            request = one.request
            begun = one.first_token_ns >= 0
            if not begun and is_hopeless(request, model.spec, now_ns):
                refusals.append(Refuse(request.id, detail="late, or too late to be on time alone"))
            else:
                starts.append(Start(request.id, places.take_any()))
        unseen = model.waiting_count > len(starts) + len(refusals)
        look_ns = now_ns + 1 if places.left and unseen else -1
        return Plan(starts=starts, refusals=refusals, look_ns=look_ns)
