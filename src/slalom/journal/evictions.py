"""Why models gave way, told from the journal: the need, everyone's score, and what came of it.

Owns finding one decision and turning what follows it into sentences. It decides nothing and needs
no server. Called by `slalom explain --eviction`.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from slalom.core.actions import (
    EvictionDecided,
    LoadReplica,
    SleepReplica,
    UnloadReplica,
    WakeReplica,
)
from slalom.core.events import ReplicaAsleep, ReplicaFailed, ReplicaGone, ReplicaReady
from slalom.core.journal import Entry
from slalom.journal.codec import JournalError
from slalom.journal.explain import entries_with, runs_of
from slalom.journal.files import journal_files, read_file
from slalom.units import format_bytes, format_duration

LAST = "last"
_DECIDED = b'"EvictionDecided"'
_TELLING = re.compile(rb'"(EvictionDecided|Replica\w+|\w+Replica)"').search
#: Sentences on what came of one decision.
_SENTENCES_MAX = 50


@dataclass(slots=True)
class EvictionStory:
    """One decision and what came of it."""

    decision: EvictionDecided
    at_ns: int
    #: Wall-clock time, ns since 1970; 0 in a twin's journal.
    at_unix_ns: int
    #: (time after the decision, ns; what happened), in order.
    steps: list[tuple[int, str]] = field(default_factory=list)

    def why(self) -> str:
        """The need, in one sentence."""
        decision = self.decision
        short = format_bytes(decision.shortfall_bytes)
        if not decision.model:
            return f"Device {decision.device} held {short} more than its budget."
        need = f"Model {decision.model} was {short} short of memory on device {decision.device}"
        if not decision.shortfall_bytes:
            need = f"Model {decision.model} must be apart from others on device {decision.device}"
        if not decision.waiting:
            return f"{need}; nobody waited for it, it was asked for."
        waited = format_duration(decision.waited_ns)
        requests = "request" if decision.waiting == 1 else "requests"
        return f"{need}; {decision.waiting} {requests} waited, the need had lasted for {waited}."


def explain_eviction(directory: Path, wanted: str) -> EvictionStory:
    """Tell the story of a decision.

    Args:
        directory: The journal's folder.
        wanted: Its number in the server's last run, or ``last``.

    Raises:
        JournalError: There is no journal, it cannot be read, or there is no such decision.
    """
    files = journal_files(directory)
    if not files:
        raise JournalError(
            f"there is no journal in {directory}: start `slalom serve`, or name the directory "
            "with --journal"
        )
    if wanted != LAST and not wanted.isdecimal():
        raise JournalError(f"{wanted!r} is no eviction: write its number, or {LAST!r}")
    numbers: list[int] = []
    for run in reversed(list(runs_of(files))):
        found = [
            action.number
            for path in run
            for entry in entries_with(path, lambda line: _DECIDED in line)
            for action in entry.actions
            if isinstance(action, EvictionDecided)
        ]
        if wanted == LAST and found:
            return _tell(run, found[-1])
        if wanted != LAST and int(wanted) in found:
            return _tell(run, int(wanted))
        numbers = numbers or found
    known = f"its last run has {numbers[0]} to {numbers[-1]}" if numbers else "it holds none at all"
    raise JournalError(f"no such eviction in the journal ({known})")


def _tell(run: list[Path], number: int) -> EvictionStory:
    header, _ = read_file(run[0])
    story: EvictionStory | None = None
    for path in run:
        for entry in entries_with(path, lambda line: _TELLING(line) is not None):
            if story is None:
                story = _begun(entry, number, header.epoch_unix_ns)
            if story is not None:
                _follow(story, entry)
                if len(story.steps) >= _SENTENCES_MAX or _is_over(story):
                    return story
    if story is None:
        raise JournalError("the journal was rotated while it was read")
    return story


def _begun(entry: Entry, number: int, epoch_unix_ns: int) -> EvictionStory | None:
    for action in entry.actions:
        if isinstance(action, EvictionDecided) and action.number == number:
            at_unix_ns = epoch_unix_ns + entry.now_ns if epoch_unix_ns else 0
            return EvictionStory(action, entry.now_ns, at_unix_ns)
    return None


def _follow(story: EvictionStory, entry: Entry) -> None:
    """Note what happens to the victims, and to the model they gave way to."""
    after_ns = entry.now_ns - story.at_ns
    for told in (*entry.events, *entry.actions):
        sentence = _sentence(told)
        name = getattr(told, "replica_id", "")
        concerns = name in story.decision.victims
        for_it = bool(story.decision.model) and name.rpartition("#")[0] == story.decision.model
        if sentence and (concerns or for_it):
            story.steps.append((after_ns, sentence))


_WORDS: dict[type, str] = {
    ReplicaAsleep: "sleeps",
    ReplicaGone: "is gone, its memory is free",
    LoadReplica: "begins to load",
    WakeReplica: "begins to wake",
    ReplicaReady: "is ready",
}


def _sentence(told: object) -> str:
    match told:
        case UnloadReplica(replica_id, _, cause):
            return f"{replica_id} is ended ({cause.value})"
        case SleepReplica(replica_id=replica_id, level=level):
            return f"{replica_id} is put to sleep (level {level})"
        case ReplicaFailed(replica_id, _, kind):
            return f"{replica_id} failed ({kind.value})"
        case _:
            words = _WORDS.get(type(told), "")
            return f"{getattr(told, 'replica_id', '')} {words}" if words else ""


def _is_over(story: EvictionStory) -> bool:
    model = story.decision.model
    ended = f"{model}#"
    return any(text.startswith(ended) and text.endswith("is ready") for _, text in story.steps)
