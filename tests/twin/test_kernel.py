"""Virtual time: the order of simultaneous things, noise by key, and what the world plays out."""

from dataclasses import replace
from typing import get_args

import pytest

from slalom.core.actions import (
    AbortAttempt,
    Action,
    DrainComplete,
    EndRequest,
    LoadReplica,
    Outcome,
    SetTimer,
    UnloadCause,
    UnloadReplica,
)
from slalom.core.events import (
    AttemptFailed,
    AttemptFinished,
    DeviceSampled,
    Event,
    FailureKind,
    FirstToken,
    LoadProgress,
    Progress,
    ReplicaFailed,
    ReplicaGone,
    RequestCancelled,
)
from slalom.core.journal import Entry
from slalom.core.params import SchedulerParams
from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla
from slalom.errors import InvariantError
from slalom.journal.codec import decode_entry, encode_entry
from slalom.policies.registry import policies
from slalom.twin import noise
from slalom.twin.engine_model import StepLaw
from slalom.twin.faults import FaultPlan, Faults
from slalom.twin.kernel import PRIORITY, Agenda, Kernel, Occurrence
from slalom.twin.run import TwinRun, build_scheduler, run
from slalom.twin.scenario import Arrival, Drain, HostDelays, LoadLaw, Scenario, TwinModel
from slalom.units import GIB, MS, SECOND


def scenario(count: int = 1, **other: object) -> Scenario:
    """Requests of 10 tokens that arrive together at 1 s; 2 places; a load of 2 s."""
    arrivals = [
        Arrival(Request(f"r{index}", "a", "task", Sla(), SECOND, 100, 10, 10), 10)
        for index in range(count)
    ]
    model = TwinModel(
        ModelSpec("a", "gpu", 4 * GIB, 2),
        StepLaw(prefill_ns_per_token=1 * MS, token_ns=10 * MS, neighbour_ns=0),
        LoadLaw(fixed_ns=1 * SECOND, bytes_per_s=4 * GIB, reports=2),
        report_every_ns=50 * MS,
    )
    settings: dict[str, object] = {
        "models": (model,),
        "devices": (DeviceSpec("gpu", 10 * GIB),),
        "arrivals": arrivals,
        "policies": policies(),
    }
    return Scenario(**{**settings, **other})  # type: ignore[arg-type]


def told(result: TwinRun, *kinds: type[Event]) -> list[tuple[int, Event]]:
    """(time, event) of the events of some kinds."""
    return [
        (entry.now_ns, event)
        for entry in result.entries
        for event in entry.events
        if isinstance(event, kinds)
    ]


def asked(result: TwinRun, kind: type[Action]) -> list[Action]:
    return [a for entry in result.entries for a in entry.actions if isinstance(a, kind)]


# -- order ------------------------------------------------------------------------------------


def test_everything_that_can_come_has_its_own_priority() -> None:
    assert set(PRIORITY) == {*get_args(Event), *get_args(Occurrence)}
    assert len(set(PRIORITY.values())) == len(PRIORITY)
    last_occurrence = max(PRIORITY[kind] for kind in get_args(Occurrence))
    assert last_occurrence < min(PRIORITY[kind] for kind in get_args(Event))


def test_simultaneous_things_come_by_priority_and_then_in_their_order() -> None:
    agenda = Agenda()
    items: list[Event] = [
        RequestCancelled("r1"),
        AttemptFinished("r2", 1, 5),
        FirstToken("r3", 1),
        FirstToken("r4", 1),
    ]
    for item in items:
        agenda.at(5, item)
    agenda.at(4, RequestCancelled("r0"))
    order = [agenda.pop() for _ in range(len(agenda))]
    assert order == [RequestCancelled("r0"), items[2], items[3], items[1], items[0]]


