"""Clients in the twin's world: those who come again, and those who have asked anew."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from slalom.core.actions import Outcome
from slalom.core.params import SchedulerParams
from slalom.core.planning import Plan
from slalom.core.policy import Policies
from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla
from slalom.metrics.records import Fate, RequestRecord
from slalom.metrics.summaries import summarise
from slalom.policies.registry import policies
from slalom.testing.scripted_planner import EveryLever, Scripted, start_all
from slalom.twin.engine_model import StepLaw
from slalom.twin.engine_specs import LlamaCppEngine, VllmEngine
from slalom.twin.meter import Meter
from slalom.twin.profiles import find_profile
from slalom.twin.run import TwinRun, run
from slalom.twin.scenario import Arrival, LoadLaw, Scenario, TwinModel
from slalom.units import MS, SECOND
from slalom.workload.clients import Retries

#: 10 ms a token of the answer, however many run.
LAW = StepLaw(prefill_ns_per_token=0, token_ns=10 * MS, neighbour_ns=0)
TWICE = Retries(tries=2, backoff_ns=100 * MS, jitter=0)


@dataclass(frozen=True)
class Played:
    """A run with what was counted."""

    run: TwinRun
    meter: Meter

    @property
    def records(self) -> dict[str, RequestRecord]:
        return {record.request_id: record for record in self.meter.records}


def an_arrival(name: str, at_ms: int = 0, tokens: int = 10, **other: Any) -> Arrival:
    sla = Sla(e2e_ns=other.pop("e2e_ms", 1_000) * MS)
    known = {key: other.pop(key) for key in ("supersedes", "resumable", "model") if key in other}
    request = Request(name, "m", "chat", sla, at_ms * MS, 100, tokens, tokens)
    return Arrival(replace(request, **known), tokens, **other)


def played(*arrivals: Arrival, queue_max: int = 100, places: int = 1, **other: Any) -> Played:
    model = TwinModel(ModelSpec("m", "gpu", 1, places, pinned=True), LAW, LoadLaw(0, 1 << 60))
    scenario = Scenario(
        (model,),
        (DeviceSpec("gpu", 10),),
        arrivals,
        policies(ordering="fcfs"),
        SchedulerParams(queue_max=queue_max, swap_patience_ns=0),
    )
    scenario = replace(scenario, **other)
    meter = Meter(scenario)
    return Played(run(scenario, observer=meter), meter)


def test_a_refused_client_comes_again_and_counts_once_from_its_first_try() -> None:
    # One place, one in the queue: `c` is refused at 2 ms and again at 102 ms, served at 302 ms.
    found = played(
        an_arrival("a", 0, 15),
        an_arrival("b", 1, 15),
        an_arrival("c", 2, retries=TWICE),
        queue_max=1,
    )
    tries = [end.request_id for end in found.run.ends if end.request_id.startswith("c")]
    assert tries == ["c", "c~1", "c~2"]
    record = found.records["c"]
    assert (record.fate, record.good, record.scheduled_ns) == (Fate.DONE, True, 2 * MS)
    assert record.e2e_ns == (302 - 2 + 100) * MS
    summary = summarise(found.meter.records, SECOND)
    assert (summary.injected, summary.done, summary.refused) == (3, 3, 0)


def test_goodness_counts_from_the_first_try_though_the_server_thinks_otherwise() -> None:
    late = an_arrival("c", 2, retries=TWICE, e2e_ms=250)
    found = played(an_arrival("a", 0, 15), an_arrival("b", 1, 15), late, queue_max=1)
    last = next(end for end in found.run.ends if end.request_id == "c~2")
    assert last.good
    assert not found.records["c"].good
    assert found.meter.usage().late_device_s == pytest.approx(0.1)


def test_tries_are_bounded_and_the_wait_doubles_or_is_what_the_server_says() -> None:
    found = played(
        an_arrival("a", 0, 500),
        an_arrival("b", 1, 500),
        an_arrival("c", 2, retries=TWICE),
        queue_max=1,
    )
    record = found.records["c"]
    assert record.fate is Fate.REFUSED
    assert record.ended_ns == (2 + 100 + 200) * MS
    assert summarise(found.meter.records, SECOND).injected == 3
    advised = played(
        an_arrival("a", 0, 500),
        an_arrival("b", 1, 500),
        an_arrival("c", 2, retries=TWICE),
        params=SchedulerParams(queue_max=1, swap_patience_ns=300 * MS),
    )
    assert advised.records["c"].ended_ns == (2 + 300 + 300) * MS


def test_who_does_not_come_again() -> None:
    full = (an_arrival("a", 0, 500), an_arrival("b", 1, 500))
    unknown = an_arrival("c", 2, retries=TWICE, model="absent")
    assert [end.request_id for end in played(unknown).run.ends] == ["c"]
    gone = an_arrival("c", 2, retries=TWICE, patience_ns=150 * MS)
    found = played(*full, gone, queue_max=1)
    assert found.records["c"].fate is Fate.REFUSED
    assert [e.request_id for e in found.run.ends if e.request_id[0] == "c"] == ["c", "c~1"]
    patient = played(*full, an_arrival("c", 2), queue_max=1)
    assert [e.request_id for e in patient.run.ends if e.request_id[0] == "c"] == ["c"]


def test_jitter_spreads_the_waits_and_is_keyed_by_the_seed() -> None:
    rule = Retries(tries=1, backoff_ns=100 * MS, jitter=0.5)
    refused = [an_arrival(f"c{n}", 2, retries=rule) for n in range(5)]
    full = (an_arrival("a", 0, 500), an_arrival("b", 1, 500))

    def waits(seed: int) -> list[int]:
        found = played(*full, *refused, queue_max=1, seed=seed).records
        return [found[f"c{n}"].ended_ns - 2 * MS for n in range(5)]

    assert waits(1) == waits(1) != waits(2)
    assert len(set(waits(1))) == 5
    assert all(100 * MS <= wait <= 150 * MS for wait in waits(1))


def test_a_step_that_was_refused_goes_on_with_its_session_once_it_is_answered() -> None:
    then = an_arrival("next", retries=TWICE)
    first = an_arrival("c", 2, retries=TWICE, then=then, gap_ns=SECOND)
    found = played(an_arrival("a", 0, 15), an_arrival("b", 1, 15), first, queue_max=1).records
    assert found["next"].scheduled_ns == found["c"].ended_ns + SECOND


def a_burst(*, named: bool, cancels: bool) -> list[Arrival]:
    """Three requests of one document, each 50 ms after the one before; an answer takes 200 ms."""
    stale = {"patience_ns" if cancels else "stale_ns": 50 * MS}
    name = "doc" if named else ""
    return [
        an_arrival(f"k{n}", n * 50, 20, e2e_ms=450, supersedes=name, **(stale if n < 2 else {}))
        for n in range(3)
    ]


@pytest.mark.parametrize(
    ("named", "cancels", "fate", "wasted_ms", "last_ms"),
    [
        (False, True, Fate.CANCELLED, 100, 300),
        (True, True, Fate.CANCELLED, 100, 300),
        (True, False, Fate.SUPERSEDED, 100, 300),
        # Nobody tells the server: both stale answers are written to their ends first.
        (False, False, Fate.SUPERSEDED, 400, 600),
    ],
)
def test_who_types_on_wastes_what_the_server_is_not_told_of(
    named: bool, cancels: bool, fate: Fate, wasted_ms: int, last_ms: int
) -> None:
    found = played(*a_burst(named=named, cancels=cancels))
    fates = [found.records[f"k{n}"].fate for n in range(3)]
    assert fates == [fate, fate, Fate.DONE]
    usage = found.meter.usage()
    assert usage.wasted_device_s * 1_000 == pytest.approx(wasted_ms)
    last = found.records["k2"]
    assert last.ended_ns == last_ms * MS
    assert last.good is (last_ms < 550)
    summary = summarise(found.meter.records, SECOND)
    assert summary.cancelled + summary.superseded == 2
    assert summary.attainment == float(last.good)
    outcomes = {end.outcome for end in found.run.ends}
    assert (Outcome.SUPERSEDED in outcomes) is named


def test_an_answer_that_was_whole_before_the_next_keystroke_counts() -> None:
    quick = an_arrival("k0", 0, 5, stale_ns=50 * MS)
    found = played(quick, an_arrival("k1", 50, 5))
    assert [found.records[name].fate for name in ("k0", "k1")] == [Fate.DONE, Fate.DONE]
    assert found.meter.good_whole == 2


def test_answers_that_a_clamp_cut_short_are_told_apart() -> None:
    arrivals = [an_arrival(f"r{n}", n * 500) for n in range(6)]
    rules = replace(policies(), admission=EveryLever(clamp_tokens=4))
    meter = played(*arrivals, policies=rules).meter
    assert (meter.cut, meter.good_whole) == (2, 4)
    assert [record.output_tokens for record in meter.records].count(4) == 2


def test_pauses_are_counted() -> None:
    loose = replace(an_arrival("loose", 0, 50, resumable=True), output_tokens=50)
    urgent = an_arrival("urgent", 100)
    urgent = replace(urgent, request=replace(urgent.request, sla=Sla(ttft_ns=50 * MS)))
    rules = replace(policies(), admission=EveryLever(clamp_tokens=0))
    meter = played(loose, urgent, policies=rules).meter
    assert meter.pauses_max == 1
    assert {record.request_id: record.good for record in meter.records} == {
        "urgent": True,
        "loose": True,
    }


PROFILE = find_profile("a100/starcoder2-15b")


def on_vllm(*arrivals: Arrival, rules: Policies, by_priority: bool) -> list[str]:
    """Who is answered in which order by an engine that runs one at a time of many it holds."""
    engine = VllmEngine(PROFILE, seqs_max=1, by_priority=by_priority)
    spec = ModelSpec("m", "gpu", 1, 8, pinned=True)
    model = TwinModel(spec, load=LoadLaw(0, 1 << 60), engine=engine)
    scenario = Scenario((model,), (DeviceSpec("gpu", 10),), arrivals, rules)
    return [end.request_id for end in run(scenario).ends]


def test_an_engine_heeds_the_plans_priorities_and_else_first_deadlines() -> None:
    arrivals = [an_arrival(name, 100, 20, e2e_ms=900 - n) for n, name in enumerate("abcd")]
    plain = policies(ordering="fcfs")
    # By the rule, who starts first is the least urgent.
    lifo = Scripted(
        lambda view, _: Plan([replace(s, priority=9 - n) for n, s in enumerate(start_all(view))])
    )
    planned = replace(plain, admission=lifo)
    assert on_vllm(*arrivals, rules=planned, by_priority=False) == list("abcd")
    assert on_vllm(*arrivals, rules=planned, by_priority=True) == list("dcba")
    assert on_vllm(*arrivals, rules=plain, by_priority=True) == list("dcba")
    later = [replace(a, request=replace(a.request, sla=Sla())) for a in arrivals]
    assert on_vllm(*later, rules=plain, by_priority=True) == list("abcd")


def test_after_a_swap_a_session_is_read_again() -> None:
    """The next step finds its prefix, unless another model had the memory meanwhile."""

    def ttft_ms(*others: Arrival) -> float:
        models = tuple(
            TwinModel(
                ModelSpec(name, "gpu", 8, 4), load=LoadLaw(0, 1 << 60), engine=VllmEngine(PROFILE)
            )
            for name in ("m", "other")
        )
        then = replace(an_arrival("second", shared_tokens=6_000, session="s"))
        then = replace(then, request=replace(then.request, prompt_tokens=6_100))
        first = an_arrival("first", 500, session="s", then=then, gap_ns=20 * SECOND)
        first = replace(first, request=replace(first.request, prompt_tokens=6_000))
        arrivals = (first, *others)
        scenario = Scenario(models, (DeviceSpec("gpu", 10),), arrivals, policies())
        ends = {end.request_id: end for end in run(scenario).ends}
        return (ends["second"].first_token_ns - ends["second"].first_dispatch_ns) / MS

    assert ttft_ms(an_arrival("swap", 10_000, model="other")) > 4 * ttft_ms()


@pytest.mark.parametrize(
    "engine",
    [
        VllmEngine(PROFILE, seqs_max=1),
        VllmEngine(PROFILE, seqs_max=1, prefix_caching=False),
        LlamaCppEngine(PROFILE, slots=2),
    ],
)
def test_a_paused_answer_goes_on_from_what_its_engine_kept(
    engine: VllmEngine | LlamaCppEngine,
) -> None:
    loose = an_arrival("loose", 500, 200, resumable=True)
    loose = replace(loose, request=replace(loose.request, prompt_tokens=20_000, sla=Sla()))
    urgent = an_arrival("urgent", 6_000, 5)
    urgent = replace(urgent, request=replace(urgent.request, sla=Sla(ttft_ns=SECOND)))
    spec = ModelSpec("m", "gpu", 1, 1, pinned=True)
    model = TwinModel(spec, load=LoadLaw(0, 1 << 60), engine=engine)
    rules = replace(policies(), admission=EveryLever(clamp_tokens=0))
    scenario = Scenario((model,), (DeviceSpec("gpu", 10),), (loose, urgent), rules)
    ends = {end.request_id: end for end in run(scenario).ends}
    paused, alone = ends["loose"], engine.alone_ns(20_000, 200)
    assert (paused.pauses, paused.output_tokens) == (1, 200)
    more_ns = paused.ended_ns - paused.first_dispatch_ns - alone
    reading_ns = engine.alone_ns(20_000, 1)
    assert (more_ns > reading_ns) is (not engine.prefix_caching)
