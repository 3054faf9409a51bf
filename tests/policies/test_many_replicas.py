"""Fleets in which a plan looks at some replicas only, and fleets whose devices differ in speed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from slalom.core.actions import Dispatch, EndRequest, LoadReplica
from slalom.core.events import AttemptFinished, FirstToken, RequestArrived
from slalom.core.planning import Plan, PlanView
from slalom.core.policy import Policies
from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla, StepCost
from slalom.core.scheduler import Scheduler
from slalom.errors import ConfigError
from slalom.policies.registry import policies
from slalom.policies.scaling.by_count import Fixed
from slalom.policies.trim import lookout
from slalom.policies.trim.planner import Trimmer
from slalom.testing.recorder import Recorder
from slalom.twin.engine_model import StepLaw
from slalom.twin.run import run
from slalom.twin.scenario import Arrival, LoadLaw, Scenario, TwinModel
from slalom.units import GIB, MS, SECOND
from tests.core.stories import ready

COST = StepCost(step_ns=20 * MS, sequence_ns=1 * MS, prompt_ns=0.05 * MS)


def chosen(**slots: str) -> Policies:
    """The default with all replicas up from the start."""
    found = policies(**{"admission": "plan-and-trim", "ordering": "edf", **slots})
    return replace(found, scaling=Fixed())


def fleet(count: int, *, speeds: Sequence[float] = (), places: int = 4, **slots: str) -> Recorder:
    """One model with a replica on each of so many devices, all ready."""
    homes = tuple(f"gpu{index:03}" for index in range(count))
    each = speeds or [1.0] * count
    devices = [DeviceSpec(name, GIB, speed=fast) for name, fast in zip(homes, each, strict=True)]
    spec = ModelSpec("m", homes[0], GIB, places, count, step_cost=COST, devices=homes)
    recorder = Recorder(Scheduler([spec], devices, chosen(**slots)))
    ask(recorder, "first")
    ready(recorder)
    recorder.tell(FirstToken("first", 1), AttemptFinished("first", 1, 10), after_ns=SECOND)
    return recorder


def ask(recorder: Recorder, name: str, sla: Sla | None = None, **other: object) -> None:
    limits = sla or Sla(ttft_ns=2 * SECOND)
    request = Request(name, "m", "t", limits, recorder.now_ns, 100, 200, 100, **other)  # type: ignore[arg-type]
    recorder.tell(RequestArrived(request), after_ns=5 * MS)


def where(recorder: Recorder) -> dict[str, str]:
    """The replica of each dispatched request."""
    return {one.request_id: one.replica_id for one in recorder.actions(Dispatch)}


def test_some_replicas_are_the_emptiest_the_fullest_with_a_place_and_those_named() -> None:
    recorder = fleet(30, places=2)
    model = recorder.scheduler.state.models["m"]
    assert len(model.some_ready(8)) == 8
    for index in range(31):
        ask(recorder, f"r{index}")
    runs = {one.id: one.running_count for one in model.ready()}
    assert sorted(runs.values()) == [1] * 29 + [2]
    full = max(runs, key=lambda name: runs[name])
    assert full not in {one.id for one in model.some_ready(8)}
    shown = [one.id for one in model.some_ready(4, [full, "gone"])]
    assert full in shown
    assert len(shown) == 5
    assert shown == sorted(shown)
    assert model.ready_count() == 30


def test_urgent_requests_spread_over_all_of_many_replicas() -> None:
    recorder = fleet(24)
    for index in range(48):
        ask(recorder, f"r{index}")
    counts = [one.running_count for one in recorder.scheduler.state.models["m"].ready()]
    assert counts == [2] * 24


def test_a_plan_looks_at_no_more_replicas_where_there_are_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[int] = [0]
    whole = lookout.preference

    def counted(*given: object) -> object:
        looks[-1] += 1
        return whole(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(lookout, "preference", counted)
    most = []
    for count in (24, 96):
        recorder = fleet(count)
        for index in range(40):
            looks.append(0)
            ask(recorder, f"r{index}")
        most.append(max(looks))
        looks[:] = [0]
    assert 1 < most[0] == most[1] <= lookout.LOOKED_AT + 1


def test_a_prompt_goes_back_to_its_reader_among_many() -> None:
    recorder = fleet(30)
    ask(recorder, "one", prefix="talk")
    reader = where(recorder)["one"]
    recorder.tell(FirstToken("one", 1), after_ns=SECOND)
    for index in range(12):
        ask(recorder, f"r{index}")
    recorder.tell(AttemptFinished("one", 1, 50), after_ns=SECOND)
    ask(recorder, "two", prefix="talk", prefix_tokens=90)
    assert where(recorder)["two"] == reader


def load(per_s: float, seconds: int) -> list[Arrival]:
    """Even arrivals, half of them urgent; answers vary around what is predicted."""
    arrivals = []
    for index in range(round(per_s * seconds)):
        at_ns = round(index * SECOND / per_s)
        urgent = index % 2
        sla = Sla(ttft_ns=400 * MS) if urgent else Sla(e2e_ns=6 * SECOND)
        tokens = 20 + (index * 37) % 160
        arrivals.append(Arrival(Request(f"r{index}", "m", "t", sla, at_ns, 200, 300, 100), tokens))
    return arrivals


def good(scenario: Scenario) -> float:
    ends = run(scenario).ends
    return sum(one.good for one in ends) / len(ends)


def played(speeds: Sequence[float], arrivals: list[Arrival], **slots: str) -> Scenario:
    """The load on one model over devices of these speeds."""
    homes = tuple(f"gpu{index:03}" for index in range(len(speeds)))
    spec = ModelSpec("m", homes[0], GIB, 4, len(speeds), step_cost=COST, devices=homes)
    law = StepLaw(prefill_ns_per_token=50_000, token_ns=21 * MS, neighbour_ns=1 * MS)
    instant = LoadLaw(fixed_ns=0, bytes_per_s=1 << 50)
    return Scenario(
        models=(TwinModel(spec, step=law, load=instant),),
        devices=tuple(
            DeviceSpec(name, GIB, speed=fast) for name, fast in zip(homes, speeds, strict=True)
        ),
        arrivals=arrivals,
        policies=chosen(**slots),
    )


def test_looking_at_some_costs_hardly_any_goodput(monkeypatch: pytest.MonkeyPatch) -> None:
    arrivals = load(26.0, 20)
    some = good(played([1.0] * 24, arrivals))
    monkeypatch.setattr(lookout, "LOOKED_AT", 1_000)
    every = good(played([1.0] * 24, arrivals))
    assert every > 0.6
    assert some >= every - 0.02


# -- speeds -----------------------------------------------------------------------------------


def test_the_fastest_device_is_taken_first_and_the_slow_ones_when_it_is_busy() -> None:
    recorder = fleet(3, speeds=[1.0, 4.0, 2.0])
    names = {one.device: one.replica_id for one in recorder.actions(LoadReplica)}
    assert list(names) == ["gpu001", "gpu002", "gpu000"]
    ask(recorder, "a")
    assert where(recorder)["a"] == names["gpu001"]
    for name in "bcdefg":
        ask(recorder, name)
    runs = {one.id: one.running_count for one in recorder.scheduler.state.models["m"].ready()}
    assert runs[names["gpu001"]] > runs[names["gpu002"]] > runs[names["gpu000"]]


def test_a_request_that_only_a_fast_device_can_serve_in_time_goes_there_or_nowhere() -> None:
    tight = Sla(e2e_ns=1_500 * MS)  # 2.1 s on a device of speed 1
    recorder = fleet(2, speeds=[1.0, 2.0])
    fast = next(one.replica_id for one in recorder.actions(LoadReplica) if one.device == "gpu001")
    ask(recorder, "tight", tight)
    assert where(recorder)["tight"] == fast
    slow = fleet(2, speeds=[1.0, 1.0])
    ask(slow, "tight", tight)
    recorder.handle([], recorder.now_ns + SECOND)
    slow.handle([], slow.now_ns + 3 * SECOND)
    dropped = {one.request_id for one in slow.actions(EndRequest)}
    assert "tight" in dropped or "tight" in where(slow)


@pytest.mark.parametrize("routing", ["cato", "plan"])
def test_estimating_routes_know_speeds(routing: str) -> None:
    recorder = fleet(2, speeds=[1.0, 3.0], admission="open", routing=routing)
    fast = next(one.replica_id for one in recorder.actions(LoadReplica) if one.device == "gpu001")
    loose = Sla(e2e_ns=60 * SECOND)
    for name in "ab":
        ask(recorder, name, loose)
    assert [where(recorder)[name] for name in "ab"] == [fast, fast]


def test_the_twin_runs_devices_at_their_speed_and_the_default_makes_use_of_it() -> None:
    arrivals = load(12.0, 20)
    speeds = [0.5, 0.5, 1.0, 3.0]
    knows = good(played(speeds, arrivals))
    counts = good(played(speeds, arrivals, admission="open", routing="least-ongoing"))
    assert knows > counts + 0.1
    halved = good(played([speed / 2 for speed in speeds], arrivals))
    assert halved < knows - 0.1


def test_step_times_are_learned_for_each_speed_by_itself() -> None:
    scenario = played([1.0, 2.0], load(3.0, 20))
    scheduler = Scheduler([scenario.models[0].spec], scenario.devices, scenario.policies)
    run(scenario, scheduler=scheduler)
    predictor = scheduler.state.planner._predictor  # type: ignore[union-attr]
    slow, fast = predictor.cost("m").of(1, 0, 0), predictor.cost("m", speed=2.0).of(1, 0, 0)
    assert slow == pytest.approx(21 * MS, rel=0.1)
    assert fast == pytest.approx(10.5 * MS, rel=0.1)


def test_a_speed_that_makes_no_sense_is_named() -> None:
    spec = ModelSpec("m", "gpu", GIB, 1)
    with pytest.raises(ConfigError, match=r"device gpu: a speed of 0\.0 times"):
        Scheduler([spec], [DeviceSpec("gpu", GIB, speed=0.0)], policies())


# -- what a plan costs ------------------------------------------------------------------------


class Counting:
    """Counts the plans that are made of each model, and the replicas that each looks into."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.plans: Counter[str] = Counter()
        self.sites = 0
        plan, site = Trimmer.plan, Trimmer._site

        def counted_plan(trimmer: Trimmer, model: PlanView, now_ns: int) -> Plan:
            self.plans[model.spec.id] += 1
            return plan(trimmer, model, now_ns)

        def counted_site(trimmer: Trimmer, *given: Any) -> Any:
            self.sites += 1
            return site(trimmer, *given)

        patch.setattr(Trimmer, "plan", counted_plan)
        patch.setattr(Trimmer, "_site", counted_site)

    def clear(self) -> None:
        """Begin anew."""
        self.plans.clear()
        self.sites = 0


