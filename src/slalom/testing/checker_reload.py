"""The outside checker's rules for reloads: models come, change and go, and the others are left.

Owns the reading of `ConfigChanged` into the books, and the rules for what ends because of it.
Called by `checker` and `checker_asks` (actions, time) and by `checker_events` (the event).
"""

from collections.abc import Iterator
from dataclasses import fields

from slalom.core.actions import EndRequest, Reason, UnloadCause, UnloadReplica
from slalom.core.events import Ask, ConfigChanged, ModelAsked
from slalom.core.request import ModelSpec
from slalom.testing.checker_books import Books, SeenReplica
from slalom.testing.checker_sleep import Require

#: What a replica is: one that was loaded with another value of these is another one.
_NATURE = (
    "device",
    "devices",
    "bytes_needed",
    "places",
    "sleep_level",
    "host_bytes",
    "residual_bytes",
)


def take_change(event: ConfigChanged, books: Books, now_ns: int) -> None:
    """Models come, change and go; all others are as they were."""
    assert {field.name for field in fields(ModelSpec)}.issuperset(_NATURE)
    for name in event.removed:
        if name in books.models and name not in books.retiring_ns:
            books.retiring_ns[name] = now_ns + event.drain_ns
            _forget_wishes(books, name)
    others = {spec.id for spec in (*event.replaced, *event.added)}
    for spec in {one.id: one for one in (*event.adjusted, *event.replaced, *event.added)}.values():
        old = books.models.get(spec.id)
        operator = old is not None and not old.pinned and spec.id in books.pinned
        if old is not None and old.pinned:
            books.pinned.pop(spec.id, None)
        nature = old is not None and any(
            getattr(old, name) != getattr(spec, name) for name in _NATURE
        )
        if old is None or spec.id in others or nature:
            _begin_anew(books, spec.id)
        if old is not None and spec.replicas < old.replicas:
            books.shrunk.add(spec.id)
        books.models[spec.id] = spec
        for life in books.of_model(spec.id):
            if not life.outdated:
                life.model = spec
        if spec.pinned or operator:
            ask_id = f"{event.reload_id}/{spec.id}"
            books.pinned[spec.id] = ask_id
            books.asks[ask_id] = ModelAsked(spec.id, Ask.PIN, ask_id)


def _forget_wishes(books: Books, name: str) -> None:
    books.pinned.pop(name, None)
    books.asked.pop(name, None)
    books.sized.pop(name, None)


def _begin_anew(books: Books, name: str) -> None:
    """What is known of its engine is of no more use, nor are its replicas."""
    books.retiring_ns.pop(name, None)
    books.learned_bytes.pop(name, None)
    books.load_failed_ns.pop(name, None)
    books.sized.pop(name, None)
    for life in books.of_model(name):
        life.outdated = True


def judge_outdated(
    action: UnloadReplica, replica: SeenReplica, books: Books, now_ns: int, require: Require
) -> None:
    """A replica ends because of a reload: it was to, and has nothing left to do."""
    name = replica.model.id
    require(not replica.running, "what is busy ends first, or is stopped", action)
    if action.cause is UnloadCause.REPLACED:
        require(replica.outdated, "replaced only with another engine", action)
        return
    require(name in books.retiring_ns, "removed only by a reload", action)
    over = books.retiring_ns.get(name, now_ns) <= now_ns
    require(over or not books.waiting(name), "what waits for it is served first", action)


def judge_no_model(action: EndRequest, books: Books, now_ns: int, require: Require) -> None:
    """A request ends because its model is not there, or was taken away: no sooner than was said."""
    if action.reason == Reason.UNKNOWN_MODEL:
        known = action.model in books.models and action.model not in books.retiring_ns
        require(not known, "unknown only if unknown", action)
        return
    due_ns = books.retiring_ns.get(action.model)
    require(due_ns is not None and due_ns <= now_ns, "the time that was left is over", action)


def judge_retired(books: Books, now_ns: int, require: Require) -> None:
    """Once the time is over, nothing waits or runs for a model that was taken away."""
    over = {name for name, due_ns in books.retiring_ns.items() if due_ns <= now_ns}
    late = [one for one in books.requests.values() if over and one.request.model in over]
    require(not late, "a removed model's requests end in time", late)


def due_ns(books: Books) -> Iterator[int]:
    """When what still waits or runs for removed models is ended."""
    for request in books.requests.values():
        if (retired_ns := books.retiring_ns.get(request.request.model)) is not None:
            yield retired_ns
