"""Reconcile pass: which models are brought up, and what gives way to them.

Owns the ledger's rules: bytes are booked before a load or a wake starts and freed when the process
is gone or asleep; the policy only chooses among the replicas that this pass allows to go. Needs
are served in the order in which they arose, so none can be overtaken for ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from slalom.core.actions import Outcome, Reason, UnloadCause
from slalom.core.ahead import look_ahead
from slalom.core.books import open_for_work
from slalom.core.device import LEAVING_STATES, Device
from slalom.core.ending import end, touch
from slalom.core.entities import Replica
from slalom.core.giving_way import (
    candidates_on,
    evict,
    is_overdue,
    is_urgent,
    make_room,
    record_decision,
    residency_ns,
)
from slalom.core.growing import grow
from slalom.core.keeping import Need
from slalom.core.leaving import drop_guests, give_way, unload
from slalom.core.parting import part
from slalom.core.placing import better_home, call_roamers
from slalom.core.raising import bring_up
from slalom.core.request import Swap
from slalom.core.room import are_apart, does_not_fit, refuse_ask, rivals, room_for
from slalom.core.snapshot import ReplicaState
from slalom.core.state import Model
from slalom.core.step import Step

#: Needs for which room is made at a time on one device: enough to keep its link busy.
_UNMET_MAX = 16


def reconcile_residency(step: Step) -> None:
    """Look again at every device where something changed that matters to residency."""
    state = step.state
    while state.dirty:
        _, device = state.dirty.popitem()
        if state.drain_deadline_ns >= 0 and not state.requests:
            _shut(step, device)
            continue
        if state.roamers:
            call_roamers(state, device)
        _let_drained_go(step, device)
        _cancel_unwanted_loads(step, device)
        _shed_excess(step, device)
        _serve_needs(step, device)
        grow(step, device)
        if state.forerunner is not None:
            look_ahead(step, device, state.forerunner)


def _let_drained_go(step: Step, device: Device) -> None:
    for replica in list(device.in_state[ReplicaState.DRAINING].values()):
        if not replica.running:
            give_way(step, replica)


def _cancel_unwanted_loads(step: Step, device: Device) -> None:
    """End loads that nobody waits for any more, and those ahead of requests if others need them."""
    for replica in list(device.in_state[ReplicaState.LOADING].values()):
        model = replica.model
        wanted = model.waiting_count or model.wishes.stays or model.running_count()
        due = model.up_count() <= model.sizing.size
        if not (wanted or due or (replica.ahead and _harms_nobody(step, device))):
            unload(step, replica, UnloadCause.UNWANTED)


def _harms_nobody(step: Step, device: Device) -> bool:
    """Whether every need would fit beside what comes up ahead of its requests."""
    fits = all(one.bytes_to_add <= device.free_bytes for one in device.wanting.values())
    return fits and step.state.drain_deadline_ns < 0


def _shed_excess(step: Step, device: Device) -> None:
    """Measurements above the estimates may overrun the budget: make room at once."""
    if device.free_bytes >= 0:
        return
    excess = -device.free_bytes - device.leaving_bytes()
    if excess > 0:
        step.state.counters["budget_overruns"] += 1
        excess -= drop_guests(step, device, excess, urgent=True)
    if excess > 0:
        candidates = list(candidates_on(step, device, urgent=True, overdue=True, settled=False))
        for replica in candidates:
            replica.sleeps = False
        need = Need(None, excess, step.state.now_ns, urgent=True, overdue=True)
        selection = step.keeper.select(candidates, need, step.state.now_ns)
        victims = [device.replicas[victim.id] for victim in selection.victims] or candidates
        record_decision(step, device, need, victims, selection)
        for replica in victims:
            evict(step, replica)


@dataclass(slots=True)
class _Pool:
    """The bytes of a device during one walk over its needs."""

    #: Free now.
    free: int
    #: That will come free.
    coming: int
    #: That unmet needs have reserved.
    reserved: int = 0
    #: A patient need found no victims: none are sought for younger ones.
    stuck: bool = False


@dataclass(slots=True)
class _Walk:
    """One walk over the needs of a device, and what became of each."""

    pool: _Pool
    met: list[Model] = field(default_factory=list)
    too_large: list[Model] = field(default_factory=list)
    resting: list[Model] = field(default_factory=list)
    unmet: list[Model] = field(default_factory=list)
    #: Those for which another device is better, and which.
    moved: list[tuple[Model, Device]] = field(default_factory=list)


def _reserve(step: Step, model: Model, pool: _Pool) -> bool:
    """Make room for an unmet need and reserve its bytes; False ends the walk."""
    swap = model.swap
    if swap is Swap.NEVER:  # it uses what is free, and nobody waits behind it
        return True
    needed, urgent = model.bytes_to_add, is_urgent(step, model)
    if _dozes(model):  # it comes after its own, into what that leaves: others need not do without
        own = min(_own_leaving_bytes(model), needed)
        needed -= own
        pool.coming -= own
    shortfall = pool.reserved + needed - pool.free - pool.coming
    if shortfall > 0 and not pool.stuck:
        freed = drop_guests(step, model.device, shortfall, urgent=urgent)
        if freed < shortfall:
            freed += make_room(step, model, shortfall - freed)
        pool.coming += freed
        shortfall -= freed
    holds = step.keeper.holds and not is_overdue(step, model)
    if shortfall <= 0 or (urgent and not holds):
        pool.reserved += needed
    elif not holds and swap is Swap.NORMAL:
        pool.stuck = True
    return shortfall <= 0 or holds or not urgent


def _serve_needs(step: Step, device: Device) -> None:
    """Walk the models that need a replica, oldest need first, reserving bytes as we go.

    A model that sleeps is woken instead of loaded; one that falls asleep must do so first.
    A need that room is being made for reserves its bytes, and so does one whose patience is
    over: the walk ends there, so that none is overtaken for ever. A need that is still patient
    and finds no victims reserves nothing: younger ones may use what is free meanwhile, but no
    victims are sought for them either. The walk also ends at `_UNMET_MAX` unmet needs, so that
    a pass costs the needs it serves and not all there are.
    """
    walk = _Walk(_Pool(device.free_bytes, device.leaving_bytes()))
    for model in device.wanting.values():
        if not _serve(step, model, walk) or len(walk.unmet) >= _UNMET_MAX:
            break
    for model in (*walk.met, *walk.too_large):
        del device.wanting[model.spec.id]
    for model in walk.too_large:
        _refuse_waiting(step, model)
    for model, other in walk.moved:
        _move_need(step, model, other)
    pool = walk.pool
    _undo_needless_drains(step, device, max(pool.reserved - pool.free, 0))
    device.look_ns = _next_look_ns(step, device, [*walk.resting, *walk.unmet])
    if device.look_ns >= 0:
        step.state.timed[device.spec.id] = device


def _serve(step: Step, model: Model, walk: _Walk) -> bool:
    """One step of the walk; False ends it."""
    pool, need = walk.pool, model.bytes_to_add
    dozes = _dozes(model)
    if not _still_wants(step, model):
        walk.met.append(model)
    elif other := better_home(model):
        walk.moved.append((model, other))
    elif model.spec.apart and _is_behind_rival(model, walk):
        walk.unmet.append(model)
    elif (pool.reserved == 0 or need == 0) and _take_back(step, model):
        walk.met.append(model)
        pool.coming = model.device.leaving_bytes()
    elif step.state.now_ns < model.backoff_until_ns:
        walk.resting.append(model)
    elif room_for(model) < model.bytes_needed:
        walk.too_large.append(model)
    elif foes := rivals(model):
        return _serve_beside(step, model, walk, foes)
    elif (need == 0 or pool.free - pool.reserved >= need) and not dozes:
        walk.met.append(model)
        bring_up(step, model)
        pool.free -= need
    else:
        return _serve_beside(step, model, walk, ())
    return True


def _is_behind_rival(model: Model, walk: _Walk) -> bool:
    """Whether an older need is unmet of one that it must be apart from."""
    return any(one.swap is Swap.NORMAL and are_apart(model, one) for one in walk.unmet)


def _serve_beside(step: Step, model: Model, walk: _Walk, foes: Sequence[Replica]) -> bool:
    """Others must go first: those it must be apart from, then those that hold its memory."""
    if _is_mere_preload(model):
        walk.met.append(model)
        model.wishes.ask = None
        step.state.counters["preloads_left_out"] += 1
        return True
    walk.unmet.append(model)
    if not foes:
        return _reserve(step, model, walk.pool)
    on_their_way = part(step, model, foes)
    walk.pool.coming = model.device.leaving_bytes()
    return not on_their_way or _reserve(step, model, walk.pool)


def _move_need(step: Step, model: Model, other: Device) -> None:
    """A need goes to stand in another device's line, as old as it is."""
    del model.device.wanting[model.spec.id]
    model.device = other
    model.held_until_ns = -1
    other.wanting[model.spec.id] = model
    step.state.dirty[other.spec.id] = other
    step.state.counters["needs_moved"] += 1


