"""What an operator asks of a model: to load, wake, sleep, unload, pin or unpin it.

Owns the answer to each: it is begun, or refused with what it needs, what is free and who holds the
rest. What comes of it is told by the usual actions. Called by `transitions` and `lapsing`.
"""

from collections.abc import Callable

from slalom.core.actions import AskRefused, Reason, UnloadCause
from slalom.core.books import open_for_work
from slalom.core.ending import look_at_devices, touch, want_replica
from slalom.core.entities import Replica
from slalom.core.events import Ask, ModelAsked
from slalom.core.lapsing import watch
from slalom.core.leaving import may_sleep, order_away, unload
from slalom.core.placing import pin, unpin
from slalom.core.room import does_not_fit, most_room, pinned_rival, refuse_ask
from slalom.core.snapshot import ReplicaState
from slalom.core.state import Model
from slalom.core.step import Step
from slalom.core.wishes import StandingAsk


def on_model_asked(step: Step, event: ModelAsked) -> None:
    """Begin what was asked, or say why not."""
    state = step.state
    model = state.models.get(event.model)
    if model is None or model.retires_ns >= 0:  # it is on its way out
        state.counters["asks_refused"] += 1
        detail = f"there is no model {event.model}"
        step.actions.append(
            AskRefused(event.ask_id, event.model, event.what, Reason.UNKNOWN_MODEL, detail)
        )
        return
    state.counters[f"asks_{event.what.value}"] += 1
    if state.drain_deadline_ns >= 0:
        refuse_ask(step, model, event, Reason.DRAINING, "the server is shutting down")
        return
    _ASKS[event.what](step, model, event)


def _load(step: Step, model: Model, event: ModelAsked) -> None:
    """It comes up as if a request waited for it, for as long as a request may wait."""
    state = step.state
    if model.has_ready():
        return
    if (room := most_room(model)) < model.bytes_needed:
        refuse_ask(step, model, event, Reason.DOES_NOT_FIT, does_not_fit(model, room))
        return
    gave_up = model.failures >= step.params.load_failures_max
    if gave_up and state.now_ns < model.backoff_until_ns:
        refuse_ask(step, model, event, Reason.LOAD_BACKOFF, model.last_failure)
        return
    until_ns = state.now_ns + step.params.queue_timeout_ns
    older = model.wishes.ask
    if older is not None and older.ask_id:
        refuse_ask(step, model, older, Reason.ASKED_OTHERWISE, "it was asked for again")
    model.wishes.ask = StandingAsk(event.what, event.ask_id, until_ns)
    want_replica(state, model)
    watch(step, model)


def _wake(step: Step, model: Model, event: ModelAsked) -> None:
    if not model.is_resident() and not model.in_state(ReplicaState.ASLEEP, ReplicaState.SLEEPING):
        refuse_ask(step, model, event, Reason.NOT_ASLEEP, "it does not sleep: load it instead")
        return
    _load(step, model, event)


def _sleep(step: Step, model: Model, event: ModelAsked) -> None:
    if not _may_leave(step, model, event):
        return
    up = _in(model, ReplicaState.READY, ReplicaState.DRAINING)
    if not up and not model.in_state(ReplicaState.ASLEEP, ReplicaState.SLEEPING):
        refuse_ask(step, model, event, Reason.NOT_READY, "no replica of it is ready")
        return
    if up and not may_sleep(step, up[0]):
        detail = "its engine cannot sleep, or host memory has no place for it: unload it instead"
        refuse_ask(step, model, event, Reason.CANNOT_SLEEP, detail)
        return
    _forget_ask(step, model)
    for replica in up:
        order_away(step, replica, UnloadCause.ASKED, sleeps=True)
    touch(step.state, model)


def _unload(step: Step, model: Model, event: ModelAsked) -> None:
    """Everything of it goes; what comes up for waiting requests cannot be taken from them."""
    if not _may_leave(step, model, event):
        return
    moving = _in(model, ReplicaState.WAKING, ReplicaState.SLEEPING)
    if moving or (model.waiting_count and model.in_state(ReplicaState.LOADING)):
        detail = "it is on its way up or down: ask again when that is over"
        refuse_ask(step, model, event, Reason.MODEL_BUSY, detail)
        return
    _forget_ask(step, model)
    for replica in _in(model, ReplicaState.LOADING):
        unload(step, replica, UnloadCause.UNWANTED)
    for replica in _in(model, ReplicaState.ASLEEP):
        unload(step, replica, UnloadCause.ASKED)
    for replica in _in(model, ReplicaState.READY, ReplicaState.DRAINING):
        order_away(step, replica, UnloadCause.ASKED, sleeps=False)
    touch(step.state, model)


def _may_leave(step: Step, model: Model, event: ModelAsked) -> bool:
    if model.wishes.pinned:
        refuse_ask(step, model, event, Reason.PINNED, "it is pinned: unpin it first")
    return not model.wishes.pinned


def have_pinned(step: Step, model: Model, ask_id: str) -> None:
    """Pin a model that the configuration wants pinned; refused as an ask for it would be."""
    _pin(step, model, ModelAsked(model.spec.id, Ask.PIN, ask_id))


def _pin(step: Step, model: Model, event: ModelAsked) -> None:
    state = step.state
    if model.wishes.pinned:
        return
    everywhere = all(pinned_rival(model, device) for device in model.devices)
    if everywhere and (rival := pinned_rival(model, model.device)) is not None:
        detail = f"it must be apart from {rival.spec.id}, which is pinned"
        refuse_ask(step, model, event, Reason.DOES_NOT_FIT, detail)
        return
    if not pin(model):
        detail = does_not_fit(model, most_room(model))
        refuse_ask(step, model, event, Reason.DOES_NOT_FIT, detail)
        return
    model.wishes.pinned = True
    for replica in _in(model, ReplicaState.DRAINING):
        if replica.is_outdated:
            continue
        open_for_work(state, replica)
        touch(state, model)  # what waits may run there again
    if not model.is_resident():
        want_replica(state, model)
        model.device.wanting.move_to_end(model.spec.id, last=False)
    look_at_devices(state, model)


def _unpin(step: Step, model: Model, event: ModelAsked) -> None:  # noqa: ARG001 - as its like
    let_go(step, model)


def let_go(step: Step, model: Model) -> None:
    """Take back that a model is pinned."""
    if model.wishes.pinned:
        model.wishes.pinned = False
        unpin(model)
        look_at_devices(step.state, model)
        watch(step, model)


def _forget_ask(step: Step, model: Model) -> None:
    """A later word takes back that it is to be up."""
    for device in model.devices:
        device.recent.pop(model.spec.id, None)
    ask, model.wishes.ask = model.wishes.ask, None
    if ask is not None and ask.ask_id:
        refuse_ask(step, model, ask, Reason.ASKED_OTHERWISE, "a later word took it back")


def _in(model: Model, *states: ReplicaState) -> list[Replica]:
    return [one for one in model.replicas.values() if one.state in states]


_ASKS: dict[Ask, Callable[[Step, Model, ModelAsked], None]] = {
    Ask.LOAD: _load,
    Ask.WAKE: _wake,
    Ask.SLEEP: _sleep,
    Ask.UNLOAD: _unload,
    Ask.PIN: _pin,
    Ask.UNPIN: _unpin,
}
