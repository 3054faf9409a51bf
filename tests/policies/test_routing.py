"""Routing policies as tables: which of several replicas each of them takes, and why."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from slalom.core.actions import Dispatch
from slalom.core.events import AttemptFinished, ReplicaReady
from slalom.core.policy import Named
from slalom.core.request import DeviceSpec, ModelSpec, Request
from slalom.core.scheduler import Scheduler
from slalom.policies.outlook import outlook
from slalom.policies.registry import policies
from slalom.policies.routing import LeastOngoing, PowerOfTwo, PrefixAffinity, RoundRobin
from slalom.policies.routing_by_time import ByPlan, Cato
from slalom.testing.recorder import Recorder
from slalom.units import GIB, MS, SECOND
from tests.core.stories import arrive, loaded
from tests.policies.views import AT_NS, Ready, Runs, Waits, asked, calibrated


@dataclass(frozen=True)
class Open(Ready):
    """A ready replica as routing sees it."""

    last_start: int = -1
    #: Attempts of which nothing is known but that they are there.
    others: int = 0

    @property
    def running_count(self) -> int:
        return len(self.attempts) + self.others

    @property
    def free_places(self) -> int:
        return self.places - self.running_count


@dataclass(frozen=True)
class Fleet:
    """A model with several replicas."""

    replicas: Sequence[Open]
    spec: ModelSpec = field(default_factory=lambda: calibrated(step=10, sequence=1, prompt=1))
    waiting_count: int = 1
    start_count: int = 0
    readers: Mapping[str, str] = field(default_factory=dict)

    def ready(self) -> Sequence[Open]:
        return self.replicas

    def reader(self, prefix: str) -> str:
        return self.readers.get(prefix, "")

    def most_free(self) -> None:
        return None

    def least_free(self) -> None:
        return None


def name_of(picked: Named | None) -> str:
    return picked.id if picked else ""


def busy(replica_id: str, count: int, last_start: int = -1) -> Open:
    return Open(replica_id, places=8, others=count, last_start=last_start)


def test_round_robin_takes_turns_whatever_runs() -> None:
    fleet = Fleet([busy("a", 0, last_start=5), busy("b", 7, last_start=3), busy("c", 8)])
    picked = RoundRobin().pick(Waits(asked()), fleet, AT_NS)
    assert name_of(picked) == "b"  # c is full, though it never had a turn


def test_least_ongoing_takes_the_least_busy_and_equals_in_turn() -> None:
    fleet = Fleet([busy("a", 2), busy("b", 1, last_start=9), busy("c", 1, last_start=8)])
    assert name_of(LeastOngoing().pick(Waits(asked()), fleet, AT_NS)) == "c"


def test_power_of_two_draws_two_and_takes_the_less_busy_one() -> None:
    replicas = [busy(name, count) for count, name in enumerate("abcd")]
    picks = Counter(
        name_of(PowerOfTwo().pick(Waits(asked()), Fleet(replicas, start_count=n), AT_NS))
        for n in range(2_000)
    )
    assert picks["d"] == 0  # the busiest one loses against any other
    # Of six pairs, three hold a, two hold b without a, one holds c without both.
    for name, share in {"a": 3 / 6, "b": 2 / 6, "c": 1 / 6}.items():
        assert picks[name] / 2_000 == pytest.approx(share, abs=0.05)


def test_two_seeds_draw_otherwise_and_one_seed_the_same() -> None:
    def drawn(seed: int) -> list[str]:
        replicas = [busy(name, 0) for name in "abcdef"]
        policy = PowerOfTwo(seed)
        return [
            name_of(policy.pick(Waits(asked()), Fleet(replicas, start_count=n), AT_NS))
            for n in range(50)
        ]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


@pytest.mark.parametrize(("there", "picked"), [(0, "b"), (3, "b"), (4, "a")])
def test_prefix_affinity_goes_where_the_prefix_was_read_unless_that_is_busy(
    there: int, picked: str
) -> None:
    fleet = Fleet([busy("a", 0), busy("b", there)], readers={"doc": "b"})
    request = Waits(_with_prefix(asked(), "doc", 50))
    assert name_of(PrefixAffinity(imbalance_max=3).pick(request, fleet, AT_NS)) == picked


def _with_prefix(request: Request, prefix: str, tokens: int) -> Request:
    return Request(
        request.id,
        request.model,
        request.task,
        request.sla,
        request.arrived_ns,
        request.prompt_tokens,
        request.max_tokens,
        request.predicted_tokens,
        prefix=prefix,
        prefix_tokens=tokens,
    )


def writing(tokens: int, count: int) -> list[Runs]:
    """So many attempts, each with so much left to write; their prompts are read."""
    return [
        Runs(asked(f"w{index}", tokens=tokens), number=index, first_ns=AT_NS, client_first_ns=AT_NS)
        for index in range(count)
    ]


#: `reads` has a long prompt before it and nothing else; `writes` has none, and many that write.
READS = Open("reads", places=8, attempts=[Runs(asked("p", prompt=400, tokens=5))])
WRITES = Open("writes", places=8, attempts=writing(500, 6))


@pytest.mark.parametrize(
    ("ttft_ms", "e2e_ms", "picked"), [(500, None, "writes"), (None, 9_000, "reads")]
)
def test_cato_judges_by_what_the_task_is_judged_by(
    ttft_ms: int | None, e2e_ms: int | None, picked: str
) -> None:
    request = asked(tokens=300, prompt=10, ttft_ms=ttft_ms, e2e_ms=e2e_ms)
    assert name_of(Cato().pick(Waits(request), Fleet([READS, WRITES]), AT_NS)) == picked
    assert name_of(Cato().pick(Waits(request), Fleet([WRITES, READS]), AT_NS)) == picked


@pytest.mark.parametrize(
    ("e2e_ms", "picked"),
    # Alone they take 0.56 s; beside two others 0.66 s, beside six 0.86 s.
    [(2_000, "six"), (850, "two"), (600, "none"), (100, "none")],
)
def test_the_plan_packs_what_is_loose_as_long_as_it_is_on_time(e2e_ms: int, picked: str) -> None:
    fleet = Fleet(
        [
            Open("none", places=8),
            Open("six", places=8, attempts=writing(500, 6)),
            Open("two", places=8, attempts=writing(500, 2)),
        ]
    )
    request = asked(tokens=50, prompt=10, e2e_ms=e2e_ms)
    assert name_of(ByPlan().pick(Waits(request), fleet, AT_NS)) == picked


def test_the_plan_makes_nobody_late() -> None:
    tight = [
        Runs(asked("t", tokens=100, e2e_ms=1_230), first_ns=AT_NS, client_first_ns=AT_NS),
        *writing(500, 1),
    ]
    fleet = Fleet([Open("tight", places=8, attempts=tight), Open("loose", places=8)])
    short = Waits(asked(tokens=50, prompt=5, e2e_ms=9_000))
    assert name_of(ByPlan().pick(short, fleet, AT_NS)) == "loose"


def test_the_plan_sends_what_is_urgent_where_its_prompt_was_read() -> None:
    fleet = Fleet(
        [Open("a", places=8), Open("b", places=8, attempts=writing(50, 3))],
        readers={"doc": "b"},
    )
    urgent = Waits(_with_prefix(asked(prompt=300, tokens=5, ttft_ms=900), "doc", 250))
    assert name_of(ByPlan().pick(urgent, fleet, AT_NS)) == "b"
    other = Waits(_with_prefix(asked(prompt=300, tokens=5, ttft_ms=900), "new", 250))
    assert name_of(ByPlan().pick(other, fleet, AT_NS)) == "a"


def test_an_outlook_is_the_clock_walked_by_hand() -> None:
    cost = calibrated(step=10, sequence=1, prompt=1).step_cost
    assert cost is not None
    found = outlook(asked(tokens=50, prompt=100), Open("a", attempts=writing(20, 1)), cost, AT_NS)
    # 100 ms for the prompt; 20 steps of 12 ms beside the other one, then 30 of 11 ms.
    assert found.end_ns == pytest.approx((100 + 20 * 12 + 30 * 11) * MS)
    assert found.first_ns == pytest.approx((100 + 12) * MS)
    assert found.queue_ns == 0
    unread = Open("a", attempts=[Runs(asked("p", prompt=70), started_ns=AT_NS - 30 * MS)])
    assert outlook(asked(), unread, cost, AT_NS).queue_ns == pytest.approx(40 * MS)


@pytest.mark.parametrize("kind", ["round-robin", "least-ongoing", "power-of-two", "cato", "plan"])
@pytest.mark.parametrize("admission", ["open", "class-priority"])
def test_in_the_core_every_replica_gets_its_share(kind: str, admission: str) -> None:
    spec = ModelSpec("a", "gpu", GIB, 8, replicas=3, step_cost=calibrated(step=10).step_cost)
    chosen = policies(routing=kind, admission=admission)
    recorder = Recorder(Scheduler([spec], [DeviceSpec("gpu", 10 * GIB)], chosen))
    arrive(recorder, *(f"warm{index}" for index in range(40)))
    while coming := loaded(recorder.entries[-1].actions):
        epochs = len(recorder.scheduler.state.models["a"].replicas)
        recorder.tell(ReplicaReady(coming[0], epochs), after_ns=SECOND)
    places = Counter(one.replica_id for one in recorder.actions(Dispatch))
    assert set(places) == {"a#0", "a#1", "a#2"}
    while fences := list(recorder.scheduler.state.attempts):
        recorder.tell(AttemptFinished(*fences[0], 1), after_ns=MS)
    before = len(recorder.actions(Dispatch))
    for index in range(6):
        arrive(recorder, f"r{index}", after_ns=MS)
    later = [one.replica_id for one in recorder.actions(Dispatch)[before:]]
    if kind in {"round-robin", "least-ongoing"}:
        assert sorted(later[:3]) == sorted(later[3:6]) == ["a#0", "a#1", "a#2"]
    assert recorder.counter("plan_misfits") == 0
