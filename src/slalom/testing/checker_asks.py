"""The outside checker's rules for what people ask of models, and for how replicas leave.

Owns the rules alone; what is seen stands in `checker_books`. Called by `checker` (actions) and by
`checker_events` (events).
"""

from collections.abc import Iterator

from slalom.core.actions import (
    AskRefused,
    EvictionDecided,
    LoadReplica,
    SizeDecided,
    UnloadCause,
    UnloadReplica,
)
from slalom.core.events import Ask, ModelAsked
from slalom.core.params import SchedulerParams
from slalom.core.request import ModelSpec, Swap
from slalom.testing.checker_books import Books, Rest, SeenReplica
from slalom.testing.checker_reload import due_ns as retired_due_ns
from slalom.testing.checker_reload import judge_outdated
from slalom.testing.checker_sleep import Require, judge_ahead

_UP = (Ask.LOAD, Ask.WAKE)
_AWAY = (Ask.SLEEP, Ask.UNLOAD)


def take_ask(event: ModelAsked, books: Books, now_ns: int) -> None:
    """What an operator wants holds, unless it is refused."""
    if event.model in books.models and event.what is Ask.PIN:
        books.pinned.setdefault(event.model, event.ask_id)
    elif event.what is Ask.UNPIN:
        books.unpinned[event.ask_id] = event.model in books.pinned
        books.pinned.pop(event.model, None)
    elif event.what in _UP:
        up = any(one.usable for one in books.of_model(event.model))
        books.asked_before[event.ask_id] = books.asked.get(event.model)
        books.asked[event.model] = (event.ask_id, -1 if up else now_ns)
    elif event.what in _AWAY:
        books.sent_away_ns[event.model] = now_ns
    books.asks[event.ask_id] = event


def judge_refusal(action: AskRefused, books: Books, require: Require) -> None:
    """An ask is refused once, and then nothing of it holds."""
    ask = books.asks.pop(action.ask_id, None)
    require(ask is not None, "refuse only what was asked, and once", action)
    assert ask is not None
    require((ask.model, ask.what) == (action.model, action.what), "refuse what was asked", action)
    if action.what is Ask.PIN and books.pinned.get(action.model) == action.ask_id:
        del books.pinned[action.model]
    elif action.what is Ask.UNPIN and books.unpinned.get(action.ask_id):
        books.pinned[action.model] = action.ask_id
    elif books.asked.get(action.model, ("", 0))[0] == action.ask_id:
        del books.asked[action.model]
        before = books.asked_before.get(action.ask_id)
        if before is not None and before[0] in books.asks:
            books.asked[action.model] = before


def judge_decision(action: EvictionDecided, books: Books, require: Require) -> None:
    """Nobody suffers for requests that do not allow it."""
    waiting = books.waiting(action.model)
    if action.ahead:
        scores = {one.replica_id: one.score for one in action.candidates}
        lost = sum(scores[name] for name in action.victims)
        require(lost < action.gain, "what is worth more stays", (action, lost))
    if not waiting or action.model in books.pinned or action.model in books.asked:
        return
    spec = books.models[action.model]
    allowed = {one.request.allow_swap for one in waiting}
    never = spec.swap is Swap.NEVER or allowed == {Swap.NEVER}
    require(not never, "nobody gives way where no swap is allowed", action)
    if spec.swap is Swap.NORMAL and Swap.NORMAL in allowed:
        return
    busy = [one for one in books.replicas.values() if one.key[0] in action.victims and one.running]
    require(not busy, "only what idles gives way where that was said", (action, busy))


