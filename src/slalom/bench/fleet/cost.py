"""Part 2: what a decision costs in a large fleet, and how large a fleet one core can schedule.

Owns the fleet that is measured (1,000 replicas of 50 models by default) and the section. The time
is what the core spent in the calls of `handle` alone, on the machine that runs it.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from slalom.bench.fleet.choices import CATO, OURS, RAY, ROUND_ROBIN, Choice
from slalom.bench.sla.tables import table
from slalom.core.actions import Action, Dispatch, LoadReplica
from slalom.core.events import AttemptFinished, FirstToken, ReplicaReady, RequestArrived
from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla, StepCost
from slalom.core.scheduler import Scheduler
from slalom.core.sizing import Fleetwide
from slalom.policies.scaling.by_count import Fixed
from slalom.units import GIB, MS, SECOND, US

#: Requests that are in the fleet at a time, for each replica.
_DEPTH = 4
_COST = StepCost(step_ns=8 * MS, sequence_ns=50 * US, prompt_ns=20 * US)
#: Sizes are decided once: what a look at them costs is measured by itself.
_NEVER_S = 86_400.0
#: Requests before the clock runs: the first of each model teach more than those that follow.
_WARM_UP = 6_000
_LOOKS = 5
#: What one core is to carry.
_PER_S = 5_000
_SIZES = ((250, 50), (1_000, 50), (4_000, 50), (16_000, 50))
_LOOKED_AT = _SIZES[:3]
#: The rule that costs least: an index knows the replica with most free places.
_EMPTIEST = Choice("the emptiest replica")
#: For the sum on paper: seconds that a request runs, requests at a time on a replica, and how much
#: of that is made use of.
_SERVICE_S, _PLACES, _USED = 10, 4, 0.7


@dataclass(frozen=True, slots=True)
class Measured:
    """One fleet under one scheduler."""

    replicas: int
    #: Of a core, for the calls of `handle` that a request takes (arrival, first token, end), us.
    request_us: float


def section(decisions: int) -> Iterator[str]:
    """The part, line by line."""
    yield f"{_OPENING}\n"
    rows = []
    for choice in (_EMPTIEST, ROUND_ROBIN, RAY, CATO, OURS):
        found = [measure(choice, *size, decisions) for size in _SIZES]
        fits = [one.replicas for one in found if one.request_us <= 1e6 / _PER_S]
        largest = f"{max(fits):,} replicas" if fits else f"{1e6 / found[0].request_us:,.0f}/s"
        rows.append([choice.name, *(_cell(one) for one in found), largest])
    heads = [f"{replicas:,} replicas of {models} models" for replicas, models in _SIZES]
    yield from table(["scheduler", *heads, f"one core at {_PER_S:,}/s"], rows)
    needed = _PER_S * _SERVICE_S / _PLACES / _USED
    yield (
        f"\nAt {_PER_S:,} requests a second one core has {1e6 / _PER_S:.0f} µs for each: the last "
        "column says the largest of these fleets that it can schedule at that rate, or, where it "
        "can none, how many requests a second it carries whatever the fleet. On paper, requests of "
        f"{_SERVICE_S} s, {_PLACES} at a time on a replica, {100 * _USED:.0f} % made use of: "
        f"{_PER_S:,} a second need {needed:,.0f} replicas; a core that carries a share of the rate "
        "carries that share of the fleet."
    )
    yield f"\n{_looks(decisions)}"


def _looks(decisions: int) -> str:
    """What the looks at sizes add."""
    found = [(size, measure_look(*size, decisions)) for size in _LOOKED_AT]
    told = ", ".join(
        f"{look_ns / MS:.0f} ms with {replicas:,} replicas of {models} models"
        for (replicas, models), look_ns in found
    )
    every_ns = OURS.policies().scaling.every_ns
    share = 100 * found[-1][1] / every_ns
    return (
        "Beside that the default's scaling looks at all models at once, once in "
        f"{every_ns / SECOND:.0f} s, at any rate: {told}; the last is {share:.1f} % of a core."
    )


def _cell(found: Measured) -> str:
    return f"{found.request_us:.0f} µs ({1e6 / found.request_us:,.0f}/s)"


def measure(choice: Choice, replicas: int, models: int, requests: int) -> Measured:
    """Keep a fleet busy for so many requests, and time the scheduler.

    Args:
        choice: Who decides.
        replicas: Of all models together.
        models: How many.
        requests: To be served while the clock runs.
    """
    fleet = _Fleet(choice, replicas, models)
    depth = min(replicas * _DEPTH, requests)
    fleet.ask(depth)
    fleet.serve(min(requests, _WARM_UP))
    fleet.spent_ns = 0
    served = fleet.serve(requests)
    return Measured(replicas, fleet.spent_ns / max(served, 1) / US)


def measure_look(replicas: int, models: int, requests: int) -> float:
    """What the default's scaling takes of a core for one look at a busy fleet, ns.

    Args:
        replicas: Of all models together.
        models: How many.
        requests: Served before; the last of each model are what the look is about.
    """
    fleet = _Fleet(OURS, replicas, models)
    fleet.ask(min(replicas * _DEPTH, requests))
    fleet.serve(requests)
    return fleet.look_ns()


class _Fleet:
    """A scheduler with all replicas up, and a world that answers at once."""

    def __init__(self, choice: Choice, replicas: int, models: int) -> None:
        each = replicas // models
        self._names = [f"m{index}" for index in range(models)]
        homes = {name: tuple(f"{name}-{at}" for at in range(each)) for name in self._names}
        devices = [DeviceSpec(home, GIB) for mine in homes.values() for home in mine]
        specs = [
            ModelSpec(name, mine[0], GIB, 8, replicas=each, step_cost=_COST, devices=mine)
            for name, mine in homes.items()
        ]
        chosen = replace(choice.policies(), scaling=Fixed(every_s=_NEVER_S))
        self._scheduler = Scheduler(specs, devices, chosen)
        self._now_ns = 0
        self._asked = 0
        self.spent_ns = 0
        #: Attempts that run, oldest first.
        self._running: deque[tuple[str, int]] = deque()
        self._handle()

    def _request(self, name: str) -> Request:
        self._asked += 1
        sla = Sla(ttft_ns=20 * SECOND) if self._asked % 2 else Sla(e2e_ns=60 * SECOND)
        return Request(f"r{self._asked}", name, "task", sla, self._now_ns, 300, 100, 60)

    def _handle(self, *events: object) -> None:
        self._now_ns += 100 * US
        began_ns = time.thread_time_ns()
        actions = self._scheduler.handle(events, self._now_ns)  # type: ignore[arg-type]
        self.spent_ns += time.thread_time_ns() - began_ns
        self._take(actions)

    def _take(self, actions: Sequence[Action]) -> None:
        loads = []
        for action in actions:
            if isinstance(action, Dispatch):
                self._running.append((action.request_id, action.attempt))
            elif isinstance(action, LoadReplica):
                loads.append(ReplicaReady(action.replica_id, action.epoch))
        if loads:
            self._handle(*loads)

    def look_ns(self) -> float:
        """What a look of the scaling policy takes, ns; the mean of some."""
        scaling = OURS.policies().scaling
        views = tuple(self._scheduler.state.models.values())
        began_ns = time.thread_time_ns()
        for _ in range(_LOOKS):
            if isinstance(scaling, Fleetwide):
                scaling.sizes(views, self._now_ns)
        return (time.thread_time_ns() - began_ns) / _LOOKS

    def ask(self, count: int) -> None:
        """So many arrive, one by one."""
        for index in range(count):
            self._handle(RequestArrived(self._request(self._names[index % len(self._names)])))

    def serve(self, count: int) -> int:
        """The oldest ends and a new one arrives, so many times; how many were served."""
        served = 0
        while served < count and self._running:
            request_id, attempt = self._running.popleft()
            self._handle(FirstToken(request_id, attempt))
            self._handle(AttemptFinished(request_id, attempt, 60))
            self._handle(RequestArrived(self._request(self._names[self._asked % len(self._names)])))
            served += 1
        return served


_OPENING = """\
## What a decision costs

All calls of the scheduler that one request takes (its arrival, its first token, its end), by the
size of the fleet, which runs four requests on each replica; the world around it answers at once,
and thousands of requests were served before the clock runs."""
