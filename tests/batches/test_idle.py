"""Room for lines is what clients leave idle."""

from typing import Any

import pytest

from slalom.core.snapshot import (
    DeviceSnapshot,
    ModelSnapshot,
    ModelState,
    ReplicaSnapshot,
    ReplicaState,
    Snapshot,
)
from slalom.gateway.batches.idle import PATIENCE_NS, QUIET_NS, RECENT_NS, IdlePlaces, ModelPlace

#: Requests of clients in the server; enough for whatever a snapshot shows.
CLIENTS = 9


def replica(state: ReplicaState = ReplicaState.READY, running: int = 0) -> ReplicaSnapshot:
    return ReplicaSnapshot("r", 1, state, running, 10, 0, -1, 1.0, 0)


def model(name: str = "a", *, waiting: int = 0, running: int = 0, ready: int = 1) -> ModelSnapshot:
    replicas = tuple(replica(running=running if not n else 0) for n in range(ready))
    state = ModelState.READY if ready else ModelState.COLD
    return ModelSnapshot(name, state, waiting, running, 1.0, -1, -1, "", replicas)


def snapshot(*models: ModelSnapshot, free: int = 0, running: int = 0) -> Snapshot:
    device = DeviceSnapshot("host", 100, 100 - free, 0, running)
    return Snapshot(0, False, 0, 0, 0, models, (device,), ())


def idle(*, places: int = 4, window: int = 0, spare: int = 1, **more: Any) -> IdlePlaces:
    names = ("a", "b")
    models = {name: ModelPlace("host", places, bytes_needed=50) for name in names}
    return IdlePlaces(models, {"host": window}, spare, **more)


@pytest.mark.parametrize(
    ("running", "ours", "spare", "room"),
    [
        (0, 0, 1, 3),  # one is left for the next client
        (0, 0, 0, 4),
        (2, 0, 1, 1),
        (3, 0, 1, 0),
        (4, 0, 1, 0),
        (3, 3, 1, 0),
        (3, 3, 0, 1),
        (2, 1, 0, 0),  # beside clients, an eighth of the places: one
    ],
)
def test_only_free_places(running: int, ours: int, spare: int, room: int) -> None:
    found = idle(spare=spare).rooms(snapshot(model(running=running)), {"a": ours}, CLIENTS, 0)
    assert found == {"a": room}


def test_the_last_place_is_never_spared() -> None:
    assert idle(places=1).rooms(snapshot(model()), {"a": 0}, CLIENTS, 0) == {"a": 1}
    assert idle(places=4, spare=9).rooms(snapshot(model()), {"a": 0}, CLIENTS, 0) == {"a": 1}


def test_replicas_count_together() -> None:
    assert idle().rooms(snapshot(model(ready=2)), {"a": 0}, CLIENTS, 0) == {"a": 7}


def test_a_devices_window_is_shared() -> None:
    both = (model("a"), model("b"))
    found = idle(window=3).rooms(snapshot(*both), {"a": 0, "b": 0}, CLIENTS, 0)
    assert sum(found.values()) == 2
    assert idle(window=3).rooms(snapshot(*both, running=2), {"a": 0}, CLIENTS, 0) == {"a": 0}


def test_none_while_others_wait_and_after_a_while_ours_give_way() -> None:
    look = idle(beside_share=1.0)
    busy = {"a": 3}
    now = snapshot(model(waiting=2, running=4))
    assert look.rooms(now, busy, CLIENTS, 0) == {"a": 0}
    assert look.rooms(now, busy, CLIENTS, PATIENCE_NS) == {"a": -2}
    assert look.rooms(snapshot(model(running=4)), busy, CLIENTS, PATIENCE_NS) == {"a": 0}
    late = look.rooms(now, busy, CLIENTS, PATIENCE_NS + 1)
    assert late == {"a": 0}, "patience begins anew"


