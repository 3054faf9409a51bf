"""How a replica leaves its device: its process ends, or it sleeps and keeps its place in line.

Owns the choice between the two, the host memory that sleepers take, and what becomes of a sleep
that fails. Never chooses who must leave: `residency` does. Called by transitions and by
`residency`.
"""

from collections.abc import Sequence

from slalom.core.actions import SleepReplica, UnloadCause, UnloadReplica
from slalom.core.books import close_for_work, move
from slalom.core.device import Device
from slalom.core.ending import touch, want_replica
from slalom.core.entities import Replica
from slalom.core.events import DeviceSampled, ReplicaAsleep
from slalom.core.params import SchedulerParams
from slalom.core.policy import ReplicaView
from slalom.core.snapshot import ReplicaState
from slalom.core.state import Model
from slalom.core.step import Step


def unload(step: Step, replica: Replica, cause: UnloadCause) -> None:
    """End a replica's process; its bytes stay booked until it is gone."""
    state = step.state
    close_for_work(state, replica, ReplicaState.UNLOADING)
    replica.unload_asked_ns = state.now_ns
    step.actions.append(UnloadReplica(replica.id, replica.epoch, cause))
    state.counters[f"unloads_{cause.value}"] += 1
    state.dirty[replica.device.spec.id] = replica.device


def order_away(step: Step, replica: Replica, cause: UnloadCause, *, sleeps: bool) -> None:
    """Let a replica leave once its work is done; nothing takes that back."""
    if replica.is_outdated:  # it is on its way
        return
    replica.leaves_as, replica.sleeps = cause, sleeps
    if replica.running:
        if replica.state is ReplicaState.READY:
            close_for_work(step.state, replica, ReplicaState.DRAINING)
    else:
        give_way(step, replica)
    step.state.dirty[replica.device.spec.id] = replica.device


def may_sleep(step: Step, replica: Replica) -> bool:
    """Whether a replica that runs could sleep instead of ending, host memory permitting."""
    spec, host = replica.model.spec, replica.device.host
    fits = not spec.host_bytes or (host is not None and spec.host_bytes <= host.spec.budget_bytes)
    rested = step.state.now_ns >= replica.model.sleep_backoff_until_ns
    return bool(spec.sleep_level) and fits and rested and step.state.drain_deadline_ns < 0


def give_way(step: Step, replica: Replica) -> None:
    """Let a victim that runs nothing leave: asleep if it was chosen to sleep and may.

    Host memory that is not free yet is waited for, as long as a drain may last; sleepers give it
    up as the keeper says, or the victim rests without its weights. Nothing sleeps in memory that a
    model waits for.
    """
    host, spec = replica.device.host, replica.model.spec
    if not (replica.sleeps and may_sleep(step, replica)):
        unload(step, replica, replica.leaves_as)
        return
    level = spec.sleep_level
    if host is not None and spec.host_bytes:
        free = host.free_bytes >= spec.host_bytes and not host.wanting
        if not free:
            level = _short_of_memory(step, host, replica)
            if level == spec.sleep_level:  # its memory is coming free
                if replica.state is ReplicaState.READY:
                    close_for_work(step.state, replica, ReplicaState.DRAINING)
                return
    if level:
        _put_to_sleep(step, replica, level)
    else:
        unload(step, replica, replica.leaves_as)


def _short_of_memory(step: Step, host: Device, replica: Replica) -> int:
    """The level at which a victim rests though host memory has no room for it now; 0 to end."""
    if host.wanting or _is_late(step, replica):
        return 2 if replica.deep_wake_ns and step.keeper.weighs_sleepers else 0
    return _make_host_room(step, host, replica)


def _is_late(step: Step, replica: Replica) -> bool:
    waited_ns = step.state.now_ns - replica.since_ns
    draining = replica.state is ReplicaState.DRAINING
    return draining and waited_ns >= step.params.swap_drain_timeout_ns


def _put_to_sleep(step: Step, replica: Replica, level: int) -> None:
    """Book the host memory and put a replica to sleep; its device's bytes stay booked till then."""
    state, spec = step.state, replica.model.spec
    close_for_work(state, replica, ReplicaState.SLEEPING)
    replica.level = level
    if replica.device.host is not None and level == spec.sleep_level:
        replica.device.host.lodge(replica, spec.host_bytes)
    replica.turn += 1
    cause = replica.leaves_as
    step.actions.append(SleepReplica(replica.id, replica.epoch, replica.turn, level, cause))
    state.counters["sleeps"] += 1
    state.counters[f"sleeps_{cause.value}"] += 1
    state.counters["deep_sleeps"] += level > spec.sleep_level
    state.dirty[replica.device.spec.id] = replica.device


