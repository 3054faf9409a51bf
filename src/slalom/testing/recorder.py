"""A scheduler under watch: every call is journaled and checked from inside and from outside.

Owns the joining of a scheduler with `core.invariants.check` and the outside `Checker`. Tests call
it in place of the scheduler.
"""

from collections.abc import Sequence
from typing import TypeVar

from slalom.core.actions import Action
from slalom.core.events import Event
from slalom.core.invariants import check
from slalom.core.journal import Entry
from slalom.core.scheduler import Scheduler
from slalom.testing.checker import Checker
from slalom.testing.manual_clock import ManualClock

A = TypeVar("A", bound=Action)


class Recorder:
    """Passes calls on and keeps the journal.

    Args:
        scheduler: A fresh scheduler.
        outside: Also look from outside; off for tests that tell it impossible stories.
    """

    def __init__(self, scheduler: Scheduler, *, outside: bool = True) -> None:
        self.scheduler = scheduler
        self.entries: list[Entry] = []
        self.clock = ManualClock()
        self.checker = Checker.of(scheduler) if outside else None

    def __repr__(self) -> str:
        return f"Recorder(entries={len(self.entries)}, {self.scheduler!r})"

    @property
    def now_ns(self) -> int:
        """The time of the last call."""
        return self.clock.now_ns()

    def handle(self, events: Sequence[Event] = (), now_ns: int | None = None) -> list[Action]:
        """As `Scheduler.handle`; without a time, at that of the last call.

        Raises:
            InvariantError: A rule does not hold afterwards.
        """
        if now_ns is not None:
            self.clock.set(now_ns)
        actions = self.scheduler.handle(events, self.now_ns)
        entry = Entry(self.now_ns, tuple(events), tuple(actions))
        self.entries.append(entry)
        check(self.scheduler.state)
        if self.checker is not None:
            self.checker.see(entry)
        return actions

    def tell(self, *events: Event, after_ns: int = 0) -> list[Action]:
        """Let time pass, then tell what happened."""
        self.clock.advance(after_ns)
        return self.handle(events)

    def actions(self, kind: type[A]) -> list[A]:
        """Every action of a kind so far."""
        return [
            action for entry in self.entries for action in entry.actions if isinstance(action, kind)
        ]

    def counter(self, name: str) -> int:
        """One of the scheduler's counters."""
        return self.scheduler.state.counters[name]
