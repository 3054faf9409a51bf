"""The benchmark of `handle` keeps its states steady, counts every call and writes its page.

How fast it is stands in docs/benchmarks/handle.md; nothing here asserts a speed.
"""

from pathlib import Path

import pytest

from slalom.bench.handle import main, measure
from slalom.bench.handle_report import Cell, growth_exponent, quantile_us, render
from slalom.bench.handle_states import busy, pressed
from slalom.core.invariants import check


def test_a_busy_state_stays_busy() -> None:
    state = busy(queue=50, replicas=20)
    for _ in range(100):
        state.cycle()
        check(state.scheduler.state)
    snapshot = state.scheduler.snapshot()
    assert (snapshot.waiting, snapshot.running) == (50, 160)
    assert {len(model.replicas) for model in snapshot.models} == {10}
    told = {"FirstToken", "Progress", "AttemptFinished", "RequestArrived"}
    assert told <= set(state.costs_ns)


def test_a_pressed_state_keeps_swapping() -> None:
    state = pressed(queue=30, replicas=5)
    for _ in range(600):
        state.cycle()
        check(state.scheduler.state)
    counters = dict(state.scheduler.snapshot().counters)
    assert counters["evictions"] > 3
    assert {"ReplicaReady", "ReplicaGone", "TimerFired", "RequestCancelled"} <= set(state.costs_ns)
    assert state.waiting_count == 30


def test_growth_is_the_exponent_of_a_power_law() -> None:
    assert growth_exponent([(10, 5.0), (100, 5.0), (1_000, 5.0)]) == pytest.approx(0.0)
    assert growth_exponent([(10, 1.0), (1_000, 100.0)]) == pytest.approx(1.0)


def test_the_page_shows_every_cell() -> None:
    cells = [
        Cell("State", queue, replicas, {"FirstToken": [1_000 * queue], "Progress": [3_000 * queue]})
        for replicas in (1, 100)
        for queue in (10, 20)
    ]
    page = render(cells, "the command")
    assert "| 100 | 30.0 / 20.0 / 30.0 | 60.0 / 40.0 / 60.0 |" in page
    assert "queue^+1.00 at 100 replicas, replicas^+0.00 at a queue of 20" in page
    assert "the command" in page
    assert quantile_us([1_000, 2_000], 0.99) == 2.0


def test_the_command_writes_its_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = measure([5, 9], [1, 10], cycles=10)
    monkeypatch.setattr("slalom.bench.handle.measure", lambda *sizes, **rounds: cells)
    main(["--quick", "--write", str(tmp_path / "page.md")])
    assert (tmp_path / "page.md").read_text() == capsys.readouterr().out
