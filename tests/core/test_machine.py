"""Hypothesis tells the scheduler stories nobody would write, and shrinks those that break it."""

from typing import Any, cast

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from slalom.core.events import (
    AttemptFailed,
    AttemptFinished,
    DrainRequested,
    Event,
    FailureKind,
    FirstToken,
    LoadProgress,
    MemorySampled,
    Progress,
    ReplicaFailed,
    ReplicaGone,
    ReplicaReady,
    RequestArrived,
    RequestCancelled,
    TimerFired,
)
from slalom.core.journal import replay
from slalom.core.params import SchedulerParams
from slalom.core.policy import Policies
from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla
from slalom.core.scheduler import Scheduler
from slalom.policies.admission import DropLate, OpenAdmission
from slalom.policies.edf_drop import EdfDrop
from slalom.policies.niyama import Niyama
from slalom.policies.ordering import Edf, Fcfs
from slalom.policies.pathological import (
    EvictAll,
    HoldAll,
    NeverEvict,
    NoRoute,
    PlanNonsense,
    PlanNothing,
    RejectAll,
)
from slalom.policies.residency.simple import Lru
from slalom.policies.routing import MostFree, Pack
from slalom.policies.saber import Saber
from slalom.policies.velocity import Velocity
from slalom.testing.recorder import Recorder
from slalom.testing.scripted_planner import EveryLever
from slalom.units import GIB, MS, SECOND

_KINDS = st.sampled_from(list(FailureKind))
_AGO = st.sampled_from([0, 0, 1, 10 * MS, SECOND, 5 * SECOND])
_SLAS = st.sampled_from([Sla(), Sla(ttft_ns=SECOND), Sla(e2e_ns=9 * SECOND)])
_ADMISSIONS = [
    OpenAdmission(),
    DropLate(),
    RejectAll(),
    HoldAll(),
    PlanNothing(),
    PlanNonsense(),
    EveryLever(pauses_max=3),
    Saber(),
    EdfDrop(),
    Niyama(),
    Velocity(),
]


