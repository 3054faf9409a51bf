"""Reconcile pass: which models are brought up, and what gives way to them.

Owns the ledger's rules: bytes are booked before a load or a wake starts and freed when the process
is gone or asleep; the policy only chooses among the replicas that this pass allows to go. Needs
are served in the order in which they arose, so none can be overtaken for ever.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from slalom.core.actions import LoadReplica, Outcome, Reason, UnloadCause, WakeReplica
from slalom.core.books import close_for_work, enter, move, open_for_work
from slalom.core.ending import end, touch
from slalom.core.entities import Replica
from slalom.core.leaving import drop_guests, give_way, may_sleep, unload
from slalom.core.snapshot import ReplicaState
from slalom.core.state import Device, Model
from slalom.core.step import Step
from slalom.core.transitions import does_not_fit, room_for

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
        _let_drained_go(step, device)
        _cancel_unwanted_loads(step, device)
        _shed_excess(step, device)
        _serve_needs(step, device)
        _grow(step, device)


def _let_drained_go(step: Step, device: Device) -> None:
    for replica in list(device.in_state[ReplicaState.DRAINING].values()):
        if not replica.running:
            give_way(step, replica)


def _cancel_unwanted_loads(step: Step, device: Device) -> None:
    """End loads that nobody waits for any more."""
    for replica in list(device.in_state[ReplicaState.LOADING].values()):
        model = replica.model
        if not (model.waiting_count or model.spec.pinned or model.running_count()):
            unload(step, replica, UnloadCause.UNWANTED)


def _shed_excess(step: Step, device: Device) -> None:
    """Measurements above the estimates may overrun the budget: make room at once."""
    if device.free_bytes >= 0:
        return
    excess = -device.free_bytes - device.leaving_bytes()
    if excess > 0:
        step.state.counters["budget_overruns"] += 1
        excess -= drop_guests(step, device, excess, urgent=True)
    if excess > 0:
        candidates = list(_candidates(step, device, urgent=True, settled=False))
        victims = step.policies.residency.victims(candidates, excess, step.state.now_ns)
        for victim in candidates if victims is None else victims:
            device.replicas[victim.id].sleeps = False
            _evict(step, device.replicas[victim.id])


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


def _reserve(step: Step, model: Model, pool: _Pool) -> bool:
    """Make room for an unmet need and reserve its bytes; False ends the walk."""
    needed, urgent = model.bytes_to_add, _is_urgent(step, model)
    shortfall = pool.reserved + needed - pool.free - pool.coming
    if shortfall > 0 and not pool.stuck:
        freed = drop_guests(step, model.device, shortfall, urgent=urgent)
        if freed < shortfall:
            freed += _make_room(step, model, shortfall - freed)
        pool.coming += freed
        shortfall -= freed
    if shortfall <= 0 or urgent:
        pool.reserved += needed
    else:
        pool.stuck = True
    return shortfall <= 0 or not urgent


def _serve_needs(step: Step, device: Device) -> None:
    """Walk the models that need a replica, oldest need first, reserving bytes as we go.

    A model that sleeps is woken instead of loaded; one that falls asleep must do so first.
    A need that room is being made for reserves its bytes, and so does one whose patience is
    over: the walk ends there, so that none is overtaken for ever. A need that is still patient
    and finds no victims reserves nothing: younger ones may use what is free meanwhile, but no
    victims are sought for them either. The walk also ends at `_UNMET_MAX` unmet needs, so that
    a pass costs the needs it serves and not all there are.
    """
    now_ns = step.state.now_ns
    pool = _Pool(device.free_bytes, device.leaving_bytes())
    met: list[Model] = []
    too_large: list[Model] = []
    resting: list[Model] = []
    unmet: list[Model] = []
    for model in device.wanting.values():
        need = model.bytes_to_add
        dozes = model.in_state(ReplicaState.SLEEPING)
        if not _still_wants(step, model):
            met.append(model)
        elif pool.reserved == 0 and _take_back(step, model):
            met.append(model)
            pool.coming = device.leaving_bytes()
        elif now_ns < model.backoff_until_ns:
            resting.append(model)
        elif room_for(model) < model.bytes_needed:
            too_large.append(model)
        elif (need == 0 or pool.free - pool.reserved >= need) and not dozes:
            met.append(model)
            _bring_up(step, model)
            pool.free -= need
        else:
            unmet.append(model)
            if not _reserve(step, model, pool) or len(unmet) >= _UNMET_MAX:
                break
    for model in (*met, *too_large):
        del device.wanting[model.spec.id]
    for model in too_large:
        _refuse_waiting(step, model)
    _undo_needless_drains(step, device, max(pool.reserved - pool.free, 0))
    device.look_ns = _next_look_ns(step, device, [*resting, *unmet])
    if device.look_ns >= 0:
        step.state.timed[device.spec.id] = device


def _next_look_ns(step: Step, device: Device, unmet: list[Model]) -> int:
    """When time alone may change the answer for an unmet need; -1 for never."""
    if not unmet:
        return -1
    params, now_ns = step.params, step.state.now_ns
    times = [model.backoff_until_ns for model in unmet]
    times += [model.wanted_ns + params.swap_patience_ns for model in unmet]
    for replica in reversed(device.in_state[ReplicaState.READY].values()):
        if replica.since_ns + _residency_ns(step) <= now_ns:
            break
        times.append(replica.ready_ns + _residency_ns(step))
    return min((at_ns for at_ns in times if at_ns > now_ns), default=-1)


def _residency_ns(step: Step) -> int:
    """How long a replica stays at least: past the instant in which it became ready.

    Or two models that give way at once would evict each other before either has run anything.
    """
    return max(step.params.min_residency_ns, 1)


def _still_wants(step: Step, model: Model) -> bool:
    if step.state.drain_deadline_ns >= 0 and not model.waiting_count:
        return False
    return (model.waiting_count > 0 or model.spec.pinned) and not model.is_resident()


def _refuse_waiting(step: Step, model: Model) -> None:
    """The model turned out larger than its device: waiting cannot help."""
    detail = does_not_fit(model, room_for(model))
    for record in model.queue.entries():
        end(
            step.state,
            record,
            Outcome.REJECTED,
            step.actions,
            reason=Reason.DOES_NOT_FIT,
            detail=detail,
        )


def _is_urgent(step: Step, model: Model) -> bool:
    """Whether a model's need has lasted for longer than its patience."""
    return model.wanted_ns + step.params.swap_patience_ns <= step.state.now_ns


