"""What a reload of the configuration does to models: they come, change or go, all others are left.

Owns the transition of `ConfigChanged`, and the pass that ends a model which was taken away once
nothing of it waits or runs. Replicas leave as any other does (`leaving`), pins are asked for as an
operator would. Called by `transitions` and `scheduler`.
"""

import heapq
from collections import OrderedDict
from collections.abc import Iterable

from slalom.core.actions import Outcome, Reason, UnloadCause
from slalom.core.asking import have_pinned, let_go
from slalom.core.device import UNKNOWN, Device
from slalom.core.ending import end, look_at_devices, touch, want_replica
from slalom.core.entities import Replica
from slalom.core.events import Ask, ConfigChanged
from slalom.core.following import FollowsModels
from slalom.core.lapsing import watch
from slalom.core.leaving import order_away, unload
from slalom.core.request import ModelSpec, Swap
from slalom.core.resizing import send_away
from slalom.core.room import refuse_ask
from slalom.core.sizing import Sizing
from slalom.core.snapshot import ReplicaState
from slalom.core.state import Model, State
from slalom.core.step import Step
from slalom.core.wishes import StandingAsk

#: What of a model only the scheduler heeds: its replicas need not change for it.
ADJUSTABLE = frozenset(
    {
        "replicas",
        "pinned",
        "swap",
        "idle_sleep_ns",
        "idle_unload_ns",
        "preload",
        "apart",
        "hold_ns",
        "load_ns",
        "wake_ns",
        "deep_wake_ns",
        "step_cost",
    }
)
#: States that a replica ends without: it serves nobody.
_SERVES = (ReplicaState.READY, ReplicaState.DRAINING)


def on_config_changed(step: Step, event: ConfigChanged) -> None:
    """Let models come, change and go."""
    state = step.state
    state.counters["reloads"] += 1
    for name in event.removed:
        if (gone := state.models.get(name)) is not None:
            _retire(step, gone, event.drain_ns)
    changed = {spec.id: spec for spec in (*event.adjusted, *event.replaced, *event.added)}
    known = [state.models[name] for name in changed if name in state.models]
    #: By an operator: that outlives their engine.
    held = {one.spec.id for one in known if one.wishes.pinned and not one.spec.pinned}
    for one in known:  # first, so that others may be pinned in their place
        if one.spec.pinned:
            let_go(step, one)
    others = {spec.id for spec in (*event.replaced, *event.added)}
    fresh = []
    for spec in changed.values():
        model = state.models.get(spec.id)
        if model is None:
            model = _add(state, spec)
            fresh.append(spec.id)
        elif spec.id in others or needs_replicas(model.spec, spec):
            _replace(step, model, spec, event.drain_ns)
            fresh.append(spec.id)
        else:
            _adjust(step, model, spec)
        model.wishes.limited.clear()
        for record in model.queue.entries():
            model.wishes.limit(record.request, spec.swap)
    for spec in changed.values():
        ask_id = f"{event.reload_id}/{spec.id}"
        _have_wishes(step, state.models[spec.id], ask_id, pinned=spec.id in held)
    state.roamers = [model for model in state.models.values() if len(model.devices) > 1]
    _tell_followers(step, fresh)


def needs_replicas(old: ModelSpec, new: ModelSpec) -> bool:
    """Whether a replica of the old kind cannot serve as one of the new."""
    names = frozenset(ModelSpec.__dataclass_fields__) - ADJUSTABLE
    return any(getattr(old, name) != getattr(new, name) for name in names)


def retire(step: Step) -> None:
    """End what is over of the models that were taken away."""
    for model in list(step.state.retiring.values()):
        over = model.retires_ns <= step.state.now_ns
        if over:
            _end_requests(step, model)
        if model.waiting_count or (model.running_count() and not over):
            continue
        _send_off(step, model, UnloadCause.REMOVED, step.state.now_ns)
        if not model.replicas:
            _forget(step, model)


def _end_requests(step: Step, model: Model) -> None:
    """Its time is over: whoever still waits, or runs, is told."""
    state = step.state
    for record in list(state.requests.values()):
        if record.request.model != model.spec.id:
            continue
        begun = record.first_token_ns >= 0 or not record.in_queue
        outcome = Outcome.FAILED if begun else Outcome.REJECTED
        state.counters["retired_unfinished"] += 1
        end(state, record, outcome, step.actions, reason=Reason.MODEL_REMOVED)


def _retire(step: Step, model: Model, drain_ns: int) -> None:
    """It takes nothing new; `retire` does the rest."""
    state, wishes = step.state, model.wishes
    if model.retires_ns >= 0:
        return
    model.retires_ns = state.now_ns + drain_ns
    state.retiring[model.spec.id] = model
    state.counters["models_removed"] += 1
    let_go(step, model)
    ask, wishes.ask = wishes.ask, None
    if ask is not None and ask.ask_id:
        refuse_ask(step, model, ask, Reason.UNKNOWN_MODEL, "a reload took it away")
    wishes.kept_until_ns = wishes.leaves_ns = -1
    model.sizing = Sizing()
    for device in model.devices:
        device.recent.pop(model.spec.id, None)
        if not model.waiting_count:
            device.wanting.pop(model.spec.id, None)
    state.short.pop(model.spec.id, None)
    look_at_devices(state, model)


