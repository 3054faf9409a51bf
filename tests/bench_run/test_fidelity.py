"""The fidelity comparison itself: its loads, its way from a journal to the twin, its page."""

import asyncio
import math
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from slalom.bench.fidelity import POLICIES, measure
from slalom.bench.fidelity_cores import Disturbance, separate_cores
from slalom.bench.fidelity_direct import EngineClock, Options, measure_direct, table
from slalom.bench.fidelity_load import Sizes, load, saturated_per_s, tasks_for
from slalom.bench.fidelity_report import Cell, page
from slalom.bench.fidelity_twin import from_sending, read_journal, replayed, way_ns
from slalom.core.policy import Policies
from slalom.core.request import DeviceSpec, ModelSpec, Request
from slalom.errors import SlalomError
from slalom.journal.codec import header_for
from slalom.metrics.records import Fate, RequestRecord
from slalom.metrics.results import RunResult
from slalom.policies.registry import POLICIES as KINDS
from slalom.policies.registry import build
from slalom.twin.engine_specs import LlamaCppEngine
from slalom.twin.run import build_scheduler, run
from slalom.twin.scenario import Arrival, LoadLaw, Scenario, TwinModel
from slalom.twin.step_time import StepProfile
from slalom.units import MS, SECOND, US

NAMES = ("TTFT", "TPOT", "E2E")
ENGINE = LlamaCppEngine(
    StepProfile(
        "x",
        dense_flat_ns=MS,
        dense_ns_per_token=50 * US,
        decode_seq_ns=300 * US,
        ingest_ns=500 * US,
    ),
    prefix_caching=False,
)


def test_targets_hold_alone_and_an_overload_is_over_what_the_engine_can_do() -> None:
    tasks = tasks_for(ENGINE)
    alone_ms = ENGINE.alone_ns(300, 64) / MS
    assert tasks["generation"].ttft_ms is not None
    assert tasks["generation"].ttft_ms > ENGINE.alone_ns(300, 1) / MS
    assert tasks["completion"].e2e_ms is not None
    assert tasks["completion"].e2e_ms > ENGINE.alone_ns(180, 16) / MS
    rate = saturated_per_s(ENGINE, "m", 0)
    assert 1_000 / alone_ms < rate < 100_000 / alone_ms
    items = load("m", tasks, 2 * rate, 5.0, 0)
    assert items == load("m", tasks, 2 * rate, 5.0, 0)
    assert len(items) == pytest.approx(10 * rate, rel=0.5)


def _policies(**kinds: str) -> Policies:
    chosen = {slot: build(slot, kinds.get(slot, next(iter(KINDS[slot])))) for slot in KINDS}
    return Policies(**chosen)  # type: ignore[arg-type]  # slots match


def test_a_journal_played_again_by_the_same_engine_gives_the_same_times() -> None:
    tasks = tasks_for(ENGINE)
    items = {item.id: item for item in load("m", tasks, 40.0, 3.0, 7)}
    model = ModelSpec("m", "host", 1_000, 4, pinned=True)
    began_ns = 5 * SECOND
    scenario = Scenario(
        models=(TwinModel(model, load=LoadLaw(700 * MS, 1 << 60), engine=ENGINE),),
        devices=(DeviceSpec("host", 10_000),),
        arrivals=[
            Arrival(
                Request(
                    item.id,
                    "m",
                    item.task,
                    item.sla,
                    item.at_ns + began_ns,
                    item.prompt_tokens,
                    item.max_tokens,
                    item.predicted_tokens,
                ),
                item.output_tokens,
            )
            for item in items.values()
        ],
        policies=_policies(admission="drop-late", ordering="edf"),
    )
    scheduler = build_scheduler(scenario)
    header = header_for(scheduler)
    first = run(scenario, scheduler=scheduler)
    again = replayed(header, first.entries, items, ENGINE)
    assert len(again) == len(items)
    ends = {end.request_id: end for end in first.ends}
    for record in again:
        end = ends[record.request_id]
        assert record.ended_ns - record.scheduled_ns == end.ended_ns - end.arrived_ns
        assert record.output_tokens == end.output_tokens
        assert record.good == end.good


def test_the_way_between_client_and_scheduler_is_what_the_journal_does_not_have() -> None:
    item = load("m", tasks_for(ENGINE), 40.0, 1.0, 7)[0]
    model = ModelSpec("m", "host", 1_000, 4, pinned=True)
    scenario = Scenario(
        models=(TwinModel(model, load=LoadLaw(MS, 1 << 60), engine=ENGINE),),
        devices=(DeviceSpec("host", 10_000),),
        arrivals=[
            Arrival(Request(item.id, "m", item.task, item.sla, 0, 50, 10, 10), 10),
        ],
        policies=_policies(),
    )
    done = run(scenario)
    (end,) = done.ends
    took_ns = end.ended_ns - end.arrived_ns
    record = RequestRecord(
        item.id, item.task, "m", 0, 2 * MS, 5 * MS, 5 * MS + took_ns, 10, Fate.DONE, good=False
    )
    assert way_ns([record], done.entries) == 5 * MS
    sent = from_sending(record, item)
    assert (sent.e2e_ns, sent.ttft_ns) == (took_ns + 3 * MS, 3 * MS)
    assert sent.good == item.sla.held(
        arrived_ns=2 * MS, first_token_ns=5 * MS, ended_ns=record.ended_ns, output_tokens=10
    )
    assert way_ns([replace(record, fate=Fate.FAILED)], done.entries) == 0