def _make_room(step: Step, model: Model, shortfall: int) -> int:
    """Ask the policy for victims and evict them; the bytes that will come free by it.

    Victims that can sleep do, even if it takes one more of them, because each keeps a little on
    the device. Only where that could never be enough do they end, and sleepers with them.
    """
    asleep = model.device.puts_to_sleep and _fits_beside_sleepers(model)
    chosen = _choose(step, model, shortfall, asleep=asleep)
    freed = sum(replica.freed_bytes for replica in chosen)
    for replica in chosen:
        _evict(step, replica)
    return freed


def _fits_beside_sleepers(model: Model) -> bool:
    """Whether a model fits on its device while all others that can sleep do."""
    kept = sum(
        min(other.model.spec.residual_bytes, other.booked_bytes)
        for other in model.device.replicas.values()
        if other.model is not model and other.model.spec.sleep_level
    )
    return room_for(model) - kept >= model.bytes_needed


def _choose(step: Step, model: Model, shortfall: int, *, asleep: bool) -> list[Replica]:
    """Victims that free enough, or none; `sleeps` tells of each how it would go.

    What sleeps already may be among them only if sleeping is not enough.
    """
    offered: dict[str, Replica] = {}

    def offer() -> Iterator[Replica]:
        urgent = _is_urgent(step, model)
        for replica in _candidates(step, model.device, urgent=urgent, settled=True):
            rests = replica.state is ReplicaState.ASLEEP
            if replica.model is not model and not (rests and asleep):
                replica.sleeps = asleep and may_sleep(step, replica)
                offered[replica.id] = replica
                yield replica

    victims = step.policies.residency.victims(offer(), shortfall, step.state.now_ns) or ()
    chosen = [offered[victim.id] for victim in victims]
    return chosen if sum(replica.freed_bytes for replica in chosen) >= shortfall else []