def test_a_scheduler_and_a_world_that_chase_each_other_are_stopped() -> None:
    chosen = scenario()
    agenda = Agenda()

    class Echo:
        """Every replica it is asked for is gone at once."""

        def occur(self, occurrence: Occurrence, now_ns: int) -> None: ...

        def perform(self, action: Action, now_ns: int) -> None:
            if isinstance(action, LoadReplica):
                agenda.at(now_ns, ReplicaGone(action.replica_id, action.epoch))

    agenda.at(SECOND, RequestCancelled("nobody"))
    model = ModelSpec("a", "gpu", 1, 1, pinned=True)
    params = SchedulerParams(load_backoff_ns=0)
    scheduler = build_scheduler(
        Scenario((TwinModel(model),), chosen.devices, (), chosen.policies, params)
    )
    entries: list[Entry] = []
    kernel = Kernel(scheduler, Echo(), agenda, entries.append)
    with pytest.raises(InvariantError, match="time stands still"):
        kernel.run(2 * SECOND)


# -- noise ------------------------------------------------------------------------------------


def test_draws_depend_on_their_names_alone() -> None:
    first = noise.draw(7, "service", "r1", 1)
    noise.draw(7, "service", "r2", 1)
    assert noise.draw(7, "service", "r1", 1) == first
    others = {noise.draw(8, "service", "r1", 1), noise.draw(7, "service", "r1", 2)}
    others |= {noise.draw(7, "service", "r11", ""), noise.draw(7, "strike", "r1", 1)}
    assert first not in others
    assert len(others) == 4


def test_draws_are_the_same_on_every_machine() -> None:
    assert noise.draw(1, "a", 2) == 12_209_239_123_055_716_091


def test_fractions_are_even() -> None:
    drawn = [noise.fraction(3, "even", index) for index in range(4_000)]
    assert all(0 <= point < 1 for point in drawn)
    assert abs(sum(drawn) / len(drawn) - 0.5) < 0.02
    assert noise.below(0, 1, "x") == 0
    assert {noise.below(3, 1, "x", index) for index in range(50)} == {0, 1, 2}


def test_another_policy_meets_the_same_faults() -> None:
    faults = Faults(FaultPlan(crash=0.3, error=0.3), seed=5)
    drawn = [faults.strike(f"r{index}", 1, 0) for index in range(200)]
    again = Faults(FaultPlan(crash=0.3, error=0.3), seed=5)
    assert [again.strike(f"r{index}", 1, 0) for index in reversed(range(200))] == drawn[::-1]
    assert 80 < sum(strike is not None for strike in drawn) < 160


# -- the world --------------------------------------------------------------------------------


def test_a_request_meets_a_cold_model() -> None:
    result = run(scenario())
    loading = [(at_ns, event.fraction) for at_ns, event in told(result, LoadProgress)]  # type: ignore[union-attr]
    assert loading == [(SECOND, 0.0), (2 * SECOND, 0.5), (3 * SECOND, 1.0)]
    end = result.ends[0]
    assert end.dispatch_ns == 3 * SECOND
    assert end.first_token_ns == 3 * SECOND + 110 * MS
    assert (end.ended_ns, end.output_tokens) == (3 * SECOND + 200 * MS, 10)
    assert [at_ns for at_ns, _ in told(result, Progress)] == [3 * SECOND + 160 * MS]


def test_a_client_whose_patience_ends_frees_the_engine() -> None:
    arrival = Arrival(
        Request("r0", "a", "task", Sla(), SECOND, 100, 999, 10), 999, patience_ns=3 * SECOND
    )
    result = run(scenario(arrivals=[arrival]))
    assert asked(result, AbortAttempt) == [AbortAttempt("r0", 1)]
    (at_ns, event), *_ = told(result, AttemptFailed)
    assert isinstance(event, AttemptFailed)
    assert (at_ns, event.kind, event.delivered) == (4 * SECOND, FailureKind.ABORTED, True)
    assert event.output_tokens == 90
    assert result.ends[0].outcome is Outcome.CANCELLED


def test_a_drained_world_ends_empty() -> None:
    result = run(scenario(count=5, drain=Drain(4 * SECOND, 60 * SECOND)))
    assert result.drained
    assert asked(result, DrainComplete) == [DrainComplete(0)]
    assert result.snapshot.devices[0].booked_bytes == 0
    assert len(result.ends) == 5


