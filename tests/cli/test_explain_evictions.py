"""Why models gave way, told from a journal that a real scheduler wrote."""

from pathlib import Path

import pytest

from slalom.core.events import (
    Ask,
    AttemptFinished,
    ModelAsked,
    ReplicaGone,
    ReplicaReady,
    TimerFired,
)
from slalom.journal.codec import JournalError
from slalom.journal.evictions import explain_eviction
from tests.cli.test_explain import Recorder, ask, epoch


def swapped(directory: Path) -> Recorder:
    """`small` runs and gives way to `big`, for which one request waits."""
    recorder = Recorder(directory)
    recorder.step(0, ask("r1", 0))
    recorder.step(10, ReplicaReady("small#0", epoch(recorder, "small#0")))
    recorder.step(20, AttemptFinished("r1", 1, 3))
    recorder.step(2_000, ask("r2", 2_000, model="big"))
    recorder.step(5_000, TimerFired())
    recorder.step(5_100, ReplicaGone("small#0", epoch(recorder, "small#0")))
    recorder.step(6_000, ReplicaReady("big#0", epoch(recorder, "big#0")))
    recorder.writer.flush()
    return recorder


@pytest.mark.parametrize("wanted", ["last", "1"])
def test_the_need_the_victims_and_what_followed(tmp_path: Path, wanted: str) -> None:
    recorder = swapped(tmp_path)
    recorder.writer.close()
    story = explain_eviction(tmp_path, wanted)
    assert story.decision.victims == ("small#0",)
    assert "1 request waited" in story.why()
    assert "Model big was" in story.why()
    assert [text for _, text in story.steps] == [
        "small#0 is ended (evicted)",
        "small#0 is gone, its memory is free",
        "big#0 begins to load",
        "big#0 is ready",
    ]


def test_what_an_operator_asked_for_says_so(tmp_path: Path) -> None:
    recorder = swapped(tmp_path)
    recorder.step(7_000, AttemptFinished("r2", 1, 3))
    recorder.step(9_000, ModelAsked("small", Ask.LOAD, "x"))
    recorder.writer.close()
    assert "it was asked for" in explain_eviction(tmp_path, "2").why()


@pytest.mark.parametrize(
    ("wanted", "says"), [("7", "its last run has 1 to 1"), ("first", "write its number")]
)
def test_unknown_ones_say_what_there_is(tmp_path: Path, wanted: str, says: str) -> None:
    swapped(tmp_path).writer.close()
    with pytest.raises(JournalError, match=says):
        explain_eviction(tmp_path, wanted)


def test_without_a_journal_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="there is no journal"):
        explain_eviction(tmp_path, "last")
