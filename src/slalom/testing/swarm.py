"""Random worlds, each made from one number, and the demand that the scheduler survives them.

Owns the drawing of scenarios (load, sizes, policies, faults) and the running of one seed: safety
after every step, from inside and from outside, then healed faults and liveness. Called by
tests/swarm, by the mutants, and from the command line for one seed:
`python -m slalom.testing.swarm SEED`.
"""

import random
import sys
from dataclasses import dataclass, replace
from typing import Any

from slalom.core.invariants import check
from slalom.core.journal import Entry
from slalom.core.params import SchedulerParams
from slalom.core.policy import Policies
from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla, StepCost
from slalom.policies import pathological
from slalom.policies.admission import DropLate, OpenAdmission
from slalom.policies.ordering import Edf
from slalom.policies.registry import POLICIES, build
from slalom.policies.residency.penalty import Penalty
from slalom.policies.saber import Saber
from slalom.policies.trim.plan_and_trim import PlanAndTrim
from slalom.testing.checker import Checker
from slalom.testing.scripted_planner import EveryLever
from slalom.testing.swarm_aliases import with_aliases
from slalom.testing.swarm_asks import with_asks
from slalom.testing.swarm_homes import with_homes
from slalom.testing.swarm_naps import with_naps
from slalom.testing.swarm_sizes import with_sizes
from slalom.twin.engine_model import StepLaw
from slalom.twin.faults import NO_FAULTS, FaultPlan
from slalom.twin.noise import stream
from slalom.twin.run import TwinRun, build_scheduler, run
from slalom.twin.scenario import Arrival, Drain, HostDelays, LoadLaw, Scenario, TwinModel
from slalom.units import GIB, MIB, MS, SECOND, US

#: What is added to a plain world, each with random numbers of its own.
ADDITIONS = (with_naps, with_homes, with_sizes, with_asks, with_aliases)
#: Faults stop then; arrivals go on a little longer.
_HEAL_NS = 60 * SECOND


@dataclass(frozen=True, slots=True)
class SwarmRun:
    """One seed that survived."""

    scenario: Scenario
    result: TwinRun


def scenario_for(seed: int) -> Scenario:
    """The random world of a seed."""
    scenario = plain_world(seed)
    for add in ADDITIONS:
        scenario = add(scenario, seed)
    return until_the_end(scenario)


def plain_world(seed: int) -> Scenario:
    """The same without what the additions bring."""
    rng = stream(seed, "swarm")
    devices = tuple(
        DeviceSpec(f"gpu{index}", rng.randint(4, 14) * GIB, rng.choice((0, 0, 0, 3)))
        for index in range(rng.randint(1, 2))
    )
    models = _models(rng, devices)
    params = _params(rng)
    calm = rng.random() < 0.2
    drain = None
    if rng.random() < 0.2:
        at_ns = rng.randrange(90 * SECOND)
        drain = Drain(at_ns, at_ns + rng.randint(1, 20) * SECOND)
    return Scenario(
        models=models,
        devices=devices,
        arrivals=_arrivals(rng, models),
        policies=_policies(rng),
        params=replace(
            params, load_stall_ns=stream(seed, "stalls").choice((0, 3 * SECOND, 5 * SECOND))
        ),
        faults=NO_FAULTS if calm else _faults(rng),
        host=HostDelays(
            report_ns=rng.choice((0, 0, 2 * MS)),
            unload_ns=rng.choice((0, 100 * MS, 3 * SECOND)),
            watchdog_ns=rng.choice((-1, 500 * MS, 2 * SECOND)),
        ),
        drain=drain,
        seed=seed,
    )


def until_the_end(scenario: Scenario) -> Scenario:
    """A world that runs until everything must have ended."""
    return replace(scenario, until_ns=90 * SECOND + liveness_bound_ns(scenario.params))


def liveness_bound_ns(params: SchedulerParams) -> int:
    """Longest time in which everything must have ended once nothing new goes wrong.

    A request may wait its full time before each of its attempts, and each attempt may last as
    long as an attempt may be silent, plus a drain. Loads, sleeps and unloads may each time out
    once.
    """
    attempt_ns = params.queue_timeout_ns + params.swap_drain_timeout_ns + 300 * SECOND
    round_ns = attempt_ns + params.attempt_silence_ns
    moves_ns = params.load_timeout_ns + params.sleep_timeout_ns + params.unload_timeout_ns
    return round_ns * (params.attempts_max + 1) + moves_ns


