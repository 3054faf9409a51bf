"""The story of a request, told from a journal that a real scheduler wrote."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from slalom.core.events import (
    AttemptFailed,
    AttemptFinished,
    Event,
    FailureKind,
    FirstToken,
    ReplicaAsleep,
    ReplicaFailed,
    ReplicaGone,
    ReplicaReady,
    RequestArrived,
    RequestCancelled,
    TimerFired,
)
from slalom.core.journal import Entry
from slalom.core.planning import Expectation, Plan, Planning, PlanView, Refuse, Start
from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla
from slalom.core.scheduler import Scheduler
from slalom.journal.codec import JournalError, header_for
from slalom.journal.explain import Story, explain
from slalom.journal.files import JournalParams, JournalWriter
from slalom.policies.registry import policies
from slalom.testing.scripted_planner import Scripted, start_all
from slalom.units import MS, SECOND

START = 10 * SECOND


class Recorder:
    """A scheduler whose entries go to a journal on disk."""

    def __init__(
        self,
        directory: Path,
        *,
        places: int = 1,
        file_bytes_max: int = 1 << 20,
        admission: Planning | None = None,
        sleep_level: int = 0,
    ) -> None:
        sizes = (("small", 60), ("big", 80))
        models = [
            ModelSpec(name, "host", size, places, sleep_level=sleep_level) for name, size in sizes
        ]
        self.scheduler = Scheduler(models, [DeviceSpec("host", 100)], policies())
        header = header_for(self.scheduler, epoch_unix_ns=1_700_000_000 * SECOND)
        if admission is not None:  # which no registry knows, and no story asks for
            chosen = replace(policies(), admission=admission)
            self.scheduler = Scheduler(models, [DeviceSpec("host", 100)], chosen)
        params = JournalParams(directory, file_bytes_max=file_bytes_max)
        self.writer = JournalWriter(params, header)

    def step(self, at_ms: float, *events: Event) -> list[object]:
        now_ns = START + round(at_ms * MS)
        actions = self.scheduler.handle(events, now_ns)
        self.writer.append(Entry(now_ns, events, tuple(actions)))
        return list(actions)


def ask(request_id: str, at_ms: float, model: str = "small", **sla_ms: int) -> RequestArrived:
    sla = Sla(**{f"{name}_ns": limit * MS for name, limit in sla_ms.items()})
    return RequestArrived(
        Request(request_id, model, "chat", sla, START + round(at_ms * MS), 10, 20, 8)
    )


def epoch(recorder: Recorder, replica_id: str) -> int:
    for model in recorder.scheduler.snapshot().models:
        for replica in model.replicas:
            if replica.id == replica_id:
                return replica.epoch
    raise AssertionError(replica_id)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """`cold` waits for its model to load, `queued` for a place, `swap` for an eviction."""
    recorder = Recorder(tmp_path)
    recorder.step(0, ask("cold", 0, ttft=500, e2e=3000))
    recorder.step(900, ReplicaReady("small#0", epoch(recorder, "small#0")))
    recorder.step(1000, FirstToken("cold", 1))
    recorder.step(1100, ask("queued", 1100, ttft=500))
    recorder.step(1200, ask("gone", 1200))
    recorder.step(1250, RequestCancelled("gone"))
    recorder.step(1400, AttemptFinished("cold", 1, 9))
    recorder.step(1500, FirstToken("queued", 1))
    recorder.step(1600, AttemptFinished("queued", 1, 5))
    recorder.step(2600, ask("swap", 2600, "big", e2e=5000))
    recorder.step(2700, ReplicaGone("small#0", epoch(recorder, "small#0")))
    recorder.step(3500, ReplicaReady("big#0", epoch(recorder, "big#0")))
    recorder.step(3600, AttemptFinished("swap", 1, 3))
    recorder.writer.close()
    return tmp_path


def kinds(story: Story) -> list[str]:
    return [step.kind for step in story.steps]


def test_a_cold_start_is_told_with_its_wait_and_its_missed_target(journal: Path) -> None:
    story = explain(journal, "cold")
    assert kinds(story) == ["arrived", "load", "ready", "dispatch", "first-token", "end"]
    assert "small was not loaded" in story.steps[0].text
    assert [step.at_ns // MS for step in story.steps] == [0, 0, 900, 900, 1000, 1400]
    assert (story.waits.loading_ns, story.waits.places_ns) == (900 * MS, 0)
    ttft, e2e = story.verdicts()
    assert (ttft.objective, ttft.held, ttft.measured_ns) == ("ttft", False, 1000 * MS)
    assert (e2e.objective, e2e.held, e2e.measured_ns) == ("e2e", True, 1400 * MS)
    assert story.arrived_unix_ns == 1_700_000_010 * SECOND


def test_a_wait_for_a_place_is_told_apart_from_a_load(journal: Path) -> None:
    story = explain(journal, "queued")
    assert "ready with 1 of 1 places taken" in story.steps[0].text
    assert (story.waits.loading_ns, story.waits.places_ns) == (0, 300 * MS)
    assert all(verdict.held for verdict in story.verdicts())


def test_an_eviction_made_for_it_is_told(journal: Path) -> None:
    story = explain(journal, "swap")
    assert kinds(story) == ["arrived", "evict", "load", "ready", "dispatch", "end"]
    assert story.steps[1].text == "small#0 is evicted to make room"
    assert story.waits.loading_ns == 900 * MS


def test_a_wait_for_what_sleeps_is_told(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, sleep_level=2)
    recorder.step(0, ask("one", 0))
    recorder.step(900, ReplicaReady("small#0", 1))
    recorder.step(1000, AttemptFinished("one", 1, 9))
    recorder.step(3000, ask("two", 3000, "big"))
    recorder.step(3100, ask("three", 3100))
    recorder.step(3200, ReplicaAsleep("small#0", 1, 1))
    recorder.step(4000, ReplicaReady("big#0", 2), AttemptFinished("two", 1, 9))
    recorder.step(4500, AttemptFinished("two", 1, 3))
    recorder.step(7000, ask("four", 7000))
    recorder.step(7100, ReplicaAsleep("big#0", 2, 1))
    recorder.step(7300, ReplicaReady("small#0", 1, turn=2))
    recorder.writer.close()
    assert [step.text for step in explain(tmp_path, "two").steps[1:3]] == [
        "small#0 is put to sleep to make room",
        "big#0 begins to load",
    ]
    assert "small was falling asleep" in explain(tmp_path, "three").steps[0].text
    four = explain(tmp_path, "four")
    assert {"wake", "ready"} <= set(kinds(four))


def test_an_attempt_that_failed_and_was_tried_again(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.step(0, ask("retry", 0, e2e=5000))
    recorder.step(100, ReplicaReady("small#0", epoch(recorder, "small#0")))
    life = epoch(recorder, "small#0")
    recorder.step(
        300,
        AttemptFailed("retry", 1, FailureKind.CRASHED, delivered=False),
        ReplicaFailed("small#0", life, FailureKind.CRASHED, "killed"),
    )
    recorder.step(350, ReplicaGone("small#0", life))
    for at_ms in (400, 2000, 5000):  # The load is tried again after its back-off.
        recorder.step(at_ms, TimerFired())
        if any(model.replicas for model in recorder.scheduler.snapshot().models):
            break
    recorder.step(5100, ReplicaReady("small#0", epoch(recorder, "small#0")))
    recorder.step(5200, AttemptFinished("retry", 2, 4))
    recorder.writer.close()
    story = explain(tmp_path, "retry")
    told = [step.text for step in story.steps]
    assert "attempt 1 failed: engine_crashed" in told
    assert "small#0 failed: engine_crashed (killed)" in told
    assert "dispatched to small#0 as attempt 2" in told
    assert story.waits.loading_ns == (100 + 4800) * MS
    assert story.waits.places_ns == 0


def test_a_cancelled_request_has_no_held_target(journal: Path) -> None:
    story = explain(journal, "gone")
    assert kinds(story)[-2:] == ["cancelled", "end"]
    assert story.end is not None
    assert story.end.outcome == "cancelled"


def test_latest_and_a_unique_beginning_are_enough(journal: Path) -> None:
    assert explain(journal, "latest").request.id == "swap"
    assert explain(journal, "que").request.id == "queued"


def test_an_unknown_id_names_the_nearest(journal: Path) -> None:
    with pytest.raises(JournalError, match=r"no request 'quued' in the journal; nearest: queued"):
        explain(journal, "quued")


def test_without_a_journal_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="start `slalom serve`"):
        explain(tmp_path / "none", "latest")
    recorder = Recorder(tmp_path)
    recorder.writer.close()
    with pytest.raises(JournalError, match="no request has ended yet"):
        explain(tmp_path, "latest")


def test_the_last_life_of_an_id_is_told_over_several_files(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, file_bytes_max=400)
    recorder.step(0, ask("again", 0))
    recorder.step(10, RequestCancelled("again"))
    for number in range(5):
        recorder.step(20 + number, ask(f"other{number}", 20 + number))
        recorder.writer.flush()
    recorder.step(100, ask("again", 100))
    recorder.step(300, ReplicaReady("small#0", epoch(recorder, "small#0")))
    recorder.writer.close()
    story = explain(tmp_path, "again")
    assert story.request.arrived_ns == START + 100 * MS
    assert story.end is None
    assert "5 waiting before it" in story.steps[0].text


def test_ids_with_quotes_are_found(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.step(0, ask('we"ird', 0))
    recorder.step(10, RequestCancelled('we"ird'))
    recorder.writer.close()
    assert explain(tmp_path, 'we"ird').request.id == 'we"ird'
    assert json.dumps(explain(tmp_path, "latest").request.id) == '"we\\"ird"'


def _levers(view: PlanView, now_ns: int) -> Plan:
    """`loose` gives way to `urgent`, `hopeless` is refused, `late` demoted."""
    waiting = {w.request.id: w for w in view.waiting(9)}
    if "hopeless" in waiting:
        return Plan(refusals=[Refuse("hopeless", retry_after_ns=SECOND, detail="3 too many")])
    if "urgent" in waiting and not view.ready()[0].free_places:
        demoted = [name for name in waiting if name == "late"]
        return Plan(pauses=["loose"], demotions=demoted)
    first = "urgent" if "urgent" in waiting else "loose"
    expected = Expectation(now_ns + 100 * MS, now_ns + 500 * MS, 0.9)
    starts = [Start(first, start.replica_id, 4, 15, expected) for start in start_all(view)[:1]]
    return Plan(starts=starts if first in waiting else start_all(view))


def _planned(directory: Path) -> None:
    recorder = Recorder(directory, admission=Scripted(_levers))
    loose = ask("loose", 0, e2e=900).request
    recorder.step(0, RequestArrived(replace(loose, resumable=True)))
    recorder.step(50, ReplicaReady("small#0", epoch(recorder, "small#0")))
    recorder.step(100, FirstToken("loose", 1))
    recorder.step(150, ask("late", 150, e2e=500))
    recorder.step(200, ask("urgent", 200, ttft=100))
    recorder.step(
        210, AttemptFailed("loose", 1, FailureKind.ABORTED, delivered=True, output_tokens=6)
    )
    recorder.step(500, AttemptFinished("urgent", 1, 5))
    recorder.step(950, AttemptFinished("loose", 2, 9))
    recorder.step(1000, ask("hopeless", 1000))
    recorder.step(1500, AttemptFinished("late", 1, 5))
    recorder.writer.close()


def test_a_pause_is_told_with_what_was_expected_before_and_after(tmp_path: Path) -> None:
    _planned(tmp_path)
    story = explain(tmp_path, "loose")
    told = ["ready", "dispatch", "first-token", "pause", "paused", "dispatch", "end"]
    assert kinds(story)[2:] == told
    texts = [step.text for step in story.steps]
    assert (
        "dispatched to small#0 as attempt 1; cut to 15 tokens of 20; with priority 4 in the "
        "engine; first token expected after 150.0 ms, the end after 550.0 ms (queue 50.0 ms + "
        "execution 500.0 ms); chance of holding its targets 90%"
    ) in texts
    assert "attempt 1 is paused after 6 tokens" in texts
    assert any("attempt 2; goes on behind 6 tokens" in text for text in texts)
    assert (story.waits.paused_ns, story.waits.places_ns) == (290 * MS, 0)
    assert story.needed() == ["e2e: 50.0 ms less of its pauses, which took 290.0 ms."]


def test_a_demotion_stands_where_it_happened(tmp_path: Path) -> None:
    _planned(tmp_path)
    story = explain(tmp_path, "late")
    assert kinds(story) == ["arrived", "demoted", "dispatch", "end"]
    assert story.steps[1].at_ns == 50 * MS
    assert "1 of 1 places taken, 2 waiting" in story.steps[1].text
    (sentence,) = story.needed()
    assert sentence.startswith("e2e: missed even without the 800.0 ms it waited: the engine itself")


def test_a_refusal_says_what_would_have_helped(tmp_path: Path) -> None:
    _planned(tmp_path)
    assert explain(tmp_path, "hopeless").needed() == [
        "3 too many.",
        "It was advised to come again 1.00 s later.",
    ]


def test_what_a_cold_start_needed_is_the_model(journal: Path) -> None:
    assert explain(journal, "cold").needed() == [
        "ttft: small ready 500.0 ms sooner; that took 900.0 ms (pin it?)."
    ]
    assert explain(journal, "queued").needed() == []


def test_who_came_later_and_began_sooner_is_counted(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.step(0, ask("first", 0))
    recorder.step(100, ReplicaReady("small#0", epoch(recorder, "small#0")))
    recorder.step(200, ask("patient", 200, e2e=1000), ask("pressed", 300, e2e=200))
    recorder.step(900, AttemptFinished("first", 1, 5))
    recorder.step(1000, AttemptFinished("pressed", 1, 5))
    recorder.step(1250, AttemptFinished("patient", 1, 5))
    recorder.writer.close()
    assert explain(tmp_path, "patient").needed() == [
        "e2e: a place 50.0 ms sooner.",
        "1 other request for its model began while it waited, 1 of which had come after it.",
    ]
