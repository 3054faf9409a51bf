"""What the tests of planners share: a planner that follows a script, and a world in which it plans.

Owns builders. Schedulers are watched from inside and outside, as in `stories`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from slalom.core.actions import EndRequest
from slalom.core.events import (
    AttemptFailed,
    AttemptFinished,
    FailureKind,
    RequestArrived,
)
from slalom.core.params import SchedulerParams
from slalom.core.planning import (
    Observation,
    Plan,
    Planner,
    PlanView,
)
from slalom.core.request import ModelSpec
from slalom.policies.registry import policies
from slalom.testing.recorder import Recorder
from slalom.testing.scripted_planner import start_all
from tests.core.stories import (
    arrive,
    model,
    ready,
    request,
    watched,
)


@dataclass
class Script:
    """A planner that does what it is told next, then starts whatever fits."""

    #: Plans for the coming calls; after them, or where there is None, everything starts.
    plans: list[Plan | None] = field(default_factory=list)
    asked: list[tuple[str, int]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    views: list[Callable[[], Any]] = field(default_factory=list)

    def begin(self, models: Sequence[ModelSpec]) -> Planner:
        return self

    def observe(self, seen: Observation, model: PlanView, now_ns: int) -> None:
        whole = " whole" if seen.finished else ""
        self.told.append(f"{seen.moment} {seen.request.id}{whole}")

    def plan(self, model: PlanView, now_ns: int) -> Plan:
        self.asked.append((model.spec.id, now_ns))
        chosen = self.plans.pop(0) if self.plans else None
        return Plan(starts=start_all(model)) if chosen is None else chosen


def planned(
    script: object, *models: ModelSpec, params: SchedulerParams | None = None, **other: object
) -> Recorder:
    """A watched scheduler with this planner; model `a` is up, and nothing runs."""
    chosen = replace(policies(ordering="fcfs"), admission=script)  # type: ignore[arg-type]
    story = watched(*models, policies=chosen, params=params, **other)  # type: ignore[arg-type]
    for spec in models or (model(),):
        arrive(story, f"warm-{spec.id}", of=spec.id)
    ready(story)
    for spec in models or (model(),):
        story.tell(AttemptFinished(f"warm-{spec.id}", 1, 1))
    if isinstance(script, Script):
        script.asked.clear()
        script.told.clear()
    return story


def resumable(name: str, at_ns: int = 0) -> RequestArrived:
    return RequestArrived(replace(request(name, at_ns=at_ns), resumable=True))


def end_of(story: Recorder, name: str) -> EndRequest:
    (end,) = [end for end in story.actions(EndRequest) if end.request_id == name]
    return end


def aborted(name: str, tokens: int = 0, attempt: int = 1) -> AttemptFailed:
    return AttemptFailed(name, attempt, FailureKind.ABORTED, tokens > 0, tokens)
