"""`niyama`: the hybrid key, the history of lengths, relegation, the chunk."""

from dataclasses import replace

import pytest

from slalom.core.planning import Moment, Observation, Planner
from slalom.core.policy import Ordering
from slalom.core.request import ModelSpec, Request
from slalom.policies.niyama import Niyama
from slalom.units import MS
from tests.policies.views import AT_NS, Ready, Runs, View, Waits, asked, calibrated

SPEC = calibrated(step=10, prompt=1)


def planner(spec: ModelSpec = SPEC, **options: float) -> Planner:
    return Niyama(**options).begin([spec])  # type: ignore[arg-type]


def key(of: Planner, request: Request) -> int:
    assert isinstance(of, Ordering)
    return (of.key(request, 60_000 * MS) - AT_NS) // MS


@pytest.mark.parametrize(
    ("limits", "work_ms", "after_ms"),
    [
        ({"ttft_ms": 200}, 8.0, 200 + 8 * 100),
        ({"ttft_ms": 200, "e2e_ms": 100}, 8.0, 200 + 8 * 100),
        ({"e2e_ms": 900}, 8.0, 900 + 8 * 150),
        ({"e2e_ms": 900}, 0.0, 900),
        ({"e2e_ms": 900}, 0.5, 900 + 75),
        ({}, 8.0, 60_000 + 8 * 150),
    ],
)
def test_the_key_is_the_deadline_plus_weighted_work(
    limits: dict[str, int], work_ms: float, after_ms: int
) -> None:
    request = asked(tokens=50, prompt=100, **limits)  # type: ignore[arg-type]
    assert key(planner(work_ms=work_ms), request) == after_ms


def test_lengths_are_the_mean_of_earlier_answers_and_two_deviations() -> None:
    niyama, request = planner(work_ms=1.0), asked(tokens=500, prompt=0, e2e_ms=1_000)
    assert key(niyama, request) == 1_000 + 500, "nothing known: the prediction"
    for tokens in (90, 110, 90, 110, 90, 110):
        attempt = Runs(request, output_tokens=tokens)
        niyama.observe(Observation(Moment.OVER, request, attempt, finished=True), View(), AT_NS)
    assert key(niyama, request) == 1_000 + 120
    assert key(niyama, replace(request, task="other")) == 1_000 + 500
    aborted = Observation(Moment.OVER, request, Runs(request, output_tokens=4_000))
    niyama.observe(aborted, View(), AT_NS)
    assert key(niyama, request) == 1_000 + 120, "only whole answers tell"


@pytest.mark.parametrize(
    ("limits", "now_ms", "relegated"),
    [
        ({"ttft_ms": 200}, 90, []),
        ({"ttft_ms": 200}, 91, ["r"]),
        ({"e2e_ms": 700}, 100, []),
        ({"e2e_ms": 700}, 101, ["r"]),
        ({}, 10**6, []),
    ],
)
def test_what_would_miss_if_it_began_now_is_relegated(
    limits: dict[str, int], now_ms: int, relegated: list[str]
) -> None:
    request = asked(tokens=50, prompt=100, **limits)  # type: ignore[arg-type]
    plan = planner().plan(View([Waits(request)], spec=SPEC), AT_NS + now_ms * MS)
    assert plan.demotions == relegated
    assert len(plan.starts) == 1 - len(relegated)
    assert plan.look_ns == (AT_NS + now_ms * MS + 1 if relegated else -1)


def test_what_is_relegated_is_still_served() -> None:
    late = Waits(asked(e2e_ms=1), demoted=True)
    plan = planner().plan(View([late], spec=SPEC), AT_NS + 10**9)
    assert (len(plan.starts), plan.demotions) == (1, [])


def test_no_prompt_is_added_to_a_full_chunk() -> None:
    reading = Runs(asked("a", prompt=2_400))
    queue = [Waits(asked("r1", prompt=200)), Waits(asked("r2"))]
    plan = planner().plan(View(queue, [Ready(attempts=[reading])], SPEC), AT_NS)
    assert [start.request_id for start in plan.starts] == ["r1"]
    assert plan.look_ns > AT_NS, "asked again when the prompts may have been read"
    writing = replace(reading, first_ns=AT_NS)
    plan = planner().plan(View(queue, [Ready(attempts=[writing])], SPEC), AT_NS)
    assert len(plan.starts) == 2
    plan = planner(chunk_tokens=0).plan(View(queue, [Ready(attempts=[reading])], SPEC), AT_NS)
    assert len(plan.starts) == 2
