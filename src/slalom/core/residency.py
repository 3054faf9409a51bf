"""Reconcile pass: which models are brought up, and what gives way to them.

Owns the ledger's rules: bytes are booked before a load starts and freed when the process is
gone; the policy only chooses among the replicas that this pass allows to go. Needs are served
in the order in which they arose, so none can be overtaken for ever.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from slalom.core.actions import LoadReplica, Outcome, Reason, UnloadCause
from slalom.core.books import close_for_work, enter, open_for_work
from slalom.core.ending import end, touch
from slalom.core.entities import Replica
from slalom.core.snapshot import ReplicaState
from slalom.core.state import Device, Model
from slalom.core.transitions import Step, does_not_fit, room_for, unload

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
        _unload_drained(step, device)
        _cancel_unwanted_loads(step, device)
        _shed_excess(step, device)
        _serve_needs(step, device)
        _grow(step, device)


def _unload_drained(step: Step, device: Device) -> None:
    for replica in list(device.in_state[ReplicaState.DRAINING].values()):
        if not replica.running:
            unload(step, replica, UnloadCause.EVICTED)


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
        candidates = list(_candidates(step, device, urgent=True, settled=False))
        victims = step.policies.residency.victims(candidates, excess, step.state.now_ns)
        for victim in candidates if victims is None else victims:
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
    shortfall = pool.reserved + model.bytes_needed - pool.free - pool.coming
    if shortfall > 0 and not pool.stuck:
        freed = _make_room(step, model, shortfall)
        pool.coming += freed
        shortfall -= freed
    urgent = _is_urgent(step, model)
    if shortfall <= 0 or urgent:
        pool.reserved += model.bytes_needed
    else:
        pool.stuck = True
    return shortfall <= 0 or not urgent


def _serve_needs(step: Step, device: Device) -> None:
    """Walk the models that need a replica, oldest need first, reserving bytes as we go.

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
        need = model.bytes_needed
        if not _still_wants(step, model):
            met.append(model)
        elif pool.reserved == 0 and _take_back(step, model):
            met.append(model)
            pool.coming = device.leaving_bytes()
        elif now_ns < model.backoff_until_ns:
            resting.append(model)
        elif room_for(model) < need:
            too_large.append(model)
        elif need == 0 or pool.free - pool.reserved >= need:
            met.append(model)
            load(step, model)
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
    """Ask the policy for victims and evict them; the bytes that will come free by it."""
    now_ns = step.state.now_ns
    urgent = _is_urgent(step, model)
    offered: dict[str, Replica] = {}

    def offer() -> Iterator[Replica]:
        for replica in _candidates(step, model.device, urgent=urgent, settled=True):
            offered[replica.id] = replica
            yield replica

    victims = step.policies.residency.victims(offer(), shortfall, now_ns) or ()
    chosen = [offered[victim.id] for victim in victims]
    freed = sum(replica.booked_bytes for replica in chosen)
    if freed < shortfall:
        return 0
    for replica in chosen:
        _evict(step, replica)
    return freed


def _candidates(step: Step, device: Device, *, urgent: bool, settled: bool) -> Iterator[Replica]:
    """Replicas that may go, least recently used first: never pinned ones, never loading ones.

    Those of models nobody waits for come first; those with a queue, and busy ones, only if
    urgent. Unless the budget is overrun, only those that have been ready for their minimum time.
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


def _evict(step: Step, replica: Replica) -> None:
    step.state.counters["evictions"] += 1
    if replica.running:
        close_for_work(step.state, replica, ReplicaState.DRAINING)
    else:
        unload(step, replica, UnloadCause.EVICTED)


def _take_back(step: Step, model: Model) -> bool:
    """Undo the drain of a model that wants a replica itself, since no older need is unmet."""
    for replica in model.replicas.values():
        if replica.state is ReplicaState.DRAINING:
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
        if spare >= replica.booked_bytes:
            spare -= replica.booked_bytes
            _reopen(step, replica)


def _grow(step: Step, device: Device) -> None:
    """Further replicas of busy models, into free bytes only."""
    for model in list(device.growing.values()):
        del device.growing[model.spec.id]
        loading = model.in_state(ReplicaState.LOADING)
        resting = step.state.now_ns < model.backoff_until_ns
        if loading or resting or not model.waiting_count or model.most_free() is not None:
            continue
        room = len(model.replicas) < model.spec.replicas and not device.wanting
        if room and device.free_bytes >= model.bytes_needed:
            load(step, model)


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
