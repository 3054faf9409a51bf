"""Random reloads amid all else: no request is lost, no byte is over a budget, and all replays."""

from collections import Counter

from slalom.core.actions import EndRequest, UnloadCause, UnloadReplica
from slalom.core.events import ConfigChanged, RequestArrived
from slalom.core.journal import replay
from slalom.testing.swarm import survive
from slalom.testing.swarm_reloads import reloading_world
from slalom.twin.run import TwinRun, build_scheduler, run

_RELOADED = (UnloadCause.REPLACED, UnloadCause.REMOVED)
#: Of the seeds that are tried, one in so many: these worlds are long.
_STEP = 6


def test_reloads_are_survived_and_their_journals_replay(seeds: range) -> None:
    """The checker's rules, from inside and from outside; among them: an untouched model is left."""
    for seed in seeds[::_STEP]:
        try:
            survived = survive(reloading_world(seed))
        except Exception as error:
            error.add_note(f"to see it again: python -m slalom.testing.swarm_reloads {seed}")
            raise
        result = survived.result
        assert _lost(result) == set(), f"seed {seed}"
        assert _touched(result) == set(), f"seed {seed}"
        fresh = build_scheduler(survived.scenario)
        assert replay(fresh, result.entries) is None, f"seed {seed} replays otherwise"


def _lost(result: TwinRun) -> set[str]:
    """Requests without an end."""
    came = {
        event.request.id
        for entry in result.entries
        for event in entry.events
        if isinstance(event, RequestArrived)
    }
    ended = {
        action.request_id
        for entry in result.entries
        for action in entry.actions
        if isinstance(action, EndRequest)
    }
    return came - ended


def _touched(result: TwinRun) -> set[str]:
    """Models of which a replica left because of a reload that did not name them."""
    named: set[str] = set()
    touched = set()
    for entry in result.entries:
        for event in entry.events:
            if isinstance(event, ConfigChanged):
                specs = (*event.added, *event.replaced, *event.adjusted)
                named |= {*event.removed, *(spec.id for spec in specs)}
        for action in entry.actions:
            if isinstance(action, UnloadReplica) and action.cause in _RELOADED:
                touched.add(action.replica_id.rpartition("#")[0])
    return touched - named


def test_those_worlds_have_all_of_it() -> None:
    """Or they would prove nothing."""
    seen: Counter[str] = Counter()
    for seed in range(24):
        seen.update(dict(run(reloading_world(seed)).snapshot.counters))
    for counter, least in {
        "ended_done": 300,
        "reloads": 40,
        "models_added": 20,
        "models_adjusted": 20,
        "models_replaced": 30,
        "models_removed": 20,
        "unloads_replaced": 12,
        "unloads_removed": 8,
        "retired_unfinished": 1,
    }.items():
        assert seen[counter] >= least, (counter, seen)