def crowd(recorder: Recorder, places: int, waiting: int) -> None:
    """Fill every place with answers of two seconds, and let others wait behind them."""
    for index in range(places):
        ask(recorder, f"runs{index}")
        recorder.tell(FirstToken(f"runs{index}", 1), after_ns=MS)
    assert len(where(recorder)) == places + 1
    for index in range(waiting):
        ask(recorder, f"waits{index}", Sla(ttft_ns=30 * SECOND))


def test_where_many_wait_an_end_is_looked_at_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counting(monkeypatch)
    looks = []
    for count in (30, 60):
        recorder = fleet(count, places=2)
        crowd(recorder, 2 * count, 40)
        model = recorder.scheduler.state.models["m"]
        assert model.waiting_count == 40
        recorder.handle([], recorder.now_ns + 100 * MS)
        counts.clear()
        before = len(where(recorder))
        for index in range(0, 2 * count, 2):
            recorder.tell(AttemptFinished(f"runs{index}", 1, 100), after_ns=MS)
        assert len(where(recorder)) - before >= min(count, 40) - 2
        looks.append(counts.sites / count)
    assert looks[1] < 1.2 * looks[0]
    assert looks[0] < 2 * lookout.LOOKED_AT


def test_a_token_where_nobody_waits_in_line_makes_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counting(monkeypatch)
    recorder = fleet(30, places=2)
    crowd(recorder, 60, 1)
    (line,) = recorder.scheduler.state.planner._promised["m"].values()  # type: ignore[union-attr]
    elsewhere = next(name for name, at in where(recorder).items() if at != line)
    counts.clear()
    recorder.tell(FirstToken(elsewhere, 1), after_ns=MS)
    assert counts.sites == 0


