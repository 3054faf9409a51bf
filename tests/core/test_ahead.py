"""Models that come up before anybody asks: when they may, and what becomes of them.

Owns the core's rules, with a keeper that says what it is told to. What pays is the policy's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from slalom.core.actions import Candidate, EvictionDecided, LoadReplica, WakeReplica
from slalom.core.events import Ask, AttemptFinished, ModelAsked
from slalom.core.keeping import Absent, Ahead, Keeper, Plain
from slalom.core.params import SchedulerParams
from slalom.core.policy import Policies, ReplicaView
from slalom.core.request import DeviceSpec, ModelSpec
from slalom.policies.registry import policies
from slalom.policies.residency.simple import Lru
from slalom.testing.recorder import Recorder
from slalom.units import SECOND
from tests.core.stories import (
    arrive,
    asleep,
    dispatched,
    gone,
    loaded,
    model,
    only,
    ready,
    resident,
    unloaded,
    watched,
)

PARAMS = SchedulerParams(swap_patience_ns=0, min_residency_ns=SECOND)


@dataclass
class Prophet:
    """A keeper that expects one model to be asked for, and holds the others worth nothing."""

    expects: str = ""
    looks_ahead: bool = True
    seen: list[list[str]] = field(default_factory=list)

    def begin(self, models: Sequence[ModelSpec], devices: Sequence[DeviceSpec]) -> Keeper:
        return _Foretelling(self)


class _Foretelling(Plain):
    def __init__(self, prophet: Prophet) -> None:
        super().__init__(Lru())
        self.looks_ahead = prophet.looks_ahead
        self._prophet = prophet

    def ahead(
        self,
        absent: Sequence[Absent],
        idle: Sequence[ReplicaView],
        free_bytes: int,
        now_ns: int,
    ) -> Ahead:
        self._prophet.seen.append([one.spec.id for one in absent])
        wanted = [one for one in absent if one.spec.id == self._prophet.expects]
        if not wanted:
            return Ahead()
        victims = [] if wanted[0].needed_bytes <= free_bytes else list(idle)
        scores = tuple(Candidate(one.id, 0.0) for one in victims)
        return Ahead(wanted[0].spec.id, victims, scores, 1.0)


def told(prophet: Prophet, *models: ModelSpec) -> Recorder:
    chosen: Policies = replace(policies(), residency=prophet)
    return watched(*models, params=PARAMS, policies=chosen)


def evicted_once(prophet: Prophet) -> Recorder:
    """`b` was up and gave way to `a`, which is idle again."""
    story = told(prophet, model("a", 6), model("b", 6))
    resident(story, "b")
    arrive(story, "r1", after_ns=2 * SECOND)
    gone(story)
    ready(story)
    story.tell(AttemptFinished("r1", 1, 1), after_ns=2 * SECOND)
    return story


def test_who_is_worth_more_takes_the_place_of_who_idles_before_anybody_asks() -> None:
    story = evicted_once(Prophet("b"))
    decided = story.actions(EvictionDecided)[-1]
    assert (decided.model, decided.victims, decided.ahead, decided.gain) == ("b", ("a#0",), True, 1)
    assert unloaded(story.entries[-1].actions) == [("a#0", "evicted")]
    actions = gone(story)
    assert [one.ahead for one in only(actions, LoadReplica)] == [True]
    assert loaded(story.tell(after_ns=SECOND)) == [], "and is not cancelled for want of requests"
    ready(story)
    assert dispatched(arrive(story, "s1", of="b")) == ["s1"]
    assert (story.counter("ahead"), story.counter("ahead_hits")) == (1, 1)
    assert story.counter("ahead_misses") == 0


def test_who_was_brought_up_for_nothing_is_a_miss() -> None:
    story = evicted_once(Prophet("b"))
    gone(story)
    ready(story)
    arrive(story, "r2", after_ns=2 * SECOND)
    assert (story.counter("ahead_hits"), story.counter("ahead_misses")) == (0, 1)


def test_a_keeper_that_does_not_look_ahead_is_not_asked() -> None:
    prophet = Prophet("b", looks_ahead=False)
    story = evicted_once(prophet)
    assert prophet.seen == []
    assert unloaded(story.entries[-1].actions) == []


def test_a_load_ahead_ends_for_those_who_wait_and_lack_its_bytes() -> None:
    story = evicted_once(Prophet("b"))
    gone(story)
    assert unloaded(arrive(story, "r2")) == [("b#0", "unwanted")]
    assert loaded(gone(story)) == ["a#0"]


def test_nothing_comes_up_ahead_while_others_wait_for_memory() -> None:
    prophet = Prophet("b")
    story = told(prophet, model("a", 6), model("b", 6), model("c", 6))
    resident(story, "b")
    arrive(story, "r1", after_ns=2 * SECOND)
    gone(story)
    ready(story)
    arrive(story, "t1", of="c")
    prophet.seen.clear()
    story.tell(AttemptFinished("r1", 1, 1), after_ns=2 * SECOND)
    assert prophet.seen == []
    assert loaded(gone(story)) == ["c#0"]


def test_what_an_operator_sent_away_is_not_brought_back() -> None:
    prophet = Prophet("b")
    story = told(prophet, model("a", 4), model("b", 4))
    resident(story, "a", "b")
    story.tell(ModelAsked("b", Ask.UNLOAD, "one"), after_ns=2 * SECOND)
    assert loaded(gone(story)) == []
    arrive(story, "r1", after_ns=SECOND)
    story.tell(AttemptFinished("r1", 1, 1), after_ns=SECOND)
    assert story.actions(LoadReplica)[-1].model == "b"
    assert len(story.actions(LoadReplica)) == 2


def test_a_sleeper_is_woken_ahead_into_free_bytes() -> None:
    sleepy = {"sleep_level": 2, "wake_ns": SECOND}
    story = told(Prophet("a"), model("a", 6, **sleepy), model("c", 6))
    resident(story, "a")
    arrive(story, "t1", of="c", after_ns=2 * SECOND)
    asleep(story)
    ready(story)
    assert story.actions(WakeReplica) == []
    story.tell(AttemptFinished("t1", 1, 1), ModelAsked("c", Ask.UNLOAD, "one"))
    woken = only(gone(story, after_ns=SECOND), WakeReplica)
    assert [(one.replica_id, one.ahead) for one in woken] == [("a#0", True)]
