"""The outside checker's rules for sleeping and waking, and what their events mean.

Owns the rules alone; what is seen stands in `checker_books`. Called by `checker` (actions) and by
`checker_events` (events, time).
"""

from collections.abc import Callable, Iterator

from slalom.core.actions import LoadReplica, SleepReplica, UnloadCause, WakeReplica
from slalom.core.params import SchedulerParams
from slalom.testing.checker_books import Books, Rest, SeenReplica

#: Told whether a rule holds, its name, and what it is about.
Require = Callable[[bool, str, object], None]


def judge_sleep(
    action: SleepReplica, books: Books, params: SchedulerParams, now_ns: int, require: Require
) -> None:
    """A replica is put to sleep: it is free, may sleep, and its host memory is there."""
    replica = books.replicas.get((action.replica_id, action.epoch))
    require(replica is not None, "put to sleep only what exists", action)
    assert replica is not None
    model = replica.model
    require(replica.usable, "put to sleep only what is ready", (action, replica))
    require(not replica.running, "what is busy is never put to sleep", action)
    shrunk = action.cause is UnloadCause.SCALED and model.id in books.shrunk
    require(shrunk or model.id not in books.pinned, "what is pinned never sleeps", action)
    deeper = action.level == 2 and model.deep_wake_ns > 0
    require(deeper or action.level == model.sleep_level > 0, "sleep as the model can", action)
    require(action.turn == replica.turn + 1, "turns count up", action)
    young = now_ns - replica.ready_ns < params.min_residency_ns
    asked = books.sent_away_ns.get(model.id, -1) >= 0
    require(not young or asked, "minimum residency before a sleep", action)
    replica.turn = action.turn
    replica.rest, replica.rest_since_ns = Rest.DOZING, now_ns
    replica.host_bytes = model.host_bytes if action.level == model.sleep_level else 0
    host = books.devices.get(books.devices[replica.device].host)
    if host is not None and replica.host_bytes:
        booked = books.booked_bytes(host.id)
        require(booked <= host.budget_bytes, "host memory within its budget", (action, booked))
    else:
        require(not replica.host_bytes, "host memory for what sleeps in it", action)


def judge_wake(
    action: WakeReplica, books: Books, params: SchedulerParams, now_ns: int, require: Require
) -> None:
    """A replica is woken: it sleeps, somebody waits, and its device has room for all of it."""
    replica = books.replicas.get((action.replica_id, action.epoch))
    require(replica is not None, "wake only what exists", action)
    assert replica is not None
    model = replica.model
    require(replica.is_asleep, "wake only what sleeps", (action, replica))
    require(action.ahead or books.wanted(model), "wake only what is wanted", action)
    if action.ahead:
        judge_ahead(action, replica.device, books, require)
    require(action.turn == replica.turn + 1, "turns count up", action)
    rested = now_ns - books.load_failed_ns.get(model.id, -params.load_backoff_ns)
    require(rested >= params.load_backoff_ns, "a failed wake backs off", action)
    added = books.bytes_to_book(model) - replica.booked_bytes
    replica.turn = action.turn
    replica.rest, replica.rest_since_ns = Rest.WAKING, now_ns
    replica.booked_bytes += added
    booked, budget = books.booked_bytes(replica.device), books.budget_bytes(replica.device)
    require(booked <= budget or not added, "a wake within the budget", (action, booked, budget))


def judge_ahead(
    action: LoadReplica | WakeReplica, device: str, books: Books, require: Require
) -> None:
    """Nothing comes up ahead of its requests while others wait for memory there."""
    unmet = [
        model.id
        for model in books.models.values()
        if model.homes == (device,) and books.waiting(model.id)
        if all(one.leaving or one.rests or one.outdated for one in books.of_model(model.id))
    ]
    require(not unmet, "those who wait come before those who may", (action, unmet))


def asleep(replica: SeenReplica | None, turn: int, now_ns: int) -> None:
    """It says that it sleeps: its device's bytes are free, but for what it keeps."""
    if replica is None or replica.leaving or replica.failed:
        return
    if replica.rest is Rest.DOZING and replica.turn == turn:
        replica.rest, replica.rest_since_ns = Rest.ASLEEP, now_ns
        replica.booked_bytes = min(replica.model.residual_bytes, replica.booked_bytes)


def awake(replica: SeenReplica, now_ns: int) -> None:
    """It says that it has woken: its host memory is free."""
    replica.rest, replica.rest_since_ns = Rest.AWAKE, now_ns
    replica.ready_ns = now_ns
    replica.host_bytes = 0


def due_ns(replica: SeenReplica, params: SchedulerParams) -> Iterator[int]:
    """When falling asleep or waking must be over."""
    if replica.rest is Rest.DOZING:
        yield replica.rest_since_ns + params.sleep_timeout_ns
    elif replica.rest is Rest.WAKING:
        yield replica.rest_since_ns + params.load_timeout_ns
