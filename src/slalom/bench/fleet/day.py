"""The load of part 3: a coding day of 20,000 users over 50 models and 1,000 GPUs.

Owns the fleet (ten halls, each with a hundred GPUs and five models), the users, and the static
provisioning that a day's peak asks for. Knows no policy. Played by `large`.
"""

import random
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

from slalom.core.policy import Policies
from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla
from slalom.twin.engine_specs import VllmEngine
from slalom.twin.profiles import find_profile
from slalom.twin.scenario import Arrival, LoadLaw, Scenario, TwinModel
from slalom.twin.step_costs import step_cost_of
from slalom.units import GIB, MS, SECOND
from slalom.workload.shapes import day

_PROFILE = "a100/deepseek-coder-33b"
_LOAD = LoadLaw(fixed_ns=4 * SECOND, bytes_per_s=16 * GIB)
_BYTES, _BUDGET = 66 * GIB, 76 * GIB
_PLACES = 4
#: Silence between two reports of progress: half a minute's answers make some six of them.
_REPORT_NS = 5 * SECOND
#: Weight of the k-th model 1/k to this power; spread of the users' own weights (log-normal).
_ZIPF, _USERS_SIGMA = 0.9, 1.2


@dataclass(frozen=True, slots=True)
class _Task:
    name: str
    share: float
    sla: Sla
    #: Median and spread (log-normal) of prompt and output tokens, and the most of the output.
    prompt: tuple[int, float]
    output: tuple[int, float]
    most: int


_TASKS = (
    _Task("completion", 0.4, Sla(ttft_ns=1_000 * MS, e2e_ns=3_000 * MS), (700, 0.7), (24, 0.6), 64),
    _Task("generation", 0.2, Sla(2_000 * MS, 100 * MS), (700, 0.7), (200, 0.6), 1_024),
    _Task("agent", 0.4, Sla(4_000 * MS, 100 * MS), (2_000, 0.5), (700, 0.6), 4_096),
)


@dataclass(frozen=True, slots=True)
class Day:
    """One day, squeezed: who asks, and where it is served."""

    #: Its length, and requests a second on average; 1.7 times as many at the peak.
    seconds: int = 1_200
    rate_per_s: float = 75.0
    users: int = 20_000
    models: int = 50
    gpus: int = 1_000
    halls: int = 10
    seed: int = 0

    def arrivals(self) -> Iterator[Arrival]:
        """In the order of their times; the same each time."""
        rng = random.Random(f"day {self.seed}")
        users = _users(self)
        bounds = list(accumulate(task.share for task in _TASKS))
        at_s = 0.0
        for number, gap_s in enumerate(day(self.rate_per_s, self.seconds).gaps_s(rng)):
            at_s += gap_s
            if at_s > self.seconds:
                return
            user = bisect(users.bounds, rng.random() * users.bounds[-1])
            task = _TASKS[bisect(bounds, rng.random() * bounds[-1])]
            yield _arrival(f"r{number}", users.model_of[user], task, round(at_s * SECOND), rng)

    def shares(self) -> Sequence[float]:
        """Of all requests, by model."""
        return _users(self).shares

    def hall_of(self, model: int) -> int:
        """Models are dealt out to the halls in the order of their shares, back and forth."""
        turn, place = divmod(model, self.halls)
        return place if turn % 2 == 0 else self.halls - 1 - place

    def provisioned(self) -> Sequence[int]:
        """GPUs of each model where all are handed out by its share of the peak."""
        shares = self.shares()
        sizes = [0] * self.models
        for hall in range(self.halls):
            mine = [one for one in range(self.models) if self.hall_of(one) == hall]
            left = self.gpus // self.halls - len(mine)
            whole = sum(shares[one] for one in mine)
            exact = {one: left * shares[one] / whole for one in mine}
            for one in mine:
                sizes[one] = 1 + int(exact[one])
            rest = self.gpus // self.halls - sum(sizes[one] for one in mine)
            by_rest = sorted(mine, key=lambda one: (int(exact[one]) - exact[one], one))
            for one in by_rest[:rest]:
                sizes[one] += 1
        return sizes

    def scenario(self, policies: Policies, *, fixed: bool) -> Scenario:
        """What the twin plays.

        Args:
            policies: Who decides.
            fixed: Whether a model may have as many replicas as were provisioned, and no more; else
                as many as its hall has GPUs.
        """
        each = self.gpus // self.halls
        sizes = self.provisioned() if fixed else [each] * self.models
        halls = [tuple(f"h{hall}-{at}" for at in range(each)) for hall in range(self.halls)]
        return Scenario(
            models=tuple(
                _model(f"m{one}", halls[self.hall_of(one)], sizes[one])
                for one in range(self.models)
            ),
            devices=tuple(DeviceSpec(name, _BUDGET) for hall in halls for name in hall),
            arrivals=_Arrivals(self),
            policies=policies,
            seed=self.seed,
            until_ns=1 << 62,
        )


@dataclass(frozen=True, slots=True)
class _Arrivals:
    """Drawn anew each time they are asked for."""

    day: Day

    def __iter__(self) -> Iterator[Arrival]:
        return self.day.arrivals()


@dataclass(frozen=True, slots=True)
class _Users:
    #: Model of each user; sums of their weights up to each; share of each model.
    model_of: Sequence[str]
    bounds: Sequence[float]
    shares: Sequence[float]


@lru_cache(maxsize=4)
def _users(plan: Day) -> _Users:
    rng = random.Random(f"users {plan.seed}")
    popularity = list(accumulate(1 / (rank + 1) ** _ZIPF for rank in range(plan.models)))
    chosen = [bisect(popularity, rng.random() * popularity[-1]) for _ in range(plan.users)]
    weights = [rng.lognormvariate(0.0, _USERS_SIGMA) for _ in range(plan.users)]
    shares = [0.0] * plan.models
    for model, weight in zip(chosen, weights, strict=True):
        shares[model] += weight
    total = sum(weights)
    return _Users(
        [f"m{model}" for model in chosen],
        list(accumulate(weights)),
        [share / total for share in shares],
    )


@lru_cache(maxsize=1)
def _engine() -> VllmEngine:
    return VllmEngine(find_profile(_PROFILE, Path()), seqs_max=_PLACES)


def _model(name: str, homes: tuple[str, ...], replicas: int) -> TwinModel:
    engine = _engine()
    spec = ModelSpec(
        name,
        homes[0],
        _BYTES,
        _PLACES,
        replicas=replicas,
        devices=homes,
        step_cost=step_cost_of(engine, places=_PLACES),
        load_ns=_LOAD.load_ns(_BYTES),
    )
    return TwinModel(spec, load=_LOAD, report_every_ns=_REPORT_NS, engine=engine)


def _arrival(name: str, model: str, task: _Task, at_ns: int, rng: random.Random) -> Arrival:
    prompt = round(min(rng.lognormvariate(0.0, task.prompt[1]) * task.prompt[0], 8_192))
    output = round(min(rng.lognormvariate(0.0, task.output[1]) * task.output[0], task.most))
    request = Request(
        id=name,
        model=model,
        task=task.name,
        sla=task.sla,
        arrived_ns=at_ns,
        prompt_tokens=max(prompt, 16),
        max_tokens=task.most,
        predicted_tokens=task.output[0],
    )
    return Arrival(request, max(output, 1))