def _add(state: State, spec: ModelSpec) -> Model:
    model = Model(spec, tuple(state.devices[name] for name in spec.homes))
    state.models[spec.id] = model
    model.announced = state.chains.announced(spec.id)
    _note_sleep(model)
    state.counters["models_added"] += 1
    return model


def _adjust(step: Step, model: Model, spec: ModelSpec) -> None:
    """Its replicas stay, and are seen with other eyes."""
    was = model.spec
    model.spec = spec
    for replica in model.replicas.values():
        if not replica.is_outdated:
            replica.spec = spec
    step.state.counters["models_adjusted"] += 1
    surplus = model.up_count() - spec.replicas
    if spec.replicas < was.replicas and surplus > 0 and not model.wishes.pinned:
        send_away(step, model, surplus)
    touch(step.state, model)
    watch(step, model)


def _replace(step: Step, model: Model, spec: ModelSpec, drain_ns: int) -> None:
    """What runs of it ends; what waits is served by the new engine."""
    state = step.state
    let_go(step, model)
    _send_off(step, model, UnloadCause.REPLACED, state.now_ns + max(drain_ns, 1))
    _leave_lines(state, model)
    state.retiring.pop(spec.id, None)
    model.retires_ns = -1
    _refit(model, spec, tuple(state.devices[name] for name in spec.homes))
    _note_sleep(model)
    model.failures = model.sleep_failures = 0
    model.backoff_until_ns = model.sleep_backoff_until_ns = -1
    model.last_failure = ""
    model.learned_bytes = 0
    model.last_load_ns = model.last_wake_ns = model.last_deep_wake_ns = -1
    state.counters["models_replaced"] += 1
    touch(state, model)
    if model.wishes.stays:
        want_replica(state, model)
    watch(step, model)


def _refit(model: Model, spec: ModelSpec, devices: tuple[Device, ...]) -> None:
    """Take what its engine is from now on; nothing of it is ready."""
    model.spec, model.devices = spec, devices
    model.device = model.desk = devices[0]
    model._by_free = [OrderedDict() for _ in range(spec.places + 1)]  # noqa: SLF001 - a new life
    model.sizing = Sizing()


def _have_wishes(step: Step, model: Model, ask_id: str, *, pinned: bool) -> None:
    """What its configuration wants of it beyond requests, or an operator wanted."""
    if pinned or model.spec.pinned:
        have_pinned(step, model, ask_id)
    elif model.spec.preload and not model.is_resident() and model.wishes.ask is None:
        model.wishes.ask = StandingAsk(Ask.LOAD, "", -1, Swap.NEVER)
        want_replica(step.state, model)
    look_at_devices(step.state, model)


def _note_sleep(model: Model) -> None:
    for device in model.devices if model.spec.sleep_level else ():
        device.puts_to_sleep = True


def _send_off(step: Step, model: Model, cause: UnloadCause, by_ns: int) -> None:
    """Every replica leaves for good: at once, or once what runs on it has ended."""
    for replica in list(model.replicas.values()):
        if replica.is_outdated or replica.state is ReplicaState.UNLOADING:
            continue
        _send_one_off(step, replica, cause)
        replica.leaves_by_ns = by_ns
        replica.device.due_ns = UNKNOWN
        step.state.timed[replica.device.spec.id] = replica.device


def _send_one_off(step: Step, replica: Replica, cause: UnloadCause) -> None:
    if replica.state in _SERVES:
        order_away(step, replica, cause, sleeps=False)
    else:
        replica.leaves_as = cause
        unload(step, replica, cause)


def _leave_lines(state: State, model: Model) -> None:
    """Take a model out of everything that a device knows of it."""
    name = model.spec.id
    for device in model.devices:
        device.wanting.pop(name, None)
        device.growing.pop(name, None)
        device.held.pop(name, None)
        device.kept.pop(name, None)
        device.recent.pop(name, None)
        if device.room_made_for == name:
            device.room_made_for = ""
        state.dirty[device.spec.id] = device
    _withdraw(model.desk, name)
    model.offered = None
    state.short.pop(name, None)
    state.unready.pop(name, None)


def _withdraw(desk: Device, name: str) -> None:
    desk.runnable[:] = [offer for offer in desk.runnable if offer[1] != name]
    heapq.heapify(desk.runnable)


def _forget(step: Step, model: Model) -> None:
    """Nothing is left of it: its name may come again and mean something else."""
    state, name = step.state, model.spec.id
    _leave_lines(state, model)
    del state.models[name], state.retiring[name]
    state.looks = _without(state.looks, name)
    state.lapses = _without(state.lapses, name)
    state.roamers = [one for one in state.roamers if one is not model]
    _tell_followers(step, ())


def _without(heap: list[tuple[int, str]], name: str) -> list[tuple[int, str]]:
    left = [entry for entry in heap if entry[1] != name]
    heapq.heapify(left)
    return left


def _tell_followers(step: Step, fresh: Iterable[str]) -> None:
    """Let those know who keep figures by model."""
    specs = [model.spec for model in step.state.models.values()]
    names = frozenset(fresh)
    learners: tuple[object, ...] = (step.state.planner, step.state.keeper)
    for one in learners:
        if isinstance(one, FollowsModels):
            one.models_changed(specs, names)
