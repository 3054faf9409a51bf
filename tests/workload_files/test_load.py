"""Loads are drawn as described: rates, shapes, lengths, mixes, sessions, cancellations."""

import itertools
import random
import statistics
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from slalom.units import MS, SECOND
from slalom.workload.arrivals import ArrivalProcess, poisson
from slalom.workload.clients import Keystrokes, Retries
from slalom.workload.lengths import (
    FixedLength,
    LengthLaw,
    LogNormalLength,
    QuantileLength,
    RatioLength,
    UniformLength,
)
from slalom.workload.load import (
    Group,
    Kind,
    LoadItem,
    LoadPlan,
    Popularity,
    Steps,
    draw_load,
    every_step,
    iter_load,
)
from slalom.workload.shapes import (
    CODING_DAY,
    ClientArrivals,
    EvenArrivals,
    ShapedArrivals,
    day,
)
from slalom.workload.tasks import DEFAULT_TASKS
from slalom.workload.traces import TraceRow


def a_kind(task: str = "completion", **other: Any) -> Kind:
    kind = Kind(
        task=DEFAULT_TASKS[task],
        popularity=Popularity(("m",)),
        weight=1,
        weight_to=1,
        prompt=UniformLength(10, 1000),
        output=UniformLength(1, 100),
        max_tokens=64,
    )
    return replace(kind, **other)


def a_plan(*kinds: Kind, rate: float = 10, seconds: int = 200, **other: Any) -> LoadPlan:
    group = Group("g", kinds or (a_kind(),), poisson(rate))
    return LoadPlan((group,), seconds * SECOND, **other)


def times_s(process: ArrivalProcess, count: int) -> list[float]:
    gaps = process.gaps_s(random.Random(1))
    return list(itertools.accumulate(itertools.islice(gaps, count)))


@pytest.mark.parametrize(
    "process",
    [
        EvenArrivals(20, batch=5),
        ShapedArrivals(20, [(3, 1), (1, 7)]),
        ShapedArrivals(20, [(3, 1), (1, 0.5)], burstiness=0.5),
        day(20, 24),
        ClientArrivals(20, clients=30, skew=1, on_s=3, off_s=6),
    ],
    ids=lambda process: type(process).__name__,
)
def test_a_process_keeps_its_mean_rate(process: ArrivalProcess) -> None:
    count = 40_000
    assert count / times_s(process, count)[-1] == pytest.approx(20, rel=0.06)


def test_a_step_is_as_high_as_it_says() -> None:
    times = times_s(ShapedArrivals(10, [(9, 1), (1, 5)]), 50_000)
    within = sum(time % 10 >= 9 for time in times)
    assert within / (len(times) - within) == pytest.approx(5 / 9, rel=0.05)


def test_a_day_has_its_peak_where_the_table_says() -> None:
    hours = Counter(int(time % 24) for time in times_s(day(100, 24), 100_000))
    peak = max(range(24), key=CODING_DAY.__getitem__)
    assert hours[peak] / hours[3] == pytest.approx(CODING_DAY[peak] / CODING_DAY[3], rel=0.15)


def test_batches_come_at_one_time() -> None:
    assert times_s(EvenArrivals(2, batch=3), 6) == [1.5, 1.5, 1.5, 3.0, 3.0, 3.0]


def test_clients_are_burstier_than_poisson() -> None:
    times = times_s(ClientArrivals(20, clients=5, skew=1.5, on_s=3, off_s=12), 20_000)
    seconds = Counter(int(time) for time in times)
    counts = [seconds[second] for second in range(int(times[-1]))]
    assert statistics.pvariance(counts) > 3 * statistics.mean(counts)