def run_seed(seed: int, *, inside: bool = True) -> SwarmRun:
    """Run one world and demand safety after every step, and liveness in the end.

    Args:
        seed: Names the world.
        inside: Also let the scheduler's state check itself; off to see what an onlooker
            would notice alone.

    Raises:
        InvariantError: A rule does not hold, seen from inside.
        ViolationError: A rule does not hold, seen from outside.
    """
    return survive(scenario_for(seed), inside=inside)


def survive(scenario: Scenario, *, inside: bool = True) -> SwarmRun:
    """The same for a world that was drawn already.

    Args:
        scenario: The world.
        inside: As for `run_seed`.

    Raises:
        InvariantError: As for `run_seed`.
        ViolationError: The same.
    """
    scheduler = build_scheduler(scenario)
    checker = Checker.of(scheduler)

    def watch(entry: Entry) -> None:
        if inside:
            check(scheduler.state)
        checker.see(entry)

    result = run(scenario, scheduler=scheduler, watch=watch)
    checker.finish()
    return SwarmRun(scenario, result)


def _models(rng: random.Random, devices: tuple[DeviceSpec, ...]) -> tuple[TwinModel, ...]:
    models: list[TwinModel] = []
    #: Pinned models must fit, and leave room for the others.
    pinnable = {device.id: device.budget_bytes // 2 for device in devices}
    for index in range(rng.randint(1, 6)):
        device = rng.choice(devices)
        byte_count = rng.choice((0, *[rng.randint(200, 6_000) * MIB] * 7))
        pinned = byte_count < pinnable[device.id] and rng.random() < 0.15
        if pinned:
            pinnable[device.id] -= byte_count
        spec = ModelSpec(
            id=f"model{index}",
            device=device.id,
            bytes_needed=byte_count,
            places=rng.choice((1, 2, 4, 8)),
            replicas=1 if pinned else rng.choice((1, 1, 1, 2, 3)),
            pinned=pinned,
        )
        law = StepLaw(
            prefill_ns_per_token=rng.choice((0, 50_000, 400_000)),
            token_ns=rng.randint(1, 20) * MS,
            neighbour_ns=rng.choice((0, 100 * US, 2 * MS)),
        )
        load = LoadLaw(
            fixed_ns=rng.choice((0, 1 * SECOND)),
            bytes_per_s=rng.choice((2 * GIB, 8 * GIB)),
            reports=rng.choice((0, 4)),
        )
        models.append(TwinModel(replace(spec, step_cost=_cost(rng, law)), law, load))
    return tuple(models)


def _cost(rng: random.Random, law: StepLaw) -> StepCost | None:
    """What planners are told of an engine: nothing, the truth, or half of it."""
    share = rng.choice((0.0, 1.0, 0.5))
    if not share:
        return None
    return StepCost(
        step_ns=law.token_ns * share,
        sequence_ns=law.neighbour_ns * share,
        prompt_ns=law.prefill_ns_per_token * share,
    )


def _params(rng: random.Random) -> SchedulerParams:
    return SchedulerParams(
        queue_max=rng.choice((5, 50, 10_000, 10_000, 10_000)),
        queue_timeout_ns=rng.choice((5, 20, 60, 60)) * SECOND,
        attempts_max=rng.randint(1, 3),
        swap_patience_ns=rng.choice((0, 500 * MS, 2 * SECOND)),
        min_residency_ns=rng.choice((0, 1 * SECOND, 3 * SECOND)),
        swap_drain_timeout_ns=rng.choice((200 * MS, 2 * SECOND, 10 * SECOND)),
        load_backoff_ns=rng.choice((100 * MS, 1 * SECOND)),
        load_backoff_max_ns=8 * SECOND,
        load_failures_max=rng.randint(1, 3),
        load_timeout_ns=60 * SECOND,
        unload_timeout_ns=rng.choice((4, 15)) * SECOND,
        attempt_silence_ns=rng.choice((8, 25)) * SECOND,
    )


#: Policies that no configuration can select, by slot.
_EXTREMES: dict[str, tuple[type[Any], ...]] = {
    "admission": (
        pathological.RejectAll,
        pathological.HoldAll,
        pathological.PlanNothing,
        pathological.PlanNonsense,
    ),
    "residency": (pathological.NeverEvict, pathological.EvictAll),
    "routing": (pathological.NoRoute,),
}
#: Options that show more than the defaults do; each world has an even chance of them.
_VARIANTS: dict[str, tuple[Any, ...]] = {
    "drop-late": (DropLate(grace_ms=500),),
    "edf": (Edf(ageing_ms=3_000),),
    "penalty": (Penalty(ahead=True), Penalty(ahead=True, ahead_s=60.0, hold=False)),
    "plan-and-trim": (PlanAndTrim(hold_ms=500), PlanAndTrim(late="refuse", hold_ms=0)),
    "saber": (Saber(published_program=True), Saber(law="fit", expected_length=True)),
}


def _policies(rng: random.Random) -> Policies:
    """One policy for each slot: any row of the registry, and sometimes an extreme."""
    sane = rng.random() < 0.85
    chosen: dict[str, Any] = {}
    for slot, kinds in POLICIES.items():
        if slot == "scaling":  # drawn by itself, so that worlds stay what they were
            continue
        extremes = () if sane else _EXTREMES.get(slot, ())
        index = rng.randrange(len(kinds) + len(extremes))
        if index >= len(kinds):
            chosen[slot] = extremes[index - len(kinds)]()
            continue
        kind = list(kinds)[index]
        chosen[slot] = rng.choice((build(slot, kind), *_VARIANTS.get(kind, ())))
    # Heads one by one, and every lever of a plan, keep their share whatever the registry holds.
    if sane and rng.random() < 0.6:
        heads, plans = (OpenAdmission(), DropLate()), (EveryLever(), pathological.PlanNonsense())
        chosen["admission"] = rng.choice((*heads, *plans))
    return Policies(**chosen)


def _faults(rng: random.Random) -> FaultPlan:
    def share(most: float) -> float:
        return rng.choice((0.0, rng.random() * most))

    plan = FaultPlan(
        crash=share(0.1),
        hang=share(0.05),
        slow=share(0.05),
        error=share(0.2),
        failed_load=share(0.4),
        slow_load=share(0.3),
        foreign_memory=share(0.5),
        lost=share(0.05),
        late=share(0.2),
        duplicate=share(0.2),
        late_ns=rng.choice((10 * MS, 5 * SECOND)),
        heal_ns=_HEAL_NS,
    )
    # No draw of its own, which would change every world.
    return replace(plan, taken_memory=plan.foreign_memory)


def _arrivals(rng: random.Random, models: tuple[TwinModel, ...]) -> tuple[Arrival, ...]:
    count = rng.choice((20, 60, 150))
    span_ns = rng.choice((5, 30, 80)) * SECOND
    leaving = rng.choice((0.0, 0.1, 0.5))
    slas = (
        Sla(),
        Sla(ttft_ns=500 * MS),
        Sla(e2e_ns=10 * SECOND),
        Sla(ttft_ns=2 * SECOND, tpot_ns=30 * MS, e2e_ns=30 * SECOND),
    )
    #: Bursts: many requests share an instant.
    times = sorted(
        rng.randrange(span_ns) if rng.random() < 0.8 else span_ns // 3 for _ in range(count)
    )
    names = [model.spec.id for model in models]
    weights = [1.0 / (1 + index) for index in range(len(names))]
    arrivals: list[Arrival] = []
    for index, at_ns in enumerate(times):
        unknown = rng.random() < 0.02
        most = rng.choice((4, 60, 60, 400))
        request = Request(
            id=f"r{index}",
            model="nobody" if unknown else rng.choices(names, weights)[0],
            task="task",
            sla=rng.choice(slas),
            arrived_ns=at_ns,
            prompt_tokens=rng.randrange(2_000),
            max_tokens=most,
            predicted_tokens=most // 2,
            key=rng.choice(("", "k")),
            supersedes=rng.choice(("", "", "", "", "a file")),
            resumable=rng.random() < 0.5,
        )
        patience_ns = rng.randrange(10 * SECOND) if rng.random() < leaving else -1
        arrivals.append(Arrival(request, rng.randint(1, most), patience_ns))
    return tuple(arrivals)


if __name__ == "__main__":
    survived = run_seed(int(sys.argv[1]))
    sys.stdout.write(f"{len(survived.result.entries)} entries, {survived.result.snapshot}\n")
