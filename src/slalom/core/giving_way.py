"""Who gives way to a model that needs memory: what may go is offered, a keeper chooses.

Owns which replicas may go at all, the record of each choice, and how a victim leaves. Which needs
are served, and when, is `residency`'s, which calls this.
"""

from collections.abc import Iterator, Sequence

from slalom.core.actions import EvictionDecided, UnloadCause
from slalom.core.books import close_for_work
from slalom.core.device import Device
from slalom.core.entities import Replica
from slalom.core.keeping import Need, Selection, first_that_suffice
from slalom.core.leaving import give_way, may_sleep, unload
from slalom.core.request import Swap
from slalom.core.room import room_for
from slalom.core.snapshot import ReplicaState
from slalom.core.state import Model
from slalom.core.step import Step


def residency_ns(step: Step) -> int:
    """How long a replica stays at least: past the instant in which it became ready.

    Or two models that give way at once would evict each other before either has run anything.
    """
    return max(step.params.min_residency_ns, 1)


def is_urgent(step: Step, model: Model) -> bool:
    """Whether a model's need has lasted for longer than its patience, and may disturb others."""
    waited = model.wanted_ns + step.params.swap_patience_ns <= step.state.now_ns
    return waited and model.swap is Swap.NORMAL


def is_overdue(step: Step, model: Model) -> bool:
    """Whether a need may not be held back any more."""
    params = step.params
    bound_ns = max(params.swap_hold_ns, params.swap_patience_ns)
    return model.wanted_ns + bound_ns <= step.state.now_ns


def make_room(step: Step, model: Model, shortfall: int) -> int:
    """Ask the policy for victims and evict them; the bytes that will come free by it.

    Victims that can sleep do, even if it takes one more of them, because each keeps a little on
    the device. Only where that could never be enough do they end, and sleepers with them.
    """
    chosen = choose_victims(step, model, shortfall)
    freed = sum(replica.freed_bytes for replica in chosen)
    for replica in chosen:
        evict(step, replica)
    return freed


def choose_victims(step: Step, model: Model, shortfall: int) -> list[Replica]:
    """Ask the policy for victims and leave word of them; none if they would not suffice."""
    asleep = model.device.puts_to_sleep and _fits_beside_sleepers(model)
    return _choose(step, model, shortfall, asleep=asleep)


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

    def offer() -> Iterator[Replica]:
        urgent, overdue = is_urgent(step, model), is_overdue(step, model)
        candidates = candidates_on(step, model.device, urgent=urgent, overdue=overdue)
        if not (model.replicas or model.device.puts_to_sleep):
            return candidates  # None of them is its own, and none sleeps: nothing to look at.
        return look_at(candidates)

    def look_at(candidates: Iterator[Replica]) -> Iterator[Replica]:
        for replica in candidates:
            if replica.model is model or (asleep and replica.state is ReplicaState.ASLEEP):
                continue
            replica.sleeps = asleep and may_sleep(step, replica)
            yield replica

    need = _need(step, model, shortfall)
    selection = step.keeper.select(offer(), need, step.state.now_ns)
    model.held_until_ns = selection.look_ns
    victims = selection.victims
    if not victims and step.keeper.holds and need.overdue:
        victims = first_that_suffice(offer(), shortfall)
    chosen = [model.device.replicas[victim.id] for victim in victims]
    if sum(replica.freed_bytes for replica in chosen) < shortfall:
        return []
    if chosen:
        record_decision(step, model.device, need, chosen, selection)
    return chosen


def _need(step: Step, model: Model, shortfall: int) -> Need:
    sleeper = model.sleeper()
    takes_ns = model.load_ns if sleeper is None else sleeper.wake_ns
    return Need(
        model.spec,
        shortfall,
        model.wanted_ns,
        takes_ns,
        model.waiting_count,
        urgent=is_urgent(step, model),
        overdue=is_overdue(step, model),
        pinned=model.wishes.pinned,
        asleep=sleeper is not None,
    )


def record_decision(
    step: Step,
    device: Device,
    need: Need,
    victims: Sequence[Replica],
    selection: Selection,
    *,
    gain: float | None = None,
) -> None:
    """Leave word of why these give way; `gain` is what that is worth where nobody waits."""
    state = step.state
    state.counters["eviction_decisions"] += 1
    step.actions.append(
        EvictionDecided(
            number=state.counters["eviction_decisions"],
            device=device.spec.id,
            model=need.spec.id if need.spec else "",
            waiting=need.waiting_count,
            waited_ns=state.now_ns - need.since_ns,
            shortfall_bytes=need.shortfall_bytes,
            victims=tuple(replica.id for replica in victims),
            candidates=selection.scores,
            ahead=gain is not None,
            gain=gain or 0.0,
        )
    )


def candidates_on(
    step: Step, device: Device, *, urgent: bool, overdue: bool, settled: bool = True
) -> Iterator[Replica]:
    """Replicas that may go, least recently used first: never pinned ones, never loading ones.

    Those of models nobody waits for come first; those with a queue, busy ones, and at last what
    sleepers keep on the device, only if urgent. What is kept for a while goes only if overdue.
    Unless the budget is overrun, only those that have been ready for their minimum time.
    """
    now_ns = step.state.now_ns
    grown_ns = now_ns - (residency_ns(step) if settled else 0)

    def may_go(replica: Replica) -> bool:
        wishes = replica.model.wishes
        if wishes.kept_until_ns > now_ns and not overdue:
            return False
        return replica.ready_ns <= grown_ns and not wishes.pinned

    contested = []
    for replica in device.idle.values():  # `may_go` spelt out: there may be a thousand of them
        model = replica.model
        wishes = model.wishes
        if wishes.pinned or replica.ready_ns > grown_ns:
            continue
        if wishes.kept_until_ns > now_ns and not overdue:
            continue
        if model.queue:
            contested.append(replica)
        else:
            yield replica
    if urgent:
        yield from contested
        yield from filter(may_go, device.busy.values())
        yield from device.in_state[ReplicaState.ASLEEP].values()


def evict(step: Step, replica: Replica) -> None:
    """Let a victim go: at once, or once its work is done; a sleeper for good."""
    if replica.state is ReplicaState.ASLEEP:
        unload(step, replica, UnloadCause.DROPPED)
        return
    step.state.counters["evictions"] += 1
    if replica.running:
        close_for_work(step.state, replica, ReplicaState.DRAINING)
    else:
        give_way(step, replica)
