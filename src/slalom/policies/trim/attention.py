"""Which lines of a large model a plan looks at: those of replicas where something has happened.

Owns, for one model, where those stand who were let in and wait, when each of these lines is to be
looked at again, and whether anything new has come. Of a few replicas all are looked at; of many, a
plan is to cost what has happened, not what waits. Called by `planner`.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from heapq import nsmallest
from operator import attrgetter
from typing import NamedTuple

from slalom.core.planning import Plan, PlanView, RunningView
from slalom.policies.trim import lookout
from slalom.policies.trim.jobs import Job

#: So many lines, or models, are looked at again as often as one is; of more, each more rarely.
AS_ONE = 8
#: Who is let out of a line at a time because there is room elsewhere, at most; and replicas with
#: room that are looked at for their sake alone.
_RELIEVED_MAX, _RELIEVING_MAX = 4, 2


class Scope(NamedTuple):
    """What one plan is about."""

    #: What waits, and where those of it stand who were let in before, by request.
    waiting: Sequence[Job]
    promised: Mapping[str, str]
    #: Where those stand who are not looked at: nothing has happened there.
    aside: Mapping[str, str]

    def next_in_line(self, jobs: Mapping[str, Job]) -> list[Job]:
        """Those who stand aside and are to be read first; a few."""
        found = [jobs[name] for name in self.aside]
        return nsmallest(_RELIEVED_MAX, found, key=attrgetter("turn"))

    def without(self, moved: AbstractSet[str]) -> "Scope":
        """The same, but for some who do not stand aside any more."""
        aside = {name: at for name, at in self.aside.items() if name not in moved}
        return self._replace(aside=aside) if moved else self


class Attention:
    """What one model's next plan has to look at."""

    __slots__ = ("_is_news", "_lines", "_look_ns", "_ready", "_stirred", "_turns")

    def __init__(self) -> None:
        #: Replicas where somebody waits who was let in, and when each is to be looked at.
        self._lines: frozenset[str] = frozenset()
        self._turns: dict[str, int] = {}
        #: Those of them where something has happened since the last plan.
        self._stirred: set[str] = set()
        #: Whether anything has that matters to all; when that is so anyway; how many were ready.
        self._is_news = True
        self._look_ns = -1
        self._ready = 0

    def __repr__(self) -> str:
        return f"Attention(turns={len(self._turns)}, stirred={len(self._stirred)})"

    @property
    def patience(self) -> float:
        """How many times as long as for one line each of these may wait for the next look."""
        return max(len(self._lines) / AS_ONE, 1.0) if self._ready > lookout.LOOKED_AT else 1.0

    def come(self) -> None:
        """Something came, or a place came free."""
        self._is_news = True

    def stir(self, replica_id: str) -> None:
        """Something happened on a replica."""
        if replica_id in self._lines:
            self._stirred.add(replica_id)

    def scope(
        self,
        model: PlanView,
        shown: Sequence[RunningView],
        waiting: Sequence[Job],
        promised: Mapping[str, str],
        now_ns: int,
    ) -> Scope | None:
        """What a plan is to be about; None if nothing has happened that matters.

        Args:
            model: Which.
            shown: Its replicas that are looked at whoever waits.
            waiting: What waits for it.
            promised: Where those stand who were let in, by request.
            now_ns: Now.
        """
        ready = model.ready_count()
        if ready <= lookout.LOOKED_AT:
            return Scope(waiting, promised, {})
        quiet = [name for name in dict.fromkeys(promised.values()) if self._is_quiet(name, now_ns)]
        there = {replica.id for replica in model.some_ready(0, quiet)} if quiet else ()
        scope = _split(waiting, promised, there)
        if scope.promised and scope.waiting:
            return scope
        if not self._is_due(ready, now_ns):
            return None
        return scope if scope.waiting or (scope.aside and with_room(shown)) else None

    def _is_quiet(self, name: str, now_ns: int) -> bool:
        return name not in self._stirred and self._turns.get(name, now_ns) > now_ns

    def _is_due(self, ready: int, now_ns: int) -> bool:
        """Whether anything has happened that could let in whom the last plan left out."""
        return self._is_news or 0 <= self._look_ns <= now_ns or ready != self._ready

    def planned(
        self, promised: Mapping[str, str], turns: Mapping[str, int], look_ns: int, ready: int
    ) -> None:
        """A plan was made.

        Args:
            promised: Where those stand who were let in, all of them.
            turns: When the lines are to be looked at that it looked at, by replica.
            look_ns: When it is to be made again if nothing happens; -1 for never.
            ready: Replicas that are ready.
        """
        self._look_ns, self._ready = look_ns, ready
        if ready <= lookout.LOOKED_AT:
            return
        self._lines = lines = frozenset(promised.values())
        self._turns = {name: at for name, at in self._turns.items() if name in lines}
        self._turns.update(turns)
        self._stirred.clear()
        self._is_news = False

    def on(self, plan: Plan, now_ns: int) -> Plan:
        """The same plan, with a look at those that it left aside."""
        times = [at_ns for at_ns in (*self._turns.values(), self._look_ns) if at_ns > now_ns]
        return replace(plan, look_ns=min(times, default=-1), look_when_read=True)


def with_room(shown: Sequence[RunningView]) -> list[RunningView]:
    """Some of these that have a free place."""
    return [one for one in shown if one.free_places > 0][:_RELIEVING_MAX]


def widen(
    scope: Scope,
    waiting: Sequence[Job],
    promised: Mapping[str, str],
    looked: Sequence[RunningView],
) -> Scope:
    """The same, with those who stand in line at replicas that are looked at after all.

    Args:
        scope: What it was.
        waiting: All that waits.
        promised: Where all stand who were let in.
        looked: What is looked at.
    """
    names = {replica.id for replica in looked}
    aside = set(scope.aside.values()).difference(names)
    return _split(waiting, promised, aside) if scope.aside else scope


def _split(
    waiting: Sequence[Job], promised: Mapping[str, str], quiet: set[str] | tuple[()]
) -> Scope:
    if not quiet:
        return Scope(waiting, promised, {})
    aside, jobs = {}, []
    for job in waiting:
        name = job.request.id
        at = promised.get(name)
        if at is not None and at in quiet:
            aside[name] = at
        else:
            jobs.append(job)
    return Scope(jobs, {one: at for one, at in promised.items() if at not in quiet}, aside)
