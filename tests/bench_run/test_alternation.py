"""The alternation benchmark: what a request's time goes to, and a small run with real engines."""

from pathlib import Path

import pytest

from slalom.bench.alternation import Alternation, Start, Turn, measure
from slalom.bench.alternation_phases import Phases, phases_of
from slalom.bench.alternation_report import render
from slalom.core.actions import LoadReplica, UnloadCause, UnloadReplica
from slalom.core.events import FirstToken, ReplicaGone, ReplicaReady, RequestArrived
from slalom.core.journal import Entry
from slalom.core.request import Request, Sla
from slalom.units import GIB, MIB, MS


def _arrives(request_id: str, model: str) -> RequestArrived:
    return RequestArrived(Request(request_id, model, "chat", Sla(), 0, 1, 1, 1))


def test_the_phases_of_a_swap_are_bounded_by_what_the_scheduler_did() -> None:
    entries = [
        Entry(10, (_arrives("x", "a"),), ()),
        Entry(15, (FirstToken("x", 1),), ()),
        Entry(100, (_arrives("r", "b"),), ()),
        Entry(130, (), (UnloadReplica("a#0", 1, UnloadCause.EVICTED),)),
        Entry(170, (ReplicaGone("a#0", 1),), (LoadReplica("b#0", 2, "b"),)),
        Entry(400, (ReplicaReady("b#0", 2),), ()),
        Entry(450, (FirstToken("r", 1),), ()),
    ]
    found = phases_of(entries)
    assert found == {"x": Phases(0, 0, 0, 5), "r": Phases(30, 40, 230, 50)}
    assert found["r"].total_ns == 350


def test_a_load_into_free_memory_has_neither_drain_nor_free() -> None:
    entries = [
        Entry(0, (_arrives("r", "b"),), (LoadReplica("b#0", 1, "b"),)),
        Entry(90, (ReplicaReady("b#0", 1),), ()),
        Entry(100, (FirstToken("r", 1),), ()),
        Entry(110, (FirstToken("nobody", 1),), ()),
    ]
    assert phases_of(entries) == {"r": Phases(0, 0, 90, 10)}


def test_the_page_shows_medians_by_start() -> None:
    turns = tuple(
        Turn(Start.COLD, whole * MS, Phases(MS, 2 * MS, 3 * MS, 4 * MS)) for whole in (20, 10, 300)
    )
    page = render(Alternation(turns, 500 * MIB, 2 * GIB, GIB, not_cold=4), "the command")
    assert "| cold | 3 | 1.0 | 2.0 | 3.0 | 4.0 | **20.0** (10.0 – 300) |" in page
    assert "4 cold starts are missing" in page
    assert "Command: `the command`" in page


@pytest.mark.live
@pytest.mark.slow
async def test_a_small_run_swaps_at_every_start_but_the_resident(tmp_path: Path) -> None:
    found = await measure(tmp_path, parameters=4_000_000, rounds=1)
    by_start = {start: [turn for turn in found.turns if turn.start is start] for start in Start}
    for start in (Start.PAGE_CACHE, Start.BUSY, Start.RESIDENT):
        assert len(by_start[start]) == 2
    assert len(by_start[Start.COLD]) + found.not_cold == 2
    for turn in found.turns:
        swapped = turn.start is not Start.RESIDENT
        assert (turn.phases.map_ns > 0) == swapped
        assert (turn.phases.free_ns > 0) == swapped
        assert turn.client_ns >= turn.phases.first_token_ns > 0
        if turn.start is Start.BUSY:
            assert turn.phases.drain_ns > 0
