"""The journal: what was told and what was answered, in order.

Owns the entry and its replay. Writing it down is the journal room's work, not the core's.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from slalom.core.actions import Action
from slalom.core.events import Event
from slalom.core.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class Entry:
    """One call of `Scheduler.handle`."""

    now_ns: int
    events: tuple[Event, ...]
    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first entry whose replay gave other actions."""

    index: int
    entry: Entry
    replayed: tuple[Action, ...]


def replay(scheduler: Scheduler, entries: Iterable[Entry]) -> Divergence | None:
    """Feed a journal to a fresh scheduler; None if every action comes out the same."""
    for index, entry in enumerate(entries):
        replayed = tuple(scheduler.handle(entry.events, entry.now_ns))
        if replayed != entry.actions:
            return Divergence(index, entry, replayed)
    return None
