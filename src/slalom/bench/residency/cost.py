"""The cost of one choice with a thousand models: every policy, in µs.

Owns the state in which it is measured: nine in ten of 1,000 models of several sizes are up and
idle, the others are asked for in turn. Called by the command.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from slalom.bench.handle_report import machine, quantile_us
from slalom.bench.handle_states import PATIENT
from slalom.bench.residency.choices import online
from slalom.bench.sla.tables import table
from slalom.core.actions import Action, Dispatch, LoadReplica, SetTimer, UnloadReplica
from slalom.core.events import (
    AttemptFinished,
    Event,
    ReplicaGone,
    ReplicaReady,
    RequestArrived,
    TimerFired,
)
from slalom.core.keeping import Keeper, Keeping, Need, Plain, Selection
from slalom.core.policy import Policies, ReplicaView
from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla
from slalom.core.scheduler import Scheduler
from slalom.policies.registry import build, policies
from slalom.units import GIB, MS, SECOND

_MODELS = 1_000
_SIZES = (4, 10, 20, 40)
#: Longer than a replica's minimum residency.
_APART_NS = 2 * SECOND
_SLA = Sla(ttft_ns=500 * MS)


class Timed:
    """A policy that notes what each of its choices costs, candidates included.

    Args:
        policy: Of the residency slot.
    """

    def __init__(self, policy: Any) -> None:
        self._policy = policy
        self.costs_ns: list[int] = []

    def begin(self, models: Sequence[ModelSpec], devices: Sequence[DeviceSpec]) -> Keeper:
        """Its keeper, timed."""
        policy = self._policy
        keeper = policy.begin(models, devices) if isinstance(policy, Keeping) else Plain(policy)
        choose, costs_ns = keeper.select, self.costs_ns

        def timed(candidates: Iterable[ReplicaView], need: Need, now_ns: int) -> Selection:
            start_ns = time.thread_time_ns()
            found = choose(candidates, need, now_ns)
            costs_ns.append(time.thread_time_ns() - start_ns)
            return found

        keeper.select = timed  # type: ignore[method-assign]
        return keeper


def measure(kind: str, cycles: int, models: int = _MODELS) -> list[int]:
    """What each choice of a policy cost, ns, cheapest first.

    Args:
        kind: Of the residency slot.
        cycles: Rounds; nearly each of them needs room.
        models: How many there are.
    """
    timed = Timed(build("residency", kind))
    specs = [
        ModelSpec(f"m{index}", "gpu", _SIZES[index % len(_SIZES)] * GIB, 8, load_ns=10 * SECOND)
        for index in range(models)
    ]
    budget = sum(spec.bytes_needed for spec in specs) * 9 // 10
    chosen: Policies = replace(policies(), residency=timed)
    world = _World(Scheduler(specs, [DeviceSpec("gpu", budget)], chosen, PATIENT))
    for number in range(models):
        world.demand(specs[number])
    timed.costs_ns.clear()
    number = 0
    while len(timed.costs_ns) < cycles:
        number += 1
        world.demand(specs[number * 7 % models])
    return sorted(timed.costs_ns)


class _World:
    """Engines that do at once what they are told.

    Args:
        scheduler: Told of it.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._now_ns = self._asked = 0
        self._timer_ns = -1

    def demand(self, spec: ModelSpec) -> None:
        """A request for a model, some time after the one before."""
        self._now_ns += _APART_NS
        self._asked += 1
        name = f"r{self._asked}"
        request = Request(name, spec.id, "task", _SLA, self._now_ns, 500, 256, 100)
        events: list[Event] = [RequestArrived(request)]
        if 0 <= self._timer_ns <= self._now_ns:
            self._timer_ns = -1
            events.append(TimerFired())
        while events:
            actions = self._scheduler.handle(events, self._now_ns)
            events = [event for action in actions for event in self._answer(action)]

    def _answer(self, action: Action) -> Iterator[Event]:
        if isinstance(action, LoadReplica):
            yield ReplicaReady(action.replica_id, action.epoch)
        elif isinstance(action, UnloadReplica):
            yield ReplicaGone(action.replica_id, action.epoch)
        elif isinstance(action, Dispatch):
            yield AttemptFinished(action.request_id, action.attempt, 100, 500)
        elif isinstance(action, SetTimer):
            self._timer_ns = action.at_ns


def section(cycles: int) -> str:
    """The part of the page."""
    rows = []
    for kind in online():
        costs = measure(kind, cycles)
        shares = [quantile_us(costs, share) for share in (0.5, 0.99)]
        rows.append([f"`{kind}`", *(f"{value:,.0f}" for value in shares)])
    return "\n".join(_lines(rows, cycles))


def _lines(rows: Sequence[Sequence[str]], cycles: int) -> Iterator[str]:
    yield _ABOUT.format(machine=machine(), cycles=cycles)
    yield from table(["policy", "median µs", "p99 µs"], rows)


_ABOUT = """\
## The cost of a choice

One choice among 900 idle replicas of 1,000 models, candidates and record included; the aim is 1 ms.
`penalty` and the policies with scores weigh the 64 that were used least recently, and more where
those do not suffice. Of {cycles} choices each, on: {machine}, with other work beside it.
"""
