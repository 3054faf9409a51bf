"""Scaling policies: each one's rule, how long it waits, and that sizes never thrash."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slalom.core.actions import LoadReplica, SizeDecided, UnloadCause, UnloadReplica
from slalom.core.events import AttemptFinished
from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla, StepCost
from slalom.core.scheduler import Scheduler
from slalom.core.sizing import Size, Sizing
from slalom.policies.registry import POLICIES, policies
from slalom.policies.scaling.by_count import Fixed, RayQueue
from slalom.policies.scaling.by_target import CatoScaling
from slalom.policies.scaling.forecast import Forecast
from slalom.policies.scaling.replay import calls_of, good_with
from slalom.testing.recorder import Recorder
from slalom.units import GIB, MS, SECOND
from tests.core.stories import arrive, ready
from tests.policies.test_routing import Open, writing
from tests.policies.views import AT_NS, asked

#: 20 ms a step and 1 ms for each sequence; 0.1 ms for a prompt token.
COST = StepCost(step_ns=20 * MS, sequence_ns=1 * MS, prompt_ns=0.1 * MS)
SPEC = ModelSpec("a", "gpu", GIB, 4, replicas=16, step_cost=COST)
HOUR_NS = 3_600 * SECOND


HOMES = tuple(f"gpu{index}" for index in range(8))


@dataclass(frozen=True)
class Card:
    """A device as a scaling policy sees it."""

    id: str
    free_bytes: int = GIB
    is_wanted: bool = False


@dataclass
class Shape:
    """A model as a scaling policy sees it."""

    waiting_count: int = 0
    running: int = 0
    up: int = 1
    replicas: Sequence[Open] = ()
    waiting: Sequence[Request] = ()
    spec: ModelSpec = SPEC
    load_ns: int = 0
    sizing: Sizing = field(default_factory=Sizing)
    cards: Sequence[Card] = tuple(Card(name) for name in HOMES)
    stands: Mapping[str, int] = field(default_factory=dict)

    @property
    def devices(self) -> Sequence[Card]:
        return self.cards

    @property
    def bytes_needed(self) -> int:
        return self.spec.bytes_needed

    def standing_on(self) -> Mapping[str, int]:
        return self.stands

    def running_count(self) -> int:
        return self.running

    def up_count(self) -> int:
        return self.up

    def ready(self) -> Sequence[Open]:
        return self.replicas

    def waiting_requests(self, limit: int) -> Sequence[Request]:
        return self.waiting[:limit]

    def follow(self, answer: Size, now_ns: int) -> None:
        """As the core does it."""
        self.sizing.lean(answer.leaning, now_ns)
        size = min(max(answer.replicas, 0), self.spec.replicas)
        if size != self.sizing.size:
            self.sizing.resize(size, now_ns)
        self.up = size


@pytest.mark.parametrize(
    ("replicas", "ongoing", "factor", "wanted"),
    [
        (4, 8, 1.0, 4),
        (4, 9, 1.0, 5),
        (4, 24, 1.0, 12),
        (4, 24, 0.5, 8),
        (4, 3, 1.0, 2),
        (0, 1, 1.0, 1),
    ],
)
def test_ray_wants_its_target_of_ongoing_requests_on_each(
    replicas: int, ongoing: int, factor: float, wanted: int
) -> None:
    policy = RayQueue(
        target_ongoing=2,
        up_factor=factor,
        down_factor=factor,
        up_delay_s=0,
        down_delay_s=0,
        least=0,
    )
    model = Shape(waiting_count=ongoing // 2, running=ongoing - ongoing // 2, up=replicas)
    assert policy.size(model, AT_NS).replicas == wanted


def test_ray_waits_for_its_delay_and_begins_anew_when_the_wish_turns() -> None:
    policy = RayQueue(up_delay_s=30, down_delay_s=600)
    model = Shape(waiting_count=20, up=1)
    for second, size in ((0, 1), (29, 1), (30, 10)):
        at_ns = AT_NS + second * SECOND
        model.follow(policy.size(model, at_ns), at_ns)
        assert model.sizing.size == size
    model.waiting_count = 2
    for second, size in ((31, 10), (600, 10), (630, 10), (631, 1)):
        at_ns = AT_NS + second * SECOND
        model.follow(policy.size(model, at_ns), at_ns)
        assert model.sizing.size == size
    model.waiting_count = 20
    model.follow(policy.size(model, AT_NS + 640 * SECOND), AT_NS + 640 * SECOND)
    model.waiting_count = 2  # the wish for more has gone: its time does not count any more
    model.follow(policy.size(model, AT_NS + 660 * SECOND), AT_NS + 660 * SECOND)
    model.waiting_count = 20
    model.follow(policy.size(model, AT_NS + 675 * SECOND), AT_NS + 675 * SECOND)
    assert model.sizing.size == 1


def test_cato_grows_where_the_estimate_exceeds_the_target_and_shrinks_where_it_is_far_off() -> None:
    policy = CatoScaling(down_delay_s=10)
    busy = Shape(up=2, running=8, replicas=[Open("x", places=4, attempts=writing(100, 4))] * 2)
    busy.sizing.resize(2, AT_NS)
    busy.waiting = [asked("w", tokens=100, e2e_ms=1_500)] * 3
    busy.waiting_count = 3
    assert policy.size(busy, AT_NS).replicas > 2
    calm = Shape(up=2, replicas=[Open("x", places=4)] * 2)
    calm.sizing.resize(2, AT_NS)
    calm.sizing.arrived(asked("r", tokens=20, e2e_ms=9_000), AT_NS)
    first = policy.size(calm, AT_NS + SECOND)
    assert (first.replicas, first.leaning) == (2, -1)
    calm.follow(first, AT_NS + SECOND)
    assert policy.size(calm, AT_NS + 11 * SECOND).replicas == 1
    near = Shape(up=2, replicas=[Open("x", places=4)] * 2)
    near.sizing.resize(2, AT_NS)
    near.sizing.arrived(asked("r", tokens=20, e2e_ms=600), AT_NS)  # alone it takes 0.43 s
    assert policy.size(near, AT_NS + SECOND) == Size(2)


def load(per_s: float, seconds: int, until_ns: int, e2e_ms: int = 4_000) -> list[Request]:
    """Even arrivals of 100 tokens each, up to a time."""
    gap_ns = round(SECOND / per_s)
    return [
        Request(f"r{n}", "a", "t", Sla(e2e_ns=e2e_ms * MS), until_ns - n * gap_ns, 100, 100, 100)
        for n in reversed(range(round(per_s * seconds)))
    ]


def test_a_replay_counts_what_so_many_replicas_could_serve() -> None:
    requests = load(4.0, 30, 30 * SECOND)
    calls = calls_of(requests, COST, 1.0, Sizing())
    good = [good_with(count, calls, COST, 4, 30 * SECOND) for count in range(8)]
    # Four places, each busy for some 2.5 s with a request: one replica serves about 1.6 a second.
    assert good[0] == 0
    assert good[1] / 30 == pytest.approx(1.6, abs=0.3)
    assert good[2] / 30 == pytest.approx(3.2, abs=0.6)
    assert good[4] == good[7] == len(requests)


@given(
    gaps=st.lists(st.integers(1, 3_000), min_size=1, max_size=40),
    e2e_ms=st.integers(500, 8_000),
    places=st.integers(1, 8),
)
@settings(deadline=None)
def test_another_replica_is_never_worth_less_than_nothing(
    gaps: list[int], e2e_ms: int, places: int
) -> None:
    at_ns, requests = 0, []
    for index, gap in enumerate(gaps):
        at_ns += gap * MS
        sla = Sla(e2e_ns=e2e_ms * MS)
        requests.append(Request(f"r{index}", "a", "t", sla, at_ns, 100, 80, 80))
    calls = calls_of(requests, COST, 1.0, Sizing())
    good = [good_with(count, calls, COST, places, at_ns) for count in range(1, 6)]
    assert all(after >= before for before, after in pairwise(good))


@pytest.mark.parametrize(
    ("per_s", "size", "least", "most"), [(4.0, 1, 3, 4), (4.0, 9, 3, 8), (0.5, 4, 1, 3)]
)
def test_the_forecast_has_as_many_as_pay(per_s: float, size: int, least: int, most: int) -> None:
    model = Shape(up=size)
    model.sizing.resize(size, AT_NS)
    for request in load(per_s, 60, AT_NS):
        model.sizing.arrived(request, request.arrived_ns)
    found = Forecast(down_delay_s=0).size(model, AT_NS).replicas
    assert least <= found <= most


def test_a_higher_price_buys_fewer_replicas() -> None:
    sizes = []
    for worth in (0.5, 60.0, 100_000.0):
        model = Shape(up=1)
        model.sizing.resize(1, AT_NS)
        for request in load(6.0, 60, AT_NS):
            model.sizing.arrived(request, request.arrived_ns)
        sizes.append(Forecast(worth_per_minute=worth).size(model, AT_NS).replicas)
    assert sizes[0] >= sizes[1] > sizes[2] == 1


def test_the_forecast_looks_ahead_by_the_time_of_a_load() -> None:
    sizes = []
    for load_ns in (0, 60 * SECOND):
        model = Shape(up=1, load_ns=load_ns)
        model.sizing.resize(1, AT_NS)
        slow, fast = load(0.5, 30, AT_NS - 30 * SECOND), load(1.5, 30, AT_NS)
        for request in (*slow, *fast):
            model.sizing.arrived(request, request.arrived_ns)
        sizes.append(Forecast().size(model, AT_NS).replicas)
    assert sizes[1] > sizes[0]


def test_the_same_time_of_yesterday_counts() -> None:
    sizing = Sizing()
    day_ns, part_ns = 86_400 * SECOND, 900 * SECOND
    for day in range(2):
        for part, count in ((40, 10), (41, 30)):
            for _ in range(count if day == 0 or part == 40 else 0):
                at_ns = day * day_ns + part * part_ns
                sizing.arrived(asked("r"), at_ns)
    now_ns = day_ns + 40 * part_ns + 1
    assert sizing.day_factor(now_ns, part_ns) == pytest.approx(3.0)
    assert sizing.day_factor(now_ns, 0) == 1.0
    assert Sizing().day_factor(now_ns, part_ns) == 1.0


def test_the_forecast_lets_go_of_what_nobody_asked_for_in_a_while() -> None:
    policy = Forecast(idle_s=60, down_delay_s=10)
    model = Shape(up=1)
    model.sizing.resize(1, AT_NS)
    model.sizing.arrived(asked("r"), AT_NS)
    at_ns = AT_NS + 59 * SECOND
    assert policy.size(model, at_ns) == Size(1)
    at_ns += SECOND
    model.follow(policy.size(model, at_ns), at_ns)
    assert (model.sizing.size, model.sizing.leaning) == (1, -1)
    assert policy.size(model, at_ns + 10 * SECOND).replicas == 0


@given(
    loads=st.lists(st.tuples(st.integers(20, 600), st.integers(0, 40)), min_size=4, max_size=12),
    bound=st.integers(2, 12),
)
@settings(deadline=None, max_examples=6)
@pytest.mark.timeout(180)
def test_sizes_never_change_more_often_in_an_hour_than_they_may(
    loads: list[tuple[int, int]], bound: int
) -> None:
    """Whatever is asked: waves, pauses, bursts."""
    policy = Forecast(changes_per_hour=bound, down_delay_s=20, idle_s=60)
    model, now_ns, changes = Shape(up=1), 0, []
    for seconds, tenths in loads:
        per_s, end_ns = tenths / 10, now_ns + seconds * SECOND
        coming = load(per_s, seconds, end_ns) if per_s > 0 else []
        while now_ns < end_ns:
            now_ns += 20 * SECOND
            while coming and coming[0].arrived_ns <= now_ns:
                model.sizing.arrived(coming.pop(0), now_ns)
            before = model.sizing.size
            model.running = 1 if per_s > 1 else 0
            answer = policy.size(model, now_ns)
            if model.running and answer.replicas == 0:
                answer = Size(1)
            model.follow(answer, now_ns)
            if before not in {-1, model.sizing.size}:
                changes.append(now_ns)
    for index, at_ns in enumerate(changes):
        within = [one for one in changes[index:] if one < at_ns + HOUR_NS]
        assert len(within) <= bound


# -- in the core ------------------------------------------------------------------------------


def started(kind: object, *, replicas: int = 3, gib: int = 10) -> Recorder:
    spec = ModelSpec("a", "gpu", GIB, 1, replicas=replicas, step_cost=COST)
    chosen = policies()
    chosen = type(chosen)(
        chosen.admission,
        chosen.ordering,
        chosen.residency,
        chosen.routing,
        kind,  # type: ignore[arg-type]  # any scaling policy
    )
    recorder = Recorder(Scheduler([spec], [DeviceSpec("gpu", gib * GIB)], chosen))
    recorder.handle()
    return recorder


def test_what_is_decided_is_loaded_side_by_side_and_only_where_there_is_room() -> None:
    assert len(started(Fixed()).actions(LoadReplica)) == 3
    assert len(started(Fixed(), gib=2).actions(LoadReplica)) == 2
    assert not started(POLICIES["scaling"]["on-demand"]()).actions(LoadReplica)


def test_too_many_leave_the_idle_ones_first_and_nobody_is_interrupted() -> None:
    recorder = started(RayQueue(target_ongoing=1, up_delay_s=0, down_delay_s=0, every_s=1))
    arrive(recorder, "one", "two", "three", after_ns=2 * SECOND)
    for _ in range(3):
        recorder.handle([], recorder.now_ns + SECOND)
        ready(recorder)
    assert len(recorder.scheduler.state.attempts) == 3
    recorder.tell(AttemptFinished("one", 1, 1), after_ns=2 * SECOND)
    recorder.handle([], recorder.now_ns + SECOND)
    gone = recorder.actions(UnloadReplica)
    assert [one.cause for one in gone] == [UnloadCause.SCALED]
    assert {a.record.request.id for a in recorder.scheduler.state.attempts.values()} == {
        "two",
        "three",
    }
    assert [one.replicas for one in recorder.actions(SizeDecided)] == [1, 3, 2]


def test_a_scheduler_at_rest_sets_no_timer() -> None:
    recorder = started(RayQueue(least=0, down_delay_s=5, every_s=1))
    arrive(recorder, "one")
    ready(recorder, after_ns=SECOND)
    recorder.tell(AttemptFinished("one", 1, 1), after_ns=SECOND)
    for _ in range(20):
        recorder.handle([], recorder.now_ns + SECOND)
    assert recorder.scheduler.state.models["a"].sizing.size == 0
    assert recorder.scheduler.state.resize_ns < 0
