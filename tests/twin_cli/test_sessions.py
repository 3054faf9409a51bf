"""Sessions in the twin's world, and what the meter makes of a run."""

from dataclasses import replace
from typing import Any

import pytest
from scipy import stats

from slalom.core.actions import Outcome
from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla
from slalom.metrics.confidence import estimate
from slalom.metrics.records import Fate
from slalom.policies.registry import policies
from slalom.testing.scripted_planner import EveryLever
from slalom.twin.engine_model import StepLaw
from slalom.twin.meter import Meter
from slalom.twin.run import run
from slalom.twin.scenario import Arrival, LoadLaw, Scenario, TwinModel
from slalom.twin.timeline import Timeline
from slalom.units import MS, SECOND

#: 1 ms a prompt token, 10 ms a token of the answer however many run.
LAW = StepLaw(prefill_ns_per_token=1 * MS, token_ns=10 * MS, neighbour_ns=0)
#: Up at once.
AT_ONCE = LoadLaw(fixed_ns=0, bytes_per_s=1 << 60)


def an_arrival(name: str, at_ns: int = 0, tokens: int = 10, **other: Any) -> Arrival:
    request = Request(name, "m", "chat", Sla(e2e_ns=SECOND), at_ns, 100, tokens, tokens)
    return Arrival(request, tokens, **other)


def a_scenario(*arrivals: Arrival, places: int = 2) -> Scenario:
    model = TwinModel(ModelSpec("m", "gpu", 1, places, pinned=True), LAW, AT_ONCE)
    return Scenario((model,), (DeviceSpec("gpu", 10),), arrivals, policies(ordering="fcfs"))


def test_a_step_arrives_after_the_answer_and_the_pause() -> None:
    third = an_arrival("c")
    second = an_arrival("b", then=third, gap_ns=3 * SECOND)
    first = an_arrival("a", then=second, gap_ns=2 * SECOND)
    ends = {end.request_id: end for end in run(a_scenario(first)).ends}
    assert ends["b"].arrived_ns == ends["a"].ended_ns + 2 * SECOND
    assert ends["c"].arrived_ns == ends["b"].ended_ns + 3 * SECOND
    assert ends["c"].good


def test_a_session_ends_with_a_request_that_fails() -> None:
    leaving = an_arrival("a", patience_ns=1 * MS, then=an_arrival("b"), gap_ns=SECOND)
    result = run(a_scenario(leaving, an_arrival("x", 5 * SECOND)))
    outcomes = {end.request_id: end.outcome for end in result.ends}
    assert outcomes == {"a": Outcome.CANCELLED, "x": Outcome.DONE}


def metered(scenario: Scenario, **other: Any) -> Meter:
    meter = Meter(scenario, **other)
    run(scenario, observer=meter, keep=False)
    return meter


def test_records_are_those_of_the_ends() -> None:
    scenario = a_scenario(an_arrival("a"), an_arrival("b", SECOND, patience_ns=50 * MS))
    done, left = metered(scenario).records
    assert (done.fate, done.good, done.output_tokens) == (Fate.DONE, True, 10)
    assert (done.ttft_ns, done.e2e_ns) == (110 * MS, 200 * MS)
    assert (left.fate, left.e2e_ns) == (Fate.CANCELLED, 50 * MS)


def test_requests_of_the_warm_up_leave_no_record_but_are_counted_as_good() -> None:
    meter = metered(a_scenario(an_arrival("a"), an_arrival("b", SECOND)), warm_up_ns=SECOND)
    assert [record.request_id for record in meter.records] == ["b"]
    assert meter.good_whole == 2


def test_device_time_is_shared_evenly_and_told_apart_by_use() -> None:
    # Both run side by side from 0 to 0.2 s; then the long one is alone until 2.1 s, and late.
    short, long = an_arrival("a"), an_arrival("b", tokens=200)
    gone = an_arrival("c", 4 * SECOND, tokens=50, patience_ns=500 * MS)
    usage = metered(a_scenario(short, long, gone)).usage()
    assert usage.late_device_s == pytest.approx(0.1 + 1.9)
    assert usage.wasted_device_s == pytest.approx(0.5)
    assert usage.busy_share == pytest.approx((2.1 + 0.5) / 4.5)
    assert usage.useful_token_share == pytest.approx(10 / (10 + 200 + 40))
    assert (usage.loads, usage.evictions) == (1, 0)


def test_a_timeline_counts_who_waits() -> None:
    scenario = a_scenario(*(an_arrival(name) for name in "abc"), places=1)
    line = Timeline()
    run(scenario, watch=line.watch)
    line.close()
    times, counts = line.queues["chat"]
    assert max(counts) == 3 - counts.count(-1)
    assert counts[-1] == 0
    assert times == sorted(times)
    assert list(line.residency) == ["m"]
    assert line.residency["m"][0][1] >= 0.6


def test_a_paused_request_waits_again() -> None:
    loose = an_arrival("loose", tokens=50)
    loose = replace(loose, request=replace(loose.request, resumable=True))
    urgent = an_arrival("urgent", 100 * MS)
    urgent = replace(urgent, request=replace(urgent.request, sla=Sla(ttft_ns=200 * MS)))
    scenario = a_scenario(loose, urgent, places=1)
    rules = replace(policies(ordering="edf"), admission=EveryLever(clamp_tokens=0))
    line = Timeline()
    done = run(replace(scenario, policies=rules), watch=line.watch)
    assert [end.pauses for end in done.ends] == [0, 1]
    times, counts = line.queues["chat"]
    assert counts[-1] == 0
    waits = [at for at, count in zip(times, counts, strict=True) if count]
    assert max(waits) - 0.1 == pytest.approx(0.0, abs=0.01), "while the urgent one runs"


def test_an_interval_is_students() -> None:
    values = [3.0, 4.5, 2.5, 4.0, 6.0]
    found = estimate(values)
    low, high = stats.t.interval(0.95, 4, loc=4.0, scale=stats.sem(values))
    assert found.low == pytest.approx(low, abs=2e-3)
    assert found.high == pytest.approx(high, abs=2e-3)
    assert estimate([1.0]).margin is None
    many = [float(value % 7) for value in range(80)]
    margin = stats.t.ppf(0.975, 79) * stats.sem(many)
    assert estimate(many).margin == pytest.approx(margin, rel=1e-3)
    with pytest.raises(ValueError, match="no value"):
        estimate([])
