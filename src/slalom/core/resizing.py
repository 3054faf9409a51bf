"""Reconcile pass: ask the scaling policy how many replicas each model is to have, and see to it.

Owns the asking on a timer, and who leaves where there are too many. What is missing is brought up
by `growing`, into free memory only. Nothing is asked while nothing lives and nobody leans: a
scheduler at rest sets no timer. Called by `timing`.
"""

from collections.abc import Iterator

from slalom.core.actions import SizeDecided, UnloadCause
from slalom.core.ending import look_at_devices
from slalom.core.entities import Replica
from slalom.core.giving_way import residency_ns
from slalom.core.lapsing import watch
from slalom.core.leaving import may_sleep, order_away
from slalom.core.placing import settle
from slalom.core.sizing import UNSIZED, Fleetwide, Size
from slalom.core.snapshot import ReplicaState
from slalom.core.state import Model
from slalom.core.step import Step


def resize_due(step: Step) -> None:
    """Ask, if it is time to."""
    state, every_ns = step.state, step.policies.scaling.every_ns
    if not state.is_sized or state.drain_deadline_ns >= 0:
        state.resize_ns = -1
        return
    if state.resize_ns < 0 and state.requests:
        state.resize_ns = max(state.resized_ns + every_ns, state.now_ns)
    if not 0 <= state.resize_ns <= state.now_ns:
        return
    restless, said = bool(state.requests), len(step.actions)
    for model, answer in _answers(step):
        restless = _resize(step, model, answer) or restless
    if restless or len(step.actions) > said:
        # A look of which nothing came is in no journal: a replay would look later than that.
        state.resized_ns = state.now_ns
    state.resize_ns = state.now_ns + every_ns if restless else -1


def _answers(step: Step) -> Iterator[tuple[Model, Size]]:
    """Ask for all models at once, or for one after the other."""
    state, scaling = step.state, step.policies.scaling
    models = [model for model in state.models.values() if model.retires_ns < 0]
    if isinstance(scaling, Fleetwide):
        found = scaling.sizes(models, state.now_ns)
        yield from ((model, found[model.spec.id]) for model in models if model.spec.id in found)
        return
    for model in models:
        yield model, scaling.size(model, state.now_ns)


def _resize(step: Step, model: Model, answer: Size) -> bool:
    """Act on an answer; whether to ask again though nothing happens."""
    state, sizing = step.state, model.sizing
    sizing.lean(answer.leaning, state.now_ns)
    size = min(max(answer.replicas, 0), model.spec.replicas)
    if model.waiting_count or model.running_count() or model.wishes.stays:
        size = max(size, 1)
    if model.wishes.pinned:
        size = max(size, model.up_count())
    if size != sizing.size:
        was = max(sizing.size, 0) if sizing.size != UNSIZED else model.up_count()
        sizing.resize(size, state.now_ns)
        state.counters["resizes"] += 1
        step.actions.append(SizeDecided(model.spec.id, size, was))
        watch(step, model)
    surplus = model.up_count() - size
    if surplus < 0:
        state.short[model.spec.id] = model
        if model.spec.id not in model.device.wanting:
            settle(model, grows=True)
            model.device.growing[model.spec.id] = model
        state.dirty[model.device.spec.id] = model.device
        return answer.leaning != 0
    state.short.pop(model.spec.id, None)
    left = surplus - send_away(step, model, surplus) if surplus else 0
    return left > 0 or answer.leaning != 0


def send_away(step: Step, model: Model, count: int) -> int:
    """Let so many replicas leave, if they may: the idlest first, of equals the youngest.

    Returns:
        How many leave.
    """
    grown_ns = step.state.now_ns - residency_ns(step)
    loading = [one for one in model.replicas.values() if one.state is ReplicaState.LOADING]
    if loading:  # those that nobody waits for are cancelled
        look_at_devices(step.state, model)
    ready = [
        one
        for one in model.replicas.values()
        if one.state is ReplicaState.READY and one.ready_ns <= grown_ns
    ]
    ready.sort(key=_idlest_first)
    leaving = ready[:count]
    for replica in leaving:
        sleeps = not replica.running and may_sleep(step, replica)
        order_away(step, replica, UnloadCause.SCALED, sleeps=sleeps)
        step.state.counters["scaled_down"] += 1
    return len(leaving)


def _idlest_first(one: Replica) -> tuple[int, int, str]:
    return (len(one.running), -one.ready_ns, one.id)