def _next_look_ns(step: Step, device: Device, unmet: list[Model]) -> int:
    """When time alone may change the answer for an unmet need; -1 for never."""
    if not unmet:
        return -1
    params, now_ns = step.params, step.state.now_ns
    times = [model.backoff_until_ns for model in unmet]
    times += [model.wanted_ns + params.swap_patience_ns for model in unmet]
    times += [model.held_until_ns for model in unmet]
    if step.keeper.holds:
        times += [model.wanted_ns + params.swap_hold_ns for model in unmet]
    for replica in reversed(device.in_state[ReplicaState.READY].values()):
        if replica.since_ns + residency_ns(step) <= now_ns:
            break
        times.append(replica.ready_ns + residency_ns(step))
    if device.kept:
        kept = {name: one for name, one in device.kept.items() if one.wishes.kept_until_ns > now_ns}
        device.kept = kept
        bound_ns = max(params.swap_patience_ns, params.swap_hold_ns) if kept else 0
        times += [model.wishes.kept_until_ns for model in kept.values()]
        times += [model.wanted_ns + bound_ns for model in unmet if kept]
    return min((at_ns for at_ns in times if at_ns > now_ns), default=-1)


def _still_wants(step: Step, model: Model) -> bool:
    if step.state.drain_deadline_ns >= 0 and not model.waiting_count:
        return False
    return (model.waiting_count > 0 or model.wishes.stays) and not model.is_resident()


