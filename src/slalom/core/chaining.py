"""What clients and time do to whole chains: they are opened, given up, late, or left alone.

Owns these events, and the time-outs of chains. What a chain holds is `chain_life`'s to free. Called
by `transitions`, through its table, and by `timing`.
"""

from collections.abc import Callable
from typing import Any

from slalom.core.actions import Outcome, Reason
from slalom.core.chain_life import end_chain, forget_chain, open_chain
from slalom.core.ending import end, touch
from slalom.core.events import ChainAbandoned, ChainOpened
from slalom.core.step import Step


def on_chain_opened(step: Step, event: ChainOpened) -> None:
    """Remember what is going to be asked; a chain that is known already stays as it is."""
    if step.state.chains.find((event.key, event.link.chain)) is not None:
        step.state.counters["duplicate_events"] += 1
        return
    open_chain(step.state, step.params, (event.key, event.link.chain), event.link)


def on_chain_abandoned(step: Step, event: ChainAbandoned) -> None:
    """Forget a chain, and end what waits or runs for it."""
    state = step.state
    chain = state.chains.find((event.key, event.chain))
    if chain is None:
        state.counters["stale_events"] += 1
        return
    for record in forget_chain(state, chain, "abandoned"):
        end(state, record, Outcome.CANCELLED, step.actions, reason=Reason.CHAIN_ABANDONED)


def close_due_chains(step: Step) -> None:
    """Forget chains whose deadline has passed, and those that nobody has heard of for long.

    What waits for one that is late is like any other request that is late.
    """
    state = step.state
    if not state.chains:
        return
    for late in state.chains.late(state.now_ns):
        models = {record.request.model: None for record in late.live.values()}
        end_chain(state, late, "late")
        for model in models:
            touch(state, state.models[model])
    limit_ns = state.now_ns - step.params.chain_idle_ns
    while (oldest := state.chains.oldest()) is not None and oldest.heard_ns <= limit_ns:
        if oldest.live:
            state.chains.heard(oldest, state.now_ns)
        else:
            forget_chain(state, oldest, "idle")


#: Event type -> what it does; part of `transitions`' table.
CHAIN_TRANSITIONS: dict[type, Callable[[Step, Any], None]] = {
    ChainOpened: on_chain_opened,
    ChainAbandoned: on_chain_abandoned,
}
