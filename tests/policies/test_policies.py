"""Policies as tables: what each decides, and that their keys and victims keep what they promise."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slalom.core.actions import Reason
from slalom.core.planning import RouteView
from slalom.core.policy import Verdict
from slalom.core.request import ModelSpec, Request, Sla
from slalom.errors import ConfigError
from slalom.policies import pathological
from slalom.policies.admission import DropLate, OpenAdmission
from slalom.policies.ordering import Edf, Fcfs
from slalom.policies.registry import DEFAULT_KINDS, POLICIES, build, policies, policy_class
from slalom.policies.residency.simple import Lru
from slalom.policies.routing import MostFree, Pack
from slalom.units import MS, SECOND


@dataclass(frozen=True)
class Waits:
    """A waiting request."""

    request: Request
    queued_ns: int = 0
    near: str = ""
    admitted: bool = False


@dataclass(frozen=True)
class Holds:
    """A replica of a size."""

    id: str
    booked_bytes: int
    model_id: str = "a"
    free_places: int = 1
    running_count: int = 0
    last_used_ns: int = 0
    ready_ns: int = 0
    host_bytes: int = 0
    spec: ModelSpec = field(default_factory=lambda: ModelSpec("a", "gpu", 1, 1))
    waiting_count: int = 0
    sleeps: bool = False
    load_ns: int = 0
    wake_ns: int = 0
    deep_wake_ns: int = 0
    announced: tuple[int, ...] = ()

    @property
    def freed_bytes(self) -> int:
        return self.booked_bytes


@dataclass(frozen=True)
class Has:
    """A model with an emptiest and a fullest replica."""

    spec: ModelSpec = field(default_factory=lambda: ModelSpec("a", "gpu", 1, 1))
    waiting_count: int = 1
    start_count: int = 0

    def most_free(self) -> Holds:
        return Holds("emptiest", 0)

    def least_free(self) -> Holds:
        return Holds("fullest", 0)

    def ready(self) -> Sequence[RouteView]:
        return ()

    def reader(self, prefix: str) -> str:
        return prefix[:0]


def request(sla: Sla, at_ns: int = 1_000 * SECOND) -> Request:
    return Request("r", "a", "task", sla, at_ns, 10, 20, 10)


@pytest.mark.parametrize(
    ("policy", "sla", "waited_ns", "verdict"),
    [
        (OpenAdmission(), Sla(ttft_ns=SECOND), 99 * SECOND, Verdict.ADMIT),
        (DropLate(), Sla(ttft_ns=SECOND), SECOND, Verdict.ADMIT),
        (DropLate(), Sla(ttft_ns=SECOND), SECOND + 1, Verdict.REFUSE),
        (DropLate(grace_ms=5), Sla(ttft_ns=SECOND), SECOND + 5 * MS, Verdict.ADMIT),
        (DropLate(grace_ms=5), Sla(ttft_ns=SECOND), SECOND + 5 * MS + 1, Verdict.REFUSE),
        (DropLate(), Sla(ttft_ns=9 * SECOND, e2e_ns=SECOND), 2 * SECOND, Verdict.REFUSE),
        (DropLate(), Sla(), 99 * SECOND, Verdict.ADMIT),
        (DropLate(), Sla(tpot_ns=1), 99 * SECOND, Verdict.ADMIT),
        (pathological.RejectAll(), Sla(), 0, Verdict.REFUSE),
        (pathological.HoldAll(), Sla(), 0, Verdict.HOLD),
    ],
)
def test_admission(
    policy: OpenAdmission | DropLate, sla: Sla, waited_ns: int, verdict: Verdict
) -> None:
    asked = request(sla)
    decision = policy.decide(Waits(asked), Has(), asked.arrived_ns + waited_ns)
    assert decision.verdict is verdict
    assert (decision.reason is Reason.SLA_INFEASIBLE) == (verdict is Verdict.REFUSE)


@pytest.mark.parametrize(
    ("policy", "sla", "after_ns"),
    [
        (Fcfs(), Sla(ttft_ns=SECOND), 0),
        (Edf(), Sla(ttft_ns=SECOND), SECOND),
        (Edf(), Sla(ttft_ns=5 * SECOND, e2e_ns=2 * SECOND), 2 * SECOND),
        (Edf(), Sla(tpot_ns=5), 7 * SECOND),
        (Edf(), Sla(), 7 * SECOND),
        (Edf(ageing_ms=3_000), Sla(e2e_ns=9 * SECOND), 3 * SECOND),
        (Edf(ageing_ms=3_000), Sla(), 3 * SECOND),
    ],
)
def test_ordering(policy: Fcfs | Edf, sla: Sla, after_ns: int) -> None:
    asked = request(sla)
    key = policy.key(asked, 7 * SECOND)
    assert key == asked.arrived_ns + after_ns


@given(
    sla=st.builds(Sla, ttft_ns=st.none() | st.integers(0, 10**12)),
    later_ns=st.integers(0, 10**12),
)
def test_whoever_arrives_late_enough_overtakes_nobody(sla: Sla, later_ns: int) -> None:
    """Bounded waiting: an order's head start is bounded, whatever the objectives."""
    policy = Edf()
    old = policy.key(request(sla, 0), SECOND)
    new = policy.key(request(Sla(ttft_ns=0), policy.ageing_ms * MS + 1 + later_ns), SECOND)
    assert old < new


