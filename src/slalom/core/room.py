"""Whether a model could ever fit beside the others, and the words for one that cannot.

Owns the sum over pinned models, who must be apart from whom, and the refusal of an operator's ask.
Called by `transitions`, `residency`, `giving_way`, `asking` and `lapsing`.
"""

from typing import TYPE_CHECKING

from slalom.core.actions import AskRefused, Holder
from slalom.core.events import ModelAsked
from slalom.core.request import Request, Swap
from slalom.core.snapshot import ReplicaState
from slalom.core.wishes import StandingAsk, strictest
from slalom.units import format_bytes

if TYPE_CHECKING:
    from slalom.core.device import Device
    from slalom.core.entities import Replica
    from slalom.core.state import Model
    from slalom.core.step import Step

#: Most holders of memory that a refusal names.
_HOLDERS_MAX = 16


def room_for(model: "Model", device: "Device | None" = None) -> int:
    """Bytes a model could get at best: the budget less what pinned others hold or need.

    None beside a pinned model that it must be apart from.

    Args:
        model: Which.
        device: Where; without one, where its present need stands.
    """
    device = device or model.device
    if model.spec.apart and pinned_rival(model, device) is not None:
        return -1
    pinned = sum(
        other.bytes_needed * other.seats[device.spec.id]
        for other in device.pinned
        if other is not model
    )
    return device.spec.budget_bytes - pinned


def most_room(model: "Model") -> int:
    """The same on the best of its devices."""
    if len(model.devices) == 1:
        return room_for(model)
    return max(room_for(model, device) for device in model.devices)


def _must_swap(model: "Model") -> bool:
    """Whether others would have to give way to it wherever it may be."""
    return all(
        device.free_bytes + device.leaving_bytes() < model.bytes_to_add
        or bool(rivals(model, device))
        for device in model.devices
    )


def does_not_fit(model: "Model", room_bytes: int) -> str:
    """Who needs what, for people."""
    if (rival := pinned_rival(model, model.device)) is not None:
        return f"model {model.spec.id} must be apart from {rival.spec.id}, which is pinned"
    return (
        f"model {model.spec.id} needs {format_bytes(model.bytes_needed)}, but device "
        f"{model.device.spec.id} has a budget of {format_bytes(model.device.spec.budget_bytes)} "
        f"of which at most {format_bytes(room_bytes)} can be freed for it"
    )


def are_apart(model: "Model", other: "Model") -> bool:
    """Whether two models must never be up together on one device: they share a group."""
    return other is not model and not set(model.spec.apart).isdisjoint(other.spec.apart)


def pinned_rival(model: "Model", device: "Device") -> "Model | None":
    """A model pinned to a device that it must be apart from."""
    return next((one for one in device.pinned if are_apart(model, one)), None)


def rivals(model: "Model", device: "Device | None" = None) -> "list[Replica]":
    """Replicas on a device that must have gone, or sleep, before this model may come up there.

    Args:
        model: Which.
        device: Where; without one, where its present need stands.
    """
    if not model.spec.apart:
        return []
    return [
        one
        for one in (device or model.device).replicas.values()
        if one.state is not ReplicaState.ASLEEP and are_apart(model, one.model)
    ]


def needs_swap(model: "Model", request: Request) -> bool:
    """Whether others would have to give way to a request that does not allow it."""
    if strictest(request.allow_swap, model.spec.swap) is not Swap.NEVER:
        return False
    return _must_swap(model)


def refuse_ask(
    step: "Step", model: "Model", ask: ModelAsked | StandingAsk, reason: str, detail: str
) -> None:
    """Say that it will not be, and who holds the memory."""
    device = model.device
    step.state.counters["asks_refused"] += 1
    holders = sorted(
        (Holder(one.id, one.booked_bytes, one.state.value) for one in device.replicas.values()),
        key=lambda one: (-one.held_bytes, one.replica_id),
    )
    step.actions.append(
        AskRefused(
            ask.ask_id,
            model.spec.id,
            ask.what,
            reason,
            detail,
            needed_bytes=model.bytes_to_add,
            free_bytes=device.free_bytes,
            holders=tuple(one for one in holders if one.held_bytes)[:_HOLDERS_MAX],
        )
    )
