"""Starts without a plan: only where a plan would decide the same, and nobody comes near limits."""

from dataclasses import replace

import pytest

from slalom.bench.twin_loads import overloaded
from slalom.core.actions import Dispatch, EndRequest
from slalom.core.planning import Moment, Observation
from slalom.core.request import Request
from slalom.policies.trim import planner as planner_module
from slalom.policies.trim.at_once import start_at_once
from slalom.policies.trim.plan_and_trim import PlanAndTrim
from slalom.policies.trim.planner import Trimmer
from slalom.twin.run import run
from slalom.units import MS
from tests.policies.views import AT_NS, Ready, Runs, View, Waits, asked, calibrated

SPEC = calibrated(step=10, sequence=1)
#: Reading a prompt token takes 1 ms.
READS = calibrated(step=10, prompt=1)


class House:
    """One replica, and a planner that is told what starts there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made = PlanAndTrim().begin([SPEC])
        assert isinstance(made, Trimmer)
        self.planner = made
        self.runs: list[Runs] = []
        self.plans = 0
        inner = Trimmer._site

        def counted(*arguments: object) -> object:
            self.plans += 1
            return inner(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(Trimmer, "_site", counted)

    def arrive(self, request: Request, at_ms: float = 0, *, room: int = 100) -> bool:
        """Plan for a newcomer, and start it if the plan says so; whether it does."""
        now_ns = AT_NS + round(at_ms * MS)
        view = View([Waits(request)], [Ready(attempts=self.runs)], SPEC, room=room)
        found = self.planner.plan(view, now_ns)
        for start in found.starts:
            assert start.expected is not None
            assert AT_NS < start.expected.first_ns <= start.expected.end_ns
            attempt = Runs(request, started_ns=now_ns)
            self.runs.append(attempt)
            self.planner.observe(Observation(Moment.STARTED, request, attempt), view, now_ns)
        return bool(found.starts)

    def told(self, at: int, tokens: int, at_ms: float) -> None:
        now_ns = AT_NS + round(at_ms * MS)
        runs = replace(self.runs[at], output_tokens=tokens, client_first_ns=now_ns)
        self.runs[at] = runs
        self.planner.observe(Observation(Moment.TOLD, runs.request, runs), View(spec=SPEC), now_ns)


def test_newcomers_start_without_a_plan_where_nobody_comes_near_his_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = House(monkeypatch)
    for number in range(8):
        assert house.arrive(asked(f"r{number}", e2e_ms=20_000), number)
    assert house.plans == 1
    assert not house.arrive(asked("none", e2e_ms=20_000), 9, room=0), "the window is the device's"


def test_a_plan_is_made_again_where_more_run_than_was_foreseen_or_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = House(monkeypatch)
    for number in range(12):
        assert house.arrive(asked(f"r{number}", e2e_ms=20_000), number)
    assert house.plans == 2
    assert house.arrive(asked("after", e2e_ms=20_000), 400)
    assert house.plans == 3


def test_no_leeway_is_left_beside_one_who_may_be_late(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(monkeypatch)
    # 50 tokens at 11 ms are 550 ms, at 12 ms 600, at 19 ms 950.
    assert house.arrive(asked("tight", e2e_ms=700))
    assert house.arrive(asked("next", e2e_ms=20_000))
    assert house.plans == 2
    other = House(monkeypatch)
    assert other.arrive(asked("loose", e2e_ms=20_000))
    assert other.arrive(asked("tight", e2e_ms=700))
    assert other.plans == 2, "it is the newcomer who may be late"


def test_leeway_ends_where_an_answer_turns_out_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    long = replace(asked("long", tokens=50, e2e_ms=1_030), max_tokens=1_000)
    house = House(monkeypatch)
    assert house.arrive(long)
    assert house.arrive(asked("next", e2e_ms=20_000), 1)
    assert house.plans == 1
    house.told(0, 390, 100)
    house.arrive(asked("later", e2e_ms=20_000), 101)
    assert house.plans == 2


def test_what_would_wait_for_its_turn_to_be_read_is_planned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(f"{__name__}.SPEC", READS)
    house = House(monkeypatch)
    assert house.arrive(asked("first", prompt=24, tokens=5, e2e_ms=20_000))
    assert house.arrive(asked("second", prompt=20, tokens=5, e2e_ms=20_000))
    assert house.plans == 1
    assert not house.arrive(asked("third", prompt=20, tokens=5, e2e_ms=20_000))
    assert house.plans == 2


@pytest.mark.parametrize("per_s", [4.0, 12.5])
def test_all_starts_are_those_of_plans(monkeypatch: pytest.MonkeyPatch, per_s: float) -> None:
    counts = {"at once": 0, "in all": 0}

    def counted(*arguments: object) -> object:
        found = start_at_once(*arguments)  # type: ignore[arg-type]
        counts["at once"] += found is not None
        return found

    def played() -> list[tuple[int, str, str]]:
        found = run(overloaded(150, "poisson", per_s))
        counts["in all"] = sum(
            isinstance(action, Dispatch) for entry in found.entries for action in entry.actions
        )
        return [
            (action.ended_ns, action.request_id, action.outcome)
            for entry in found.entries
            for action in entry.actions
            if isinstance(action, EndRequest)
        ]

    monkeypatch.setattr(planner_module, "start_at_once", counted)
    quickly = played()
    monkeypatch.setattr(planner_module, "start_at_once", lambda *_: None)
    assert quickly == played()
    assert counts["at once"] > 0