@pytest.mark.parametrize(
    ("law", "mean"),
    [
        (FixedLength(7), 7),
        (UniformLength(10, 20), 15),
        (QuantileLength([(0, 10), (50, 100), (100, 1000)]), None),
        (LogNormalLength(100, 0.5, 100_000), None),
        (RatioLength(1.5, 0.1, 100_000), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_law_has_the_mean_it_says(law: LengthLaw, mean: float | None) -> None:
    rng = random.Random(2)
    drawn = [law.draw(rng, 400) for _ in range(20_000)]
    assert statistics.mean(drawn) == pytest.approx(law.mean(400), rel=0.03)
    assert mean is None or law.mean(400) == mean


def test_quantiles_come_back_from_draws() -> None:
    law = QuantileLength([(0, 1), (25, 13), (75, 55), (99, 252), (100, 1899)])
    rng = random.Random(3)
    drawn = sorted(law.draw(rng, 0) for _ in range(40_000))
    for share, tokens in law.points[1:4]:
        assert drawn[int(share / 100 * len(drawn))] == pytest.approx(tokens, rel=0.08)


def test_the_same_seed_draws_the_same_load() -> None:
    assert draw_load(a_plan(), 5) == draw_load(a_plan(), 5)
    assert draw_load(a_plan(), 5) != draw_load(a_plan(), 6)


def test_a_faster_load_is_the_same_requests_squeezed() -> None:
    plan = replace(a_plan(), duration_ns=0, count=50)
    slow, fast = draw_load(plan, 0), draw_load(plan.scaled(2), 0)
    assert plan.scaled(2).rate_per_s == 2 * plan.rate_per_s
    for one, other in zip(slow, fast, strict=True):
        assert other.at_ns == pytest.approx(one.at_ns / 2, abs=2)
        assert replace(other, at_ns=0) == replace(one, at_ns=0)


def test_a_share_of_cancellations_changes_nothing_else() -> None:
    calm = draw_load(a_plan(), 0)
    hasty = draw_load(a_plan(a_kind(typed_on_share=0.4, typed_on_ms=(100, 200))), 0)
    left = [item.give_up_after_ns for item in hasty if item.give_up_after_ns >= 0]
    assert len(left) / len(hasty) == pytest.approx(0.4, abs=0.05)
    assert all(100 * MS <= after <= 200 * MS for after in left)
    assert [replace(item, give_up_after_ns=-1) for item in hasty] == calm


def test_a_mix_drifts() -> None:
    kinds = a_kind(weight=70, weight_to=40), a_kind("chat", weight=30, weight_to=60)
    items = draw_load(a_plan(*kinds, rate=50), 0)
    tenth = len(items) // 10
    first, last = items[:tenth], items[-tenth:]
    share = [sum(i.task == "completion" for i in part) / tenth for part in (first, last)]
    assert share == pytest.approx([0.685, 0.415], abs=0.05)


def test_an_exact_mix_has_exact_counts() -> None:
    kinds = a_kind(weight=40), a_kind("chat", weight=10), a_kind("agent", weight=50)
    plan = replace(a_plan(*kinds, exact_mix=True), duration_ns=0, count=100)
    counts = Counter(item.task for item in draw_load(plan, 3))
    assert counts == {"completion": 40, "chat": 10, "agent": 50}


def test_what_is_wanted_most_turns_with_the_phases() -> None:
    popularity = Popularity(("a", "b", "c"), exponent=3, phase_s=100)
    items = draw_load(a_plan(a_kind(popularity=popularity), seconds=300), 0)
    wanted = [
        Counter(i.model for i in items if phase * 100 <= i.at_ns / SECOND < (phase + 1) * 100)
        for phase in range(3)
    ]
    assert [counts.most_common(1)[0][0] for counts in wanted] == ["a", "b", "c"]


def test_a_session_grows_by_what_is_answered_and_appended() -> None:
    steps = Steps(FixedLength(4), gap_s=5, gap_sigma=0, appended=FixedLength(30))
    group = Group("g", (a_kind(output=FixedLength(20)),), poisson(1), steps=steps)
    first = draw_load(LoadPlan((group,), 0, count=1), 0)[0]
    chain = list(every_step([first]))
    assert len(chain) == 4
    assert len({item.id for item in chain}) == 4
    assert {item.session for item in chain} == {first.session}
    for before, after in itertools.pairwise(chain):
        assert after.shared_tokens == before.prompt_tokens + 20
        assert after.prompt_tokens == after.shared_tokens + 30
        assert (after.at_ns, after.gap_ns) == (-1, 5 * SECOND)


def test_a_recorded_task_is_kept_where_the_mix_has_it() -> None:
    rows = tuple(TraceRow(n, 5, 5, task) for n, task in enumerate(["chat", "completion"] * 20))
    group = Group("t", (a_kind("completion"), a_kind("chat")), trace=rows)
    drawn = draw_load(LoadPlan((group,), 0), 0)
    assert [item.task for item in drawn] == [row.task for row in rows]


def test_a_trace_keeps_its_sizes_models_and_tasks_targets() -> None:
    rows = (TraceRow(0, 11, 500), TraceRow(SECOND, 12, 5, model="other"))
    plan = LoadPlan((Group("t", (a_kind("chat"),), trace=rows),), 0)
    items: list[LoadItem] = draw_load(plan, 0)
    assert [(i.prompt_tokens, i.output_tokens, i.model) for i in items] == [
        (11, 500, "m"),
        (12, 5, "other"),
    ]
    assert items[0].max_tokens >= 500
    assert plan.rate_per_s == 2
    assert draw_load(plan.scaled(4), 0)[1].at_ns == SECOND // 4


def test_a_load_is_drawn_as_it_is_asked_for() -> None:
    endless = replace(a_plan(rate=1_000), duration_ns=0, count=20_000_000)
    first = list(itertools.islice(iter_load(endless, 0), 50))
    assert first == draw_load(replace(endless, count=50), 0)


def test_requests_of_one_time_are_in_the_order_of_their_names() -> None:
    groups = tuple(
        Group(name, (a_kind(),), EvenArrivals(4, batch=12)) for name in ("second", "first")
    )
    items = draw_load(LoadPlan(groups, 10 * SECOND), 0)
    assert [(i.at_ns, i.id) for i in items] == sorted((i.at_ns, i.id) for i in items)
    assert len({item.at_ns for item in items}) == 3


def bursts(**other: Any) -> dict[str, list[LoadItem]]:
    """Requests of a load of users who type on, by document."""
    rule = Keystrokes(**{"share": 0.45, "after_ms": (100, 200), **other})
    found: dict[str, list[LoadItem]] = {}
    items = draw_load(a_plan(a_kind(keystrokes=rule), seconds=300), 0)
    assert [item.at_ns for item in items] == sorted(item.at_ns for item in items)
    for item in items:
        found.setdefault(item.session, []).append(item)
    return found


def test_a_keystroke_makes_a_request_stale_and_sends_a_newer_one() -> None:
    found = bursts(cancels=0.0)
    items = [item for burst in found.values() for item in burst]
    stale = [item for item in items if item.stale_after_ns >= 0]
    assert len(stale) / len(items) == pytest.approx(0.45, abs=0.03)
    assert len(found) / 300 == pytest.approx(10, rel=0.1), "arrivals are of bursts"
    for burst in found.values():
        assert burst[-1].stale_after_ns == -1
        for before, after in itertools.pairwise(burst):
            assert after.at_ns == before.at_ns + before.stale_after_ns
            assert 100 * MS <= before.stale_after_ns <= 200 * MS
            assert after.prompt_tokens == before.prompt_tokens + 1
            assert after.shared_tokens == before.prompt_tokens
    assert len({item.id for item in items}) == len(items)
    assert {item.supersedes for item in items} == {""}


def test_a_share_of_documents_has_an_editor_that_cancels() -> None:
    found = bursts(cancels=0.3, named=True)
    long = [burst for burst in found.values() if len(burst) > 1]
    cancelling = [burst for burst in long if burst[0].give_up_after_ns >= 0]
    assert len(cancelling) / len(long) == pytest.approx(0.3, abs=0.05)
    for burst in long:
        how = {(i.give_up_after_ns >= 0, i.stale_after_ns >= 0) for i in burst[:-1]}
        assert how in ({(True, False)}, {(False, True)})
        assert {item.supersedes for item in burst} == {burst[0].session}


def test_another_share_of_cancelling_editors_changes_no_size() -> None:
    sizes = [
        [(i.id, i.at_ns, i.prompt_tokens, i.output_tokens) for b in found.values() for i in b]
        for found in (bursts(cancels=0.0), bursts(cancels=1.0, named=True))
    ]
    assert sizes[0] == sizes[1]


def test_waits_between_tries_double_up_to_a_bound_and_heed_advice() -> None:
    rule = Retries(tries=9, backoff_ns=SECOND, jitter=0.5)
    assert [rule.wait_ns(n, 0, 0.0) // SECOND for n in range(7)] == [1, 2, 4, 8, 16, 16, 16]
    assert rule.wait_ns(0, 3 * SECOND, 0.0) == 3 * SECOND
    assert rule.wait_ns(0, 0, 1.0) == 3 * SECOND // 2


def test_all_requests_of_a_group_have_its_retries() -> None:
    rule = Retries(1, SECOND)
    steps = Steps(FixedLength(2), gap_s=1, gap_sigma=0, appended=FixedLength(3))
    group = Group("g", (a_kind(),), poisson(1), steps=steps, retries=rule)
    items = every_step(draw_load(LoadPlan((group,), 0, count=2), 0))
    assert [item.retries for item in items] == [rule] * 4