class Stories(RuleBasedStateMachine):
    """Any event may come at any time, with right and with stale fences."""

    @initialize(
        sizes=st.lists(st.integers(0, 6), min_size=1, max_size=4),
        places=st.integers(1, 3),
        replicas=st.integers(1, 2),
        window=st.sampled_from([0, 0, 2]),
        admission=st.sampled_from(_ADMISSIONS),
        ordering=st.sampled_from([Fcfs(), Edf()]),
        residency=st.sampled_from([Lru(), NeverEvict(), EvictAll()]),
        routing=st.sampled_from([MostFree(), Pack(), NoRoute()]),
        patience_ns=st.sampled_from([0, SECOND]),
        residency_ns=st.sampled_from([0, SECOND]),
        pinned=st.booleans(),
    )
    def begin(self, sizes: list[int], **chosen: Any) -> None:
        self.models = [
            ModelSpec(
                f"m{index}",
                "gpu",
                gib * GIB,
                chosen["places"],
                chosen["replicas"],
                pinned=chosen["pinned"] and index == 0 and gib * chosen["replicas"] <= 8,
            )
            for index, gib in enumerate(sizes)
        ]
        self.devices = [DeviceSpec("gpu", 8 * GIB, chosen["window"])]
        self.policies = Policies(
            chosen["admission"], chosen["ordering"], chosen["residency"], chosen["routing"]
        )
        self.params = SchedulerParams(
            queue_max=6,
            queue_timeout_ns=8 * SECOND,
            attempts_max=2,
            swap_patience_ns=chosen["patience_ns"],
            min_residency_ns=chosen["residency_ns"],
            swap_drain_timeout_ns=2 * SECOND,
            load_timeout_ns=12 * SECOND,
            unload_timeout_ns=6 * SECOND,
            attempt_silence_ns=7 * SECOND,
        )
        self.arrived = 0
        self.recorder = Recorder(self._fresh())
        self.recorder.handle()

    def _fresh(self) -> Scheduler:
        return Scheduler(self.models, self.devices, self.policies, self.params)

    def _tell(self, *events: Event, ago: int) -> None:
        self.recorder.tell(*events, after_ns=ago)

    def _pick(self, data: st.DataObject, known: list[Any]) -> Any:
        return data.draw(st.sampled_from(known))

    @rule(count=st.integers(1, 4), data=st.data(), ago=_AGO, sla=_SLAS)
    def arrive(self, count: int, data: st.DataObject, ago: int, sla: Sla) -> None:
        now_ns = self.recorder.now_ns + ago
        events = []
        for _ in range(count):
            model = data.draw(st.integers(0, len(self.models)))
            name = f"r{self.arrived}"
            request = Request(
                name,
                f"m{model}",
                "task",
                sla,
                now_ns,
                10,
                20,
                10,
                supersedes="" if self.arrived % 3 else "a file",
                resumable=self.arrived % 2 == 0,
            )
            self.arrived += 1
            events.append(RequestArrived(request))
        self._tell(*events, ago=ago)

    def _books(self) -> Any:
        assert self.recorder.checker is not None
        return self.recorder.checker.books

    @precondition(lambda self: self._books().requests)
    @rule(data=st.data(), ago=_AGO)
    def cancel(self, data: st.DataObject, ago: int) -> None:
        self._tell(RequestCancelled(self._pick(data, list(self._books().requests))), ago=ago)

    @precondition(lambda self: self._books().attempts)
    @rule(data=st.data(), ago=_AGO, stale=st.sampled_from([0, 0, 0, 1]), kind=_KINDS)
    def attempt(self, data: st.DataObject, ago: int, stale: int, kind: FailureKind) -> None:
        name, number = self._pick(data, list(self._books().attempts))
        fence = (name, number + stale)
        event = data.draw(
            st.sampled_from(
                [
                    FirstToken(*fence),
                    Progress(*fence, 3),
                    AttemptFinished(*fence, 4),
                    AttemptFinished(*fence, 4),
                    AttemptFailed(*fence, kind, delivered=False),
                    AttemptFailed(*fence, kind, delivered=True),
                    AttemptFailed(*fence, FailureKind.ABORTED, delivered=True, output_tokens=2),
                ]
            )
        )
        self._tell(cast("Event", event), ago=ago)

    @precondition(lambda self: self._books().replicas)
    @rule(data=st.data(), ago=_AGO, stale=st.sampled_from([0, 0, 0, 1]), kind=_KINDS)
    def replica(self, data: st.DataObject, ago: int, stale: int, kind: FailureKind) -> None:
        name, epoch = self._pick(data, list(self._books().replicas))
        fence = (name, epoch + stale)
        at_ns = self.recorder.now_ns + ago
        event = data.draw(
            st.sampled_from(
                [
                    LoadProgress(*fence, 0.5),
                    ReplicaReady(*fence),
                    ReplicaReady(*fence, 3 * GIB),
                    MemorySampled(*fence, 5 * GIB, at_ns),
                    ReplicaFailed(*fence, kind, "because"),
                    ReplicaGone(*fence),
                ]
            )
        )
        self._tell(cast("Event", event), ago=ago)

    @precondition(lambda self: self._books().replicas)
    @rule(ago=_AGO)
    def everything_asked_for_happens(self, ago: int) -> None:
        events: list[Event] = [
            ReplicaGone(*key) if seen.leaving else ReplicaReady(*key)
            for key, seen in self._books().replicas.items()
            if seen.leaving or seen.ready_ns < 0
        ]
        self._tell(*events, ago=ago)

    @precondition(lambda self: self.recorder.scheduler.state.timer_ns >= 0)
    @rule()
    def wait_for_the_timer(self) -> None:
        due_ns = self.recorder.scheduler.state.timer_ns
        self.recorder.handle([TimerFired()], max(due_ns, self.recorder.now_ns))

    @rule(within=st.sampled_from([0, SECOND, 20 * SECOND]), really=st.integers(0, 4))
    def drain(self, within: int, really: int) -> None:
        if really == 0:
            self._tell(DrainRequested(self.recorder.now_ns + within), ago=0)

    @invariant()
    def nothing_more_follows_without_news(self) -> None:
        """A second look at the same instant finds nothing to do: the reconcile was complete."""
        if hasattr(self, "recorder"):
            assert self.recorder.handle() == []

    def teardown(self) -> None:
        if hasattr(self, "recorder"):
            assert replay(self._fresh(), self.recorder.entries) is None


TestStories = Stories.TestCase
TestStories.settings = settings(
    max_examples=120,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    derandomize=True,
)
