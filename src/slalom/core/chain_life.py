"""How chains begin, go on and end: the only functions that change the chain book.

Owns what is free when a chain is over: its announcements, and the promise to let its later calls
in. Decides nothing. Called by `transitions` and `chaining`, and by `ending` for each call's end.
"""

from collections.abc import Sequence

from slalom.core.chain import Later, Link
from slalom.core.chain_book import Chain, ChainName
from slalom.core.entities import RequestRecord
from slalom.core.params import SchedulerParams
from slalom.core.state import State


def open_chain(state: State, params: SchedulerParams, name: ChainName, link: Link) -> Chain:
    """Remember a chain; where there are too many, the one unheard of for longest is forgotten."""
    oldest = state.chains.oldest()
    if oldest is not None and len(state.chains) >= params.chains_max:
        forget_chain(state, oldest, "crowded_out")
    chain = Chain(name, link, state.now_ns)
    state.chains.add(chain)
    state.counters["chains_opened"] += 1
    _announce(state, chain, link.rest)
    return chain


def join_chain(state: State, params: SchedulerParams, record: RequestRecord, link: Link) -> None:
    """A request is a call of a chain, which begins with it if nobody knows it."""
    name = (record.request.key, link.chain)
    chain = state.chains.find(name)
    if chain is None:
        chain = open_chain(state, params, name, link)
        chain.admitted = link.step > 1  # It was let in before it was forgotten, or elsewhere.
    record.chain = chain
    chain.live[record.request.id] = record
    chain.step, chain.steps = max(chain.step, link.step), link.steps
    chain.due_ns = state.now_ns
    state.chains.heard(chain, state.now_ns)
    if not chain.over:
        _announce(state, chain, link.rest)


def leave_chain(state: State, record: RequestRecord, *, done: bool) -> None:
    """A call of a chain has ended.

    The chain ends with the last one, and with a first one that was not let in; else the next call
    is expected after its gap.
    """
    chain, link = record.chain, record.request.link
    record.chain = None
    if chain is None or link is None:
        return
    chain.live.pop(record.request.id, None)
    state.chains.heard(chain, state.now_ns)
    if done and link.is_last:
        end_chain(state, chain, "done")
    elif chain.over and not chain.live:
        forget_chain(state, chain, chain.over)
    elif not chain.admitted and not chain.live:
        forget_chain(state, chain, "refused")
    elif done and not chain.over and link.step == chain.step:
        chain.due_ns = state.now_ns + (link.rest[0].gap_ns if link.rest else 0)
        _announce(state, chain, link.rest)


def end_chain(state: State, chain: Chain, how: str) -> None:
    """A chain is over: free what is held for it. It is known as long as requests of it live."""
    if not chain.live:
        forget_chain(state, chain, how)
        return
    chain.over, chain.admitted = how, False
    _announce(state, chain, ())


def forget_chain(state: State, chain: Chain, how: str) -> list[RequestRecord]:
    """Nothing is left of a chain; its requests that have not ended are now like any others."""
    state.counters[f"chains_{how}"] += 1
    records = list(chain.live.values())
    for record in records:
        record.chain = None
    chain.live.clear()
    _tell_models(state, state.chains.remove(chain))
    return records


def _announce(state: State, chain: Chain, rest: Sequence[Later]) -> None:
    _tell_models(state, state.chains.announce(chain, rest))


def _tell_models(state: State, names: Sequence[str]) -> None:
    """Let the views of these models show who is going to ask for them."""
    for name in names:
        model = state.models.get(name)
        if model is not None:
            model.announced = state.chains.announced(name)
            if model.announced and state.forerunner is not None:
                model.device.remember(model)
                state.dirty[model.device.spec.id] = model.device
