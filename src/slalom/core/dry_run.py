"""What bringing a model up would take now: who would give way, and why; nothing is changed.

Owns the question alone: the real keeper is asked through the real rules, and what they note on the
way is put back. Called through `Scheduler.plan`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from slalom.core.actions import Candidate, EvictionDecided, Holder
from slalom.core.giving_way import choose_victims
from slalom.core.placing import settle
from slalom.core.room import does_not_fit, rivals, room_for
from slalom.core.state import Model
from slalom.core.step import Step


@dataclass(frozen=True, slots=True)
class ResidencyPlan:
    """What a load or a wake would take, as of the last `handle`."""

    model: str
    device: str
    #: It is up, or coming up: nothing would have to be done.
    resident: bool
    #: Whether it can ever fit beside what is pinned.
    fits: bool
    #: Whether it sleeps, so that it would be woken.
    asleep: bool
    needed_bytes: int
    free_bytes: int
    #: Bytes that will come free by what leaves already.
    leaving_bytes: int
    #: Bytes that others would have to give.
    shortfall_bytes: int
    #: Who would give way; empty where nobody must, or nobody may.
    victims: tuple[str, ...] = ()
    #: What the policy thought of everyone it looked at.
    candidates: tuple[Candidate, ...] = ()
    #: How long the request would wait before they are told to, ns; -1 if nobody can give way now.
    patience_ns: int = 0
    #: Expected duration of the load or wake itself, ns; 0 where nobody knows.
    takes_ns: int = 0
    holders: tuple[Holder, ...] = ()
    #: For people: why it does not fit.
    detail: str = ""


def plan_residency(step: Step, model: Model) -> ResidencyPlan:
    """Ask who would give way to a model if a request for it came now."""
    home = model.device
    if not model.is_resident() and model.spec.id not in home.wanting:
        settle(model)
    try:
        return _plan_on_its_device(step, model)
    finally:
        model.device = home


def _plan_on_its_device(step: Step, model: Model) -> ResidencyPlan:
    device, sleeper = model.device, model.sleeper()
    room = room_for(model)
    fits = room >= model.bytes_needed
    shortfall = max(model.bytes_to_add - device.free_bytes - device.leaving_bytes(), 0)
    plan = ResidencyPlan(
        model=model.spec.id,
        device=device.spec.id,
        resident=model.is_resident(),
        fits=fits,
        asleep=sleeper is not None,
        needed_bytes=model.bytes_to_add,
        free_bytes=device.free_bytes,
        leaving_bytes=device.leaving_bytes(),
        shortfall_bytes=shortfall,
        takes_ns=model.load_ns if sleeper is None else sleeper.wake_ns,
        holders=tuple(
            Holder(one.id, one.booked_bytes, one.state.value) for one in device.replicas.values()
        ),
        detail="" if fits else does_not_fit(model, room),
    )
    if plan.resident or not fits:
        return replace(plan, shortfall_bytes=0 if plan.resident else shortfall)
    foes = tuple(one.id for one in rivals(model))
    if not shortfall:
        return replace(plan, victims=foes)
    params = step.params
    for waited_ns in (
        0,
        params.swap_patience_ns,
        max(params.swap_hold_ns, params.swap_patience_ns),
    ):
        decision = _decide(step, model, shortfall, waited_ns)
        if decision is not None:
            victims = tuple(dict.fromkeys((*foes, *decision.victims)))
            return replace(
                plan, victims=victims, candidates=decision.candidates, patience_ns=waited_ns
            )
    return replace(plan, patience_ns=-1)


def _decide(step: Step, model: Model, shortfall: int, waited_ns: int) -> EvictionDecided | None:
    """What would be decided if the need had lasted for so long."""
    with _put_back(step, model):
        model.wanted_ns = step.state.now_ns - waited_ns
        aside = Step(step.state, step.params, step.policies, step.keeper, [])
        choose_victims(aside, model, shortfall)
    return next((one for one in aside.actions if isinstance(one, EvictionDecided)), None)


@contextmanager
def _put_back(step: Step, model: Model) -> Iterator[None]:
    """Undo what asking leaves behind."""
    noted = (model.wanted_ns, model.held_until_ns)
    sleeps = [(one, one.sleeps) for one in model.device.replicas.values()]
    counters = step.state.counters.copy()
    try:
        yield
    finally:
        model.wanted_ns, model.held_until_ns = noted
        step.state.counters = counters
        for replica, flag in sleeps:
            replica.sleeps = flag