def _make_host_room(step: Step, host: Device, newcomer: Replica) -> int:
    """Let host memory come free for a newcomer, be it by dropping sleepers; the level it gets."""
    shortfall = newcomer.model.spec.host_bytes - host.free_bytes - host.leaving_bytes()
    if shortfall <= 0:
        return 1
    guests = _droppable(host, urgent=False)
    if step.keeper.weighs_sleepers:
        bed = step.keeper.bed(newcomer, guests, shortfall, step.state.now_ns)
        if bed.level != 1:
            return 2 if bed.level == 2 and newcomer.model.spec.deep_wake_ns else 0
        guests = _among(guests, bed.dropped)
    else:
        guests = _prefix(guests, shortfall)
    if shortfall > sum(guest.host_bytes for guest in guests):
        return 0
    for guest in guests:
        unload(step, guest, UnloadCause.DROPPED)
    return 1


def drop_guests(step: Step, host: Device, shortfall_bytes: int, *, urgent: bool) -> int:
    """End sleepers in host memory; the bytes that come free by it.

    Those whose model is waited for are spared, unless the need is urgent.
    """
    guests = _droppable(host, urgent=urgent)
    if step.keeper.weighs_sleepers and guests:
        chosen = step.keeper.drop(guests, shortfall_bytes, step.state.now_ns)
        guests = _among(guests, chosen)
    else:
        guests = _prefix(guests, shortfall_bytes)
    for guest in guests:
        unload(step, guest, UnloadCause.DROPPED)
    return sum(guest.host_bytes for guest in guests)


def _droppable(host: Device, *, urgent: bool) -> list[Replica]:
    """Sleepers that may be dropped, least recently used first, those that are waited for last."""
    found = [
        guest
        for guest in host.guests.values()
        if guest.state is ReplicaState.ASLEEP and (urgent or not guest.model.waiting_count)
    ]
    found.sort(key=lambda guest: (bool(guest.model.waiting_count), guest.last_used_ns, guest.id))
    return found


def _prefix(guests: Sequence[Replica], shortfall_bytes: int) -> list[Replica]:
    """The first that suffice; all if they do not."""
    freed, count = 0, 0
    while freed < shortfall_bytes and count < len(guests):
        freed += guests[count].host_bytes
        count += 1
    return list(guests[:count])


def _among(guests: Sequence[Replica], chosen: Sequence[ReplicaView]) -> list[Replica]:
    by_id = {guest.id: guest for guest in guests}
    return [by_id[one.id] for one in chosen]


def on_device_sampled(step: Step, event: DeviceSampled) -> None:
    """Others hold more or less of a device: what its models may take is looked at again."""
    device = step.state.devices.get(event.device)
    if device is None or event.as_of_ns < device.foreign_ns:
        step.state.counters["stale_events"] += 1
        return
    device.foreign_ns = event.as_of_ns
    device.foreign_bytes = max(event.foreign_bytes, 0)
    step.state.counters["foreign_memory"] += device.foreign_bytes > 0
    step.state.dirty[device.spec.id] = device


def fall_asleep(step: Step, event: ReplicaAsleep) -> None:
    """A replica sleeps: all but its residue on the device is free."""
    state = step.state
    replica = state.replica(event.replica_id, event.epoch)
    if replica is None or not state.is_turn(replica, event.turn):
        return
    if replica.state is not ReplicaState.SLEEPING:
        return
    model = replica.model
    move(state, replica, ReplicaState.ASLEEP)
    replica.device.book(replica, min(model.spec.residual_bytes, replica.booked_bytes))
    replica.measured_bytes, replica.measured_ns = event.measured_bytes, state.now_ns
    model.sleep_failures = 0
    state.counters["sleeps_done"] += 1
    if model.wishes.stays:
        want_replica(state, model)
    state.dirty[replica.device.spec.id] = replica.device
    touch(state, model)


def fail_sleep(step: Step, model: Model) -> None:
    """A replica did not fall asleep: its model is not put to sleep again for a while."""
    model.sleep_failures += 1
    backoff_ns = backoff(step.params, model.sleep_failures)
    model.sleep_backoff_until_ns = step.state.now_ns + backoff_ns
    step.state.counters["sleep_failures"] += 1


def backoff(params: SchedulerParams, failures: int) -> int:
    """How long a model rests after so many failures in a row, ns: doubles with each, bounded."""
    return min(params.load_backoff_ns << min(failures - 1, 30), params.load_backoff_max_ns)