def judge_place(action: LoadReplica, model: ModelSpec, books: Books, require: Require) -> str:
    """A wanted model comes up on one of its devices, which is told, and beside no rival."""
    names = {life.key[0] for life in books.of_model(model.id)}
    require(action.replica_id not in names, "one life of a name at a time", action)
    require(action.ahead or books.wanted(model), "load only what is wanted", action)
    device = action.device or model.device
    staying = [one for one in books.of_model(model.id) if not (one.leaving or one.outdated)]
    loading = any(life.ready_ns < 0 for life in staying)
    sized = books.sized.get(model.id, 0) > len(staying)
    found = action.ahead and books.found.get(model.id, 0) > 0
    if found:
        books.found[model.id] -= 1
    require(not loading or sized or found, "no double load", action)
    require(device in model.homes, "a replica is where its model may be", action)
    named = (len(model.homes) > 1) == bool(action.device)
    require(named, "where there is a choice, it is told", action)
    rivals = [
        one
        for one in books.replicas.values()
        if one.device == device and one.model.id != model.id
        if not set(model.apart).isdisjoint(one.model.apart) and not one.is_asleep
    ]
    require(not rivals, "what must be apart is never up together", (model.id, rivals))
    if action.ahead:
        judge_ahead(action, device, books, require)
    return device


def judge_size(action: SizeDecided, books: Books, require: Require) -> None:
    """A decided size is a change, within what the model may have."""
    most = books.models[action.model].replicas
    require(0 <= action.replicas <= most, "a size within bounds", action)
    require(action.replicas != books.sized.get(action.model), "a new size is another one", action)
    books.sized[action.model] = action.replicas


def due_ns(books: Books, params: SchedulerParams) -> Iterator[int]:
    """When an ask that came to nothing is to be refused, or what was removed is to have ended."""
    yield from retired_due_ns(books)
    for model_id, (ask_id, asked_ns) in books.asked.items():
        if asked_ns >= 0 and ask_id in books.asks and not books.of_model(model_id):
            yield asked_ns + params.queue_timeout_ns


def judge_leaving(
    action: UnloadReplica,
    replica: SeenReplica,
    books: Books,
    params: SchedulerParams,
    now_ns: int,
    require: Require,
) -> None:
    """A replica ends although it has not failed and nothing shuts down."""
    model, cause = replica.model, action.cause
    if cause in {UnloadCause.REPLACED, UnloadCause.REMOVED}:
        judge_outdated(action, replica, books, now_ns, require)
        return
    if cause is UnloadCause.UNWANTED:
        require(replica.ready_ns < 0, "unwanted is a load", action)
        asked = books.asked.get(model.id, ("", -1))[1] >= 0
        wanted = model.id in books.pinned or asked or bool(books.waiting(model.id))
        require(not wanted, "unwanted by all", action)
        return
    if cause is UnloadCause.DROPPED:
        require(replica.rest is Rest.ASLEEP, "dropped only if it sleeps", action)
        return
    sent_ns = books.sent_away_ns.get(model.id, -1)
    rests = replica.rest is Rest.ASLEEP and cause in {UnloadCause.ASKED, UnloadCause.IDLE}
    up = replica.ready_ns >= 0 and replica.rest is Rest.AWAKE
    require(up or rests, "a load, a sleep or a wake is never evicted", action)
    require(not replica.running, "what is busy is never evicted", action)
    shrunk = cause is UnloadCause.SCALED and model.id in books.shrunk
    require(shrunk or model.id not in books.pinned, "what is pinned is never evicted", action)
    if cause is UnloadCause.ASKED:
        require(sent_ns >= 0, "asked only if asked for", action)
        return
    if cause is UnloadCause.SCALED:
        decided = model.id in books.sized or model.id in books.shrunk
        require(decided, "scaled only where sizes are decided", action)
    if cause is UnloadCause.IDLE:
        limited = model.idle_sleep_ns or model.idle_unload_ns or books.keeps
        require(bool(limited), "idle only where idling is limited", action)
        require(not books.waiting(model.id) or sent_ns >= 0, "idle only if idle", action)
    young = now_ns - replica.ready_ns < params.min_residency_ns
    forced = books.was_overrun(replica.device, replica.ready_ns)
    require(not young or forced, "minimum residency", action)