def test_everybody_gets_a_turn_in_a_large_fleet_that_is_overrun() -> None:
    recorder = fleet(20, places=1)
    crowd(recorder, 20, 60)
    ended: set[str] = set()
    for _ in range(400):
        for name in where(recorder):
            if name not in ended and name != "first":
                ended.add(name)
                recorder.tell(FirstToken(name, 1), after_ns=MS)
                recorder.tell(AttemptFinished(name, 1, 100), after_ns=10 * MS)
    assert len(ended) == 80
    assert not recorder.scheduler.state.requests


def test_an_end_elsewhere_is_no_news_to_a_model_in_the_same_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = Counting(monkeypatch)
    homes = tuple(f"gpu{index}" for index in range(2))
    specs = [
        ModelSpec(name, homes[0], GIB, 1, 1, step_cost=COST, devices=homes) for name in ("a", "b")
    ]
    recorder = Recorder(Scheduler(specs, [DeviceSpec(name, GIB) for name in homes], chosen()))
    loose = Sla(e2e_ns=600 * SECOND)
    for name in ("a", "b"):
        for turn in range(3):
            request = Request(f"{name}{turn}", name, "t", loose, recorder.now_ns, 100, 200, 100)
            recorder.tell(RequestArrived(request), after_ns=MS)
        ready(recorder)
    assert set(where(recorder)) == {"a0", "b0"}
    recorder.tell(FirstToken("a0", 1), FirstToken("b0", 1), after_ns=SECOND)
    counts.clear()
    recorder.tell(AttemptFinished("a0", 1, 100), after_ns=MS)
    assert counts.plans["a"] > 0
    assert counts.plans["b"] == 0
    assert "a1" in where(recorder)
