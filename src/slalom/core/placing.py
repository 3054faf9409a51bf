"""On which of its devices a model's next replica stands.

Owns the choice, and the seats that pinned models keep: where it fits without harm to others, then
the fastest, then most free bytes, then the order in which they were named. What sleeps is woken
where it is. A model with one device has nothing to choose. Called by `ending`, `residency`,
`asking`, `state`.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from slalom.core.events import Ask
from slalom.core.request import Swap
from slalom.core.room import rivals, room_for
from slalom.core.snapshot import ReplicaState
from slalom.core.wishes import StandingAsk

if TYPE_CHECKING:
    from slalom.core.device import Device
    from slalom.core.state import Model, State

#: States of a replica beside which no other one of its model is brought up for a first need: what
#: it holds is to be used again. Those that are used again soonest first.
_ANCHORS = (ReplicaState.ASLEEP, ReplicaState.SLEEPING, ReplicaState.DRAINING)


def settle(model: "Model", *, grows: bool = False) -> None:
    """Choose the device of the next replica.

    Args:
        model: Its model; its present need stands nowhere yet.
        grows: It has replicas that serve, and is to have another one.
    """
    if len(model.devices) > 1:
        model.device = _chosen(model, grows=grows)


def better_home(model: "Model") -> "Device | None":
    """Where an unmet need should stand instead: there at once, or not beside what sleeps."""
    if len(model.devices) == 1:
        return None
    best = _chosen(model, grows=False)
    if best is model.device:
        return None
    if _anchor(model, _ANCHORS) is best:
        return best
    if room_for(model) < model.bytes_needed:  # if it is too large for all, it is told so here
        return best if room_for(model, best) >= model.bytes_needed else None
    return best if _fits(model, best) and not _fits(model, model.device) else None


def call_roamers(state: "State", device: "Device") -> None:
    """Let needs that stand elsewhere look again, for which there is room on this device."""
    for model in state.roamers:
        waits = model.device is not device and model.spec.id in model.device.wanting
        if waits and better_home(model) is device:
            state.dirty[model.device.spec.id] = model.device


def pin(model: "Model") -> bool:
    """Give a pinned model's replicas their seats; False, and no seat, if they do not fit."""
    seats = _seats_for(model)
    if seats is None:
        return False
    model.seats = seats
    for device in model.devices:
        if device.spec.id in seats:
            device.pinned.append(model)
    return True


def unpin(model: "Model") -> None:
    """Take the seats back."""
    for device in model.devices:
        if model.seats.pop(device.spec.id, 0):
            device.pinned.remove(model)


def bring_up_at_start(models: "Collection[Model]") -> None:
    """Note who is to be up from the beginning: pinned models, then those that are preloaded."""
    for model in models:
        for device in model.devices if model.spec.sleep_level else ():
            device.puts_to_sleep = True
    pinned = [model for model in models if model.spec.pinned]
    for model in sorted(pinned, key=lambda model: len(model.devices) > 1):
        pin(model)
    for model in pinned:
        settle(model)
        model.device.wanting[model.spec.id] = model
    for model in models:
        if model.spec.preload and not model.spec.pinned:
            model.wishes.ask = StandingAsk(Ask.LOAD, "", -1, Swap.NEVER)
            settle(model)
            model.device.wanting[model.spec.id] = model


def _seats_for(model: "Model") -> dict[str, int] | None:
    seats: dict[str, int] = {}
    for replica in model.replicas.values():
        if replica.state is not ReplicaState.UNLOADING and not replica.is_outdated:
            seats[replica.device.spec.id] = seats.get(replica.device.spec.id, 0) + 1
    rank = {device.spec.id: place for place, device in enumerate(model.devices)}
    rooms = {device.spec.id: room_for(model, device) for device in model.devices}
    for name, count in seats.items():
        rooms[name] -= count * model.bytes_needed
    for _ in range(model.spec.replicas - sum(seats.values())):
        best = max(rooms, key=lambda name: (rooms[name], -rank[name]))
        rooms[best] -= model.bytes_needed
        seats[best] = seats.get(best, 0) + 1
    return None if any(rooms[name] < 0 for name in seats) else seats


def _chosen(model: "Model", *, grows: bool) -> "Device":
    anchor = _anchor(model, _ANCHORS[:1] if grows else _ANCHORS)
    if anchor is not None:
        return anchor
    open_to: Sequence[Device] = model.devices
    if model.wishes.pinned:
        open_to = [device for device in model.devices if _has_seat(model, device)] or open_to
    needed, apart = model.bytes_needed, bool(model.spec.apart)

    def order(device: "Device") -> tuple[bool, bool, float, int]:
        """As `_fits` and `room_for` say, asked of every device of a large fleet."""
        spare = _spare_bytes(model, device) if device.wanting else device.free_bytes
        if apart or device.pinned:
            fits, room = _fits(model, device), room_for(model, device)
        else:
            fits, room = spare >= needed or needed == 0, device.spec.budget_bytes
        return (not fits, room < needed, -device.spec.speed, -spare)

    return min(open_to, key=order)


def _anchor(model: "Model", states: tuple[ReplicaState, ...]) -> "Device | None":
    for state in states:
        if not model.counts[state]:
            continue
        of_state = (one for one in model.replicas.values() if one.state is state)
        found = [one for one in of_state if not one.is_outdated]
        if found:
            return max(found, key=lambda one: (one.last_used_ns, one.id)).device
    return None


def _has_seat(model: "Model", device: "Device") -> bool:
    if not model.wishes.pinned:
        return True
    stay = [one for one in model.replicas.values() if not one.is_outdated]
    taken = sum(one.device is device for one in stay)
    return model.seats.get(device.spec.id, 0) > taken


def _fits(model: "Model", device: "Device") -> bool:
    """Whether a replica could be brought up there now, and nobody would mind."""
    spare = _spare_bytes(model, device)
    needs_none = model.bytes_needed == 0
    return (spare >= model.bytes_needed or needs_none) and not rivals(model, device)


def _spare_bytes(model: "Model", device: "Device") -> int:
    """What is free and not waited for by others."""
    awaited = sum(other.bytes_to_add for other in device.wanting.values() if other is not model)
    return device.free_bytes - awaited