@pytest.mark.parametrize(
    ("sizes", "shortfall", "victims"),
    [
        ([4, 4, 4], 4, ["r0"]),
        ([4, 4, 4], 5, ["r0", "r1"]),
        ([4, 4, 4], 12, ["r0", "r1", "r2"]),
        ([4, 4, 4], 13, None),
        ([], 1, None),
        ([1, 2, 9], 9, ["r2"]),
        ([3, 1, 9], 12, ["r0", "r2"]),
        ([0, 4], 4, ["r1"]),
    ],
)
def test_lru_takes_the_oldest_that_suffice_and_spares_what_it_can(
    sizes: list[int], shortfall: int, victims: list[str] | None
) -> None:
    candidates = [Holds(f"r{index}", size) for index, size in enumerate(sizes)]
    chosen = Lru().victims(candidates, shortfall, 0)
    assert (None if chosen is None else [replica.id for replica in chosen]) == victims


@given(sizes=st.lists(st.integers(0, 20), max_size=8), shortfall=st.integers(1, 60))
def test_lru_frees_enough_and_nothing_in_vain(sizes: list[int], shortfall: int) -> None:
    candidates = [Holds(f"r{index}", size) for index, size in enumerate(sizes)]
    chosen = Lru().victims(candidates, shortfall, 0)
    if chosen is None:
        assert sum(sizes) < shortfall
        return
    freed = sum(replica.booked_bytes for replica in chosen)
    assert freed >= shortfall
    assert all(freed - replica.booked_bytes < shortfall for replica in chosen)


def test_routing_spreads_or_packs() -> None:
    asked = Waits(request(Sla()))
    for policy, picked in ((MostFree(), "emptiest"), (Pack(), "fullest")):
        found = policy.pick(asked, Has(), 0)
        assert found is not None
        assert found.id == picked
    assert pathological.NoRoute().pick(asked, Has(), 0) is None


def test_the_pathological_ones_go_to_extremes_and_cannot_be_configured() -> None:
    candidates = [Holds("r0", 1), Holds("r1", 1)]
    assert pathological.NeverEvict().victims(candidates, 1, 0) is None
    assert pathological.EvictAll().victims(candidates, 1, 0) == candidates
    selectable = {chosen for kinds in POLICIES.values() for chosen in kinds.values()}
    assert not [kind for kind in selectable if kind.__module__ == pathological.__name__]


def test_every_row_of_the_registry_builds_and_says_what_it_is() -> None:
    for slot, kinds in POLICIES.items():
        assert DEFAULT_KINDS[slot] in kinds
        for kind, chosen in kinds.items():
            assert isinstance(build(slot, kind), chosen)
            assert (chosen.__doc__ or "").startswith(f"`{kind}`: ")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: policy_class("ordering", "eddf"), "did you mean 'edf'"),
        (lambda: policy_class("ordering", "zzz"), "known: fcfs, edf"),
        (lambda: build("ordering", "edf", {"aging": 1}), "scheduler.ordering"),
        (lambda: policies(order="edf"), "no policy slot"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_ones(call: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()  # type: ignore[operator]


def test_policies_by_name() -> None:
    chosen = policies(ordering="fcfs")
    assert isinstance(chosen.ordering, Fcfs)
    assert isinstance(chosen.residency, Lru)