def _dozes(model: Model) -> bool:
    """Whether one of its replicas must have gone, or sleep, before it can come up."""
    return bool(model.in_state(ReplicaState.SLEEPING)) or _is_sent_away(model)


def _own_leaving_bytes(model: Model) -> int:
    """What its own replicas leave on the device where its need stands."""
    return sum(
        one.freed_bytes
        for one in model.replicas.values()
        if one.device is model.device and one.state in LEAVING_STATES
    )


def _is_sent_away(model: Model) -> bool:
    """Whether a replica of it drains that will not be taken back."""
    return any(
        one.state is ReplicaState.DRAINING
        and one.leaves_as is not UnloadCause.EVICTED
        and not one.is_outdated  # its successor may come up beside it
        for one in model.replicas.values()
    )


def _is_mere_preload(model: Model) -> bool:
    """Whether only its preload wants it, for which nobody gives way."""
    ask = model.wishes.ask
    only = ask is not None and not ask.ask_id
    return only and not model.waiting_count and not model.wishes.pinned


def _refuse_waiting(step: Step, model: Model) -> None:
    """The model turned out larger than its device: waiting cannot help."""
    detail = does_not_fit(model, room_for(model))
    ask, model.wishes.ask = model.wishes.ask, None
    if ask is not None and ask.ask_id:
        refuse_ask(step, model, ask, Reason.DOES_NOT_FIT, detail)
    for record in model.queue.entries():
        end(
            step.state,
            record,
            Outcome.REJECTED,
            step.actions,
            reason=Reason.DOES_NOT_FIT,
            detail=detail,
        )


def _take_back(step: Step, model: Model) -> bool:
    """Undo the drain of a model that wants a replica itself, since no older need is unmet.

    Not where the budget is overrun without it: it would be shed again, for ever.
    """
    spare = model.device.free_bytes + model.device.leaving_bytes()
    for replica in model.replicas.values():
        harmless = spare >= replica.freed_bytes or not replica.freed_bytes
        kept = replica.leaves_as is UnloadCause.EVICTED and harmless
        here = replica.device is model.device
        if replica.state is ReplicaState.DRAINING and kept and here:
            _reopen(step, replica)
            return True
    return False


def _reopen(step: Step, replica: Replica) -> None:
    open_for_work(step.state, replica)
    step.state.counters["evictions_undone"] += 1
    touch(step.state, replica.model)


def _undo_needless_drains(step: Step, device: Device, unmet_bytes: int) -> None:
    """Give drains back whose beneficiary has gone; what already unloads is never resurrected."""
    if not device.in_state[ReplicaState.DRAINING]:
        return
    spare = device.leaving_bytes() - unmet_bytes
    for replica in reversed(list(device.in_state[ReplicaState.DRAINING].values())):
        if replica.leaves_as is UnloadCause.EVICTED and spare >= replica.freed_bytes:
            spare -= replica.freed_bytes
            _reopen(step, replica)


def _shut(step: Step, device: Device) -> None:
    """The last request has ended during a drain: end every replica."""
    for replica in list(device.replicas.values()):
        if replica.state is not ReplicaState.UNLOADING:
            unload(step, replica, UnloadCause.SHUTDOWN)
    step.state.dirty.pop(device.spec.id, None)