def _candidates(step: Step, device: Device, *, urgent: bool, settled: bool) -> Iterator[Replica]:
    """Replicas that may go, least recently used first: never pinned ones, never loading ones.

    Those of models nobody waits for come first; those with a queue, busy ones, and at last what
    sleepers keep on the device, only if urgent. Unless the budget is overrun, only those that have
    been ready for their minimum time.
    """
    grown_ns = step.state.now_ns - (_residency_ns(step) if settled else 0)

    def may_go(replica: Replica) -> bool:
        return replica.ready_ns <= grown_ns and not replica.model.spec.pinned

    contested = []
    for replica in device.idle.values():
        if may_go(replica):
            if replica.model.waiting_count:
                contested.append(replica)
            else:
                yield replica
    if urgent:
        yield from contested
        yield from filter(may_go, device.busy.values())
        yield from device.in_state[ReplicaState.ASLEEP].values()


def _evict(step: Step, replica: Replica) -> None:
    if replica.state is ReplicaState.ASLEEP:
        unload(step, replica, UnloadCause.DROPPED)
        return
    step.state.counters["evictions"] += 1
    if replica.running:
        close_for_work(step.state, replica, ReplicaState.DRAINING)
    else:
        give_way(step, replica)


def _take_back(step: Step, model: Model) -> bool:
    """Undo the drain of a model that wants a replica itself, since no older need is unmet.

    Not where the budget is overrun without it: it would be shed again, for ever.
    """
    spare = model.device.free_bytes + model.device.leaving_bytes()
    for replica in model.replicas.values():
        if replica.state is ReplicaState.DRAINING and spare >= replica.freed_bytes:
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
        if spare >= replica.freed_bytes:
            spare -= replica.freed_bytes
            _reopen(step, replica)


def _grow(step: Step, device: Device) -> None:
    """Further replicas of busy models, into free bytes only."""
    for model in list(device.growing.values()):
        del device.growing[model.spec.id]
        coming = model.in_state(ReplicaState.LOADING, ReplicaState.WAKING, ReplicaState.SLEEPING)
        resting = step.state.now_ns < model.backoff_until_ns
        if coming or resting or not model.waiting_count or model.most_free() is not None:
            continue
        room = model.may_grow() and not device.wanting
        if room and device.free_bytes >= model.bytes_to_add:
            _bring_up(step, model)


def _bring_up(step: Step, model: Model) -> None:
    """Wake what sleeps; load where nothing does."""
    sleeper = model.sleeper()
    if sleeper is None:
        load(step, model)
    else:
        _wake(step, sleeper)


def _wake(step: Step, replica: Replica) -> None:
    """Book the bytes again and wake a replica; what it has in host memory stays booked till then.

    A wake goes on even if nobody waits for it any more: engines cannot break it off.
    """
    move(step.state, replica, ReplicaState.WAKING)
    replica.model.device.book(replica, replica.model.bytes_needed)
    replica.turn += 1
    step.state.counters["wakes"] += 1
    step.actions.append(WakeReplica(replica.id, replica.epoch, replica.turn))


def load(step: Step, model: Model) -> None:
    """Book the bytes and bring up a replica under the first free name."""
    state, device = step.state, model.device
    index = 0
    while f"{model.spec.id}#{index}" in model.replicas:
        index += 1
    state.epoch += 1
    replica = Replica(f"{model.spec.id}#{index}", state.epoch, model, state.now_ns)
    device.book(replica, model.bytes_needed)
    enter(state, replica)
    state.counters["loads"] += 1
    step.actions.append(LoadReplica(replica.id, replica.epoch, model.spec.id))


def _shut(step: Step, device: Device) -> None:
    """The last request has ended during a drain: end every replica."""
    for replica in list(device.replicas.values()):
        if replica.state is not ReplicaState.UNLOADING:
            unload(step, replica, UnloadCause.SHUTDOWN)
    step.state.dirty.pop(device.spec.id, None)
