"""Run a scenario to its end: the twin's front door.

Owns the joining of scheduler, world and kernel, and a run's result. Called by tests, the swarm and
the scorecard. The journal entries are those a live server would write, so they replay, encode
and explain the same way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from slalom.core.actions import EndRequest
from slalom.core.journal import Entry
from slalom.core.scheduler import Scheduler
from slalom.core.snapshot import Snapshot
from slalom.twin.clients import ClientEnd
from slalom.twin.kernel import Agenda, Kernel
from slalom.twin.scenario import Scenario
from slalom.twin.world import TwinWorld


@dataclass(frozen=True, slots=True)
class TwinRun:
    """What a run leaves behind."""

    #: The journal; empty, like `ends`, if neither was kept.
    entries: tuple[Entry, ...]
    #: How every request ended, in the order of their ends.
    ends: tuple[EndRequest, ...]
    #: The scheduler after the last call.
    snapshot: Snapshot
    #: Time of the last call, ns.
    ended_ns: int
    #: Whether a requested drain completed.
    drained: bool
    #: Time of the last arrival; later steps of sessions are not counted.
    last_arrival_ns: int = 0


class Observer(Protocol):
    """Who counts what happens in a run."""

    def watch_entry(self, entry: Entry) -> None:
        """Take in one call of the scheduler."""
        ...

    def watch_end(self, told: ClientEnd) -> None:
        """Take in how a try ended for its client; the entry in which it did came before."""
        ...


def build_scheduler(scenario: Scenario) -> Scheduler:
    """A fresh scheduler for a scenario, as the run will use it.

    Raises:
        ConfigError: The scenario's models and devices do not go together.
    """
    models = [model.spec for model in scenario.models]
    return Scheduler(models, scenario.devices, scenario.policies, scenario.params)


def run(
    scenario: Scenario,
    *,
    scheduler: Scheduler | None = None,
    watch: Callable[[Entry], None] | None = None,
    observer: Observer | None = None,
    keep: bool = True,
) -> TwinRun:
    """Play a scenario in virtual time.

    Args:
        scenario: What to play.
        scheduler: A fresh scheduler of the scenario, for whoever wants to look into it.
        watch: Told every entry of the journal as soon as it is made.
        observer: Told the same, and how each request ended for its client.
        keep: Whether the result holds the journal and the ends; without them, memory is bounded
            by what runs at a time, and `watch` takes what it wants.

    Raises:
        ConfigError: The scenario's models and devices do not go together.
        InvariantError: A bug in Slalom: time stood still or ran backwards.
    """
    agenda = Agenda()
    scheduler = scheduler or build_scheduler(scenario)
    ended = observer.watch_end if observer is not None else None
    world = TwinWorld(scenario, agenda, keep_ends=keep, ended=ended)
    entries: list[Entry] = []

    def record(entry: Entry) -> None:
        if keep:
            entries.append(entry)
        if watch is not None:
            watch(entry)
        if observer is not None:
            observer.watch_entry(entry)

    kernel = Kernel(scheduler, world, agenda, record)
    ended_ns = kernel.run(scenario.until_ns)
    return TwinRun(
        entries=tuple(entries),
        ends=tuple(world.ends),
        snapshot=scheduler.snapshot(),
        ended_ns=ended_ns,
        drained=world.drained,
        last_arrival_ns=world.last_arrival_ns,
    )