def test_beside_clients_lines_have_a_share_of_the_places() -> None:
    look = idle(places=16, beside_share=0.25)
    both = snapshot(model(running=11))
    assert look.rooms(both, {"a": 10}, CLIENTS, 0) == {"a": 0}
    assert look.rooms(both, {"a": 10}, CLIENTS, PATIENCE_NS) == {"a": -6}
    assert look.rooms(snapshot(model(running=4)), {"a": 3}, CLIENTS, PATIENCE_NS) == {"a": 1}
    alone = snapshot(model(running=3))
    assert look.rooms(alone, {"a": 3}, 0, PATIENCE_NS + RECENT_NS - 1) == {"a": 1}
    assert look.rooms(alone, {"a": 3}, 0, PATIENCE_NS + RECENT_NS) == {"a": 12}


def test_beside_clients_there_may_be_none() -> None:
    look = idle(beside_share=0.0)
    assert look.rooms(snapshot(model(running=1)), {"a": 0}, CLIENTS, 0) == {"a": 0}
    assert look.rooms(snapshot(model(running=2)), {"a": 1}, CLIENTS, PATIENCE_NS) == {"a": -1}
    assert look.rooms(snapshot(model()), {"a": 0}, 0, PATIENCE_NS + RECENT_NS) == {"a": 3}


def test_a_client_that_was_served_between_two_looks_is_known() -> None:
    look = idle(places=16, beside_share=0.25)
    look.seen("a", 0)
    look.seen("another server's", 0)
    assert look.rooms(snapshot(model()), {"a": 0}, 0, 1) == {"a": 4}
    assert look.rooms(snapshot(model()), {"a": 0}, 0, RECENT_NS) == {"a": 15}


def test_lines_that_have_just_ended_are_no_clients() -> None:
    look = idle()
    ended = snapshot(model(running=4, waiting=1))
    assert look.rooms(ended, {"a": 3}, 0, 0) == {"a": 0}
    assert look.rooms(ended, {"a": 3}, 0, PATIENCE_NS) == {"a": 0}
    assert look.rooms(snapshot(model(running=2)), {"a": 2}, 0, PATIENCE_NS) == {"a": 1}


def test_who_waits_for_another_resident_model_stops_starts_but_takes_no_place() -> None:
    look = idle(beside_share=1.0)
    both = (model("a", running=1), model("b", waiting=1, running=4))
    assert look.rooms(snapshot(*both), {"a": 1}, CLIENTS, 0) == {"a": 0}
    assert look.rooms(snapshot(*both), {"a": 1}, CLIENTS, PATIENCE_NS) == {"a": 0}


def test_a_model_that_needs_the_memory_makes_ours_give_way() -> None:
    look = idle(beside_share=1.0)
    both = (model("a", running=2), model("b", waiting=1, ready=0))
    assert look.rooms(snapshot(*both), {"a": 2}, CLIENTS, 0) == {"a": 0}
    assert look.rooms(snapshot(*both), {"a": 2}, CLIENTS, PATIENCE_NS) == {"a": -1}


def test_what_waits_is_ours_where_ours_do_not_run() -> None:
    found = idle().rooms(snapshot(model(waiting=1, ready=0)), {"a": 1}, CLIENTS, 0)
    assert found == {"a": 0}, "our own line took itself for a client"


def test_a_model_is_loaded_for_one_line_when_nobody_minds() -> None:
    cold = model("a", ready=0)
    assert idle().rooms(snapshot(cold), {"a": 0}, CLIENTS, 0) == {"a": 1}
    look = idle()
    used = model("b", running=1)
    assert look.rooms(snapshot(cold, used), {"a": 0}, CLIENTS, 0) == {"a": 0}, "b would be evicted"
    assert look.rooms(snapshot(cold, model("b")), {"a": 0}, CLIENTS, QUIET_NS - 1) == {"a": 0}
    assert look.rooms(snapshot(cold, used, free=50), {"a": 0}, CLIENTS, 0) == {"a": 1}, "both fit"
    look = idle()
    look.rooms(snapshot(cold, used), {"a": 0}, CLIENTS, 0)
    assert look.rooms(snapshot(cold, model("b")), {"a": 0}, CLIENTS, QUIET_NS) == {"a": 1}


def test_a_model_that_is_gone_is_asked_line_by_line() -> None:
    look = idle()
    assert look.rooms(snapshot(), {"gone": 0}, CLIENTS, 0) == {"gone": 1}
    assert look.rooms(snapshot(), {"gone": 1}, CLIENTS, 0) == {"gone": 0}