def test_a_server_without_a_journal_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SlalomError, match="no journal"):
        read_journal(tmp_path)


def _record(number: int, ttft_ms: float, *, good: bool = True) -> RequestRecord:
    first_ns = round(ttft_ms * MS)
    return RequestRecord(
        f"r{number}", "chat", "m", 0, 0, first_ns, first_ns + 90 * MS, 10, Fate.DONE, good
    )


def _cell(policy: str, live: Sequence[RequestRecord], twin: Sequence[RequestRecord]) -> Cell:
    results = [RunResult.of(policy, 0, records, SECOND) for records in (live, twin)]
    return Cell("m", "knee", policy, 3.0, results[0], results[1], tuple(live), tuple(twin))


def test_errors_are_of_percentiles_and_goodput_in_points() -> None:
    live = [_record(n, 100, good=n < 8) for n in range(10)]
    twin = [_record(n, 110, good=n < 7) for n in range(10)]
    cell = _cell("p", live, twin)
    assert cell.error("TTFT", 50) == pytest.approx(0.1)
    assert cell.error("TPOT", 90) == pytest.approx(0.0)
    assert cell.goodput_points == pytest.approx(-0.1)
    assert math.isnan(_cell("p", [], twin).error("E2E", 50))


_CALIBRATION = {
    "m": {
        "separate_cores": True,
        "key": {"device": "a machine", "engine": "an engine"},
        "errors": [{"kind": "decode", "observations": 3, "median": 0.01, "p90": 0.02}],
        "disturbed": 0.0,
    }
}


@pytest.mark.parametrize(("twin_good", "same"), [(9, 1), (1, 0)])
def test_the_page_says_whether_policies_rank_the_same(twin_good: int, same: int) -> None:
    def records(good: int) -> list[RequestRecord]:
        return [_record(n, 100, good=n < good) for n in range(10)]

    cells = [_cell("a", records(8), records(twin_good)), _cell("b", records(5), records(5))]
    text = page(cells, _CALIBRATION, "the command")
    assert f"| ranking of policies | the same | | | {same} of 1 |" in text
    assert "Measure again" not in text
    assert "| a row |" in page(cells, _CALIBRATION, "the command", ["| a row |"])
    disturbed = [replace(cells[0], disturbed=0.4), cells[1]]
    assert "Measure again" in page(disturbed, _CALIBRATION, "the command")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_cores_are_given_back() -> None:
    before = os.sched_getaffinity(0)

    async def main() -> bool:
        async with separate_cores() as separate:
            assert len(os.sched_getaffinity(0)) == (1 if separate else len(before))
            return separate

    assert asyncio.run(main()) == (len(before) > 1)
    assert os.sched_getaffinity(0) == before


def test_what_others_take_is_a_share() -> None:
    disturbance = Disturbance()
    assert 0 <= disturbance.share() <= 1.5


@pytest.mark.skipif(sys.platform != "linux", reason="clocks of processes are named as Linux does")
def test_an_engines_clock_is_its_processor_time_while_it_has_requests() -> None:
    clock = EngineClock(os.getpid())
    before_ns = clock.now_ns()
    clock.count(1)
    busy_ns, began_ns = clock.now_ns(), time.process_time_ns()
    while time.process_time_ns() - began_ns < 5 * MS:
        pass
    spent_ns = clock.now_ns() - busy_ns
    assert spent_ns >= 5 * MS
    assert spent_ns <= time.process_time_ns() - began_ns + 5 * MS
    # Waiting takes no processor time.
    busy_ns, real_ns = clock.now_ns(), time.monotonic_ns()
    threading.Event().wait(0.1)
    assert clock.now_ns() - busy_ns < time.monotonic_ns() - real_ns
    clock.count(-1)
    idle_ns, real_ns = clock.now_ns(), time.monotonic_ns()
    threading.Event().wait(0.02)
    assert clock.now_ns() - idle_ns >= 20 * MS
    assert clock.now_ns() > before_ns


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="clocks of processes are named as Linux does")
def test_an_engine_alone_is_compared_by_its_own_time() -> None:
    sizes = Sizes(1.0, 1.0, ("light",), ("slalom-mini",))
    (cell,) = asyncio.run(measure_direct(sizes, Options(4, 2_048, 512)))
    assert len(cell.live_records) == len(cell.twin_records) > 0
    for live, told in zip(cell.live_records, cell.twin_records, strict=True):
        assert (live.request_id, live.output_tokens) == (told.request_id, told.output_tokens)
        assert live.scheduled_ns == told.scheduled_ns < live.first_token_ns <= live.ended_ns
    text = "\n".join(table([cell]))
    assert all(f"| slalom-mini | light | {cell.rate_per_s:.1f} | {name}" in text for name in NAMES)


@pytest.mark.slow
def test_a_real_engine_and_the_twin_answer_the_same_requests(tmp_path: Path) -> None:
    sizes = Sizes(1.5, 1.0, ("light",), ("slalom-mini",))
    cells, calibrations = asyncio.run(measure(sizes, tmp_path))
    assert [cell.policy for cell in cells] == list(POLICIES)
    for cell in cells:
        live = {record.request_id for record in cell.live_records}
        assert live == {record.request_id for record in cell.twin_records}
        assert cell.live.total.failed == 0
        assert all(cell.error(name, 50) > -1 for name in ("TTFT", "TPOT", "E2E"))
    assert "slalom-mini" in page(cells, calibrations, "the command")