@pytest.mark.parametrize(
    ("plan", "kind"),
    [
        (FaultPlan(crash=1.0), FailureKind.CRASHED),
        (FaultPlan(error=1.0), FailureKind.ENGINE_ERROR),
        (FaultPlan(hang=1.0), FailureKind.STALLED),
    ],
)
def test_faults_strike_and_heal(plan: FaultPlan, kind: FailureKind) -> None:
    healed = FaultPlan(crash=plan.crash, hang=plan.hang, error=plan.error, heal_ns=3 * SECOND + 1)
    result = run(scenario(count=2, faults=healed))
    failures = {event.kind for _, event in told(result, AttemptFailed, ReplicaFailed)}  # type: ignore[union-attr]
    assert kind in failures
    assert {end.attempts for end in result.ends} <= {1, 2}
    assert all(end.outcome in {Outcome.DONE, Outcome.FAILED} for end in result.ends)


def test_a_slowed_engine_takes_longer() -> None:
    usual = run(scenario()).ends[0].ended_ns
    assert run(scenario(faults=FaultPlan(slow=1.0))).ends[0].ended_ns > usual


def test_failed_and_slow_loads() -> None:
    result = run(scenario(faults=FaultPlan(failed_load=1.0)))
    assert result.ends[0].outcome is Outcome.FAILED
    assert {action.cause for action in asked(result, UnloadReplica)} == {UnloadCause.FAILED}  # type: ignore[union-attr]
    slow = run(scenario(faults=FaultPlan(slow_load=1.0)))
    assert slow.ends[0].dispatch_ns == 21 * SECOND


def test_foreign_memory_is_measured() -> None:
    plan = FaultPlan(foreign_memory=1.0)
    booked = [
        run(scenario(faults=plan, seed=seed)).snapshot.devices[0].booked_bytes for seed in range(4)
    ]
    assert all(4 * GIB < count <= 5 * GIB for count in booked)


def test_memory_that_others_take_is_measured_and_given_back() -> None:
    # Attempts that last for longer than the memory is taken.
    model = replace(scenario().models[0], step=StepLaw(MS, token_ns=4 * SECOND, neighbour_ns=0))
    plan = FaultPlan(taken_memory=1.0)
    for seed in range(4):
        result = run(scenario(faults=plan, models=(model,), seed=seed))
        (_, taken), (_, back) = told(result, DeviceSampled)
        assert isinstance(taken, DeviceSampled)
        assert isinstance(back, DeviceSampled)
        assert 0 < taken.foreign_bytes <= 8 * GIB
        assert (taken.device, back.foreign_bytes) == ("gpu", 0)
        assert back.as_of_ns > taken.as_of_ns
        assert result.snapshot.devices[0].foreign_bytes == 0


def test_lost_events_are_made_up_for_by_time() -> None:
    params = SchedulerParams(
        attempt_silence_ns=5 * SECOND,
        load_timeout_ns=5 * SECOND,
        unload_timeout_ns=5 * SECOND,
        load_failures_max=5,
    )
    plan = FaultPlan(lost=1.0, heal_ns=9 * SECOND)
    result = run(scenario(faults=plan, params=params, host=HostDelays(watchdog_ns=-1)))
    assert result.ends[0].outcome is Outcome.DONE
    assert result.ends[0].ended_ns > 9 * SECOND, "without losses it is done after 3.2 s"


def test_late_and_doubled_events_change_no_outcome() -> None:
    plan = FaultPlan(late=0.5, duplicate=0.5, late_ns=300 * MS)
    result = run(scenario(count=6, faults=plan))
    assert [end.outcome for end in result.ends] == [Outcome.DONE] * 6
    assert dict(result.snapshot.counters)["stale_events"] > 0


def test_a_journal_survives_its_file_form() -> None:
    result = run(scenario(count=3, faults=FaultPlan(crash=0.5, late=0.3)))
    lines = [encode_entry(entry) for entry in result.entries]
    assert tuple(decode_entry(line, "here") for line in lines) == result.entries


def test_nothing_is_told_after_the_end_of_the_run() -> None:
    result = run(scenario(until_ns=2 * SECOND))
    assert result.ended_ns <= 2 * SECOND
    assert result.ends == ()
    assert asked(result, SetTimer)
    assert not asked(result, EndRequest)
