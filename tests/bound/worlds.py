"""Random small scenarios of every kind of engine, and the best of them by trying all sets.

Owns the drawing of scenarios for the tests of the bound. Keyed by a seed, like everything in the
twin.
"""

import itertools
import random
from dataclasses import dataclass, replace

from slalom.core.policy import Policies
from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla
from slalom.policies.registry import policies
from slalom.testing.scripted_planner import EveryLever
from slalom.twin.engine_model import StepLaw
from slalom.twin.engine_specs import EngineSpec, LlamaCppEngine, UslEngine, VllmEngine
from slalom.twin.faults import FaultPlan
from slalom.twin.meter import Meter
from slalom.twin.noise import stream
from slalom.twin.run import run
from slalom.twin.scenario import Arrival, LoadLaw, Scenario, TwinModel
from slalom.twin.step_time import StepProfile
from slalom.twin.usl import SABER_FIT, UslLaw
from slalom.units import GIB, MS, SECOND
from slalom.workload.clients import Retries
from tests.bound.restless import Restless

#: Every registered admission with every registered ordering.
POLICIES: tuple[Policies, ...] = tuple(
    policies(admission=admission, ordering=ordering, routing=routing)
    for admission in ("open", "drop-late")
    for ordering in ("fcfs", "edf")
    for routing in ("most-free", "pack")
)

#: Planners that pause; clamping is left out, because an answer cut short is another answer.
PAUSING: tuple[Policies, ...] = tuple(
    replace(policies(ordering=ordering), admission=admission)
    for ordering in ("fcfs", "edf")
    for admission in (EveryLever(clamp_tokens=0), Restless(), Restless(every_ns=35 * MS))
)

_PROFILE = StepProfile(
    "made up",
    host_ns=1e6,
    dense_flat_tokens=100,
    dense_flat_ns=5e6,
    dense_ns_per_token=50_000,
    decode_seq_ns=100_000,
    decode_kv_ns_per_token=500,
    prefill_attention_ns_per_token_ctx=5,
    ingest_ns=10e6,
)


def good_of(scenario: Scenario) -> int:
    """Good requests of a run."""
    return sum(end.good for end in run(scenario).ends)


def metered(scenario: Scenario) -> Meter:
    """What a run came to in the eyes of the clients."""
    meter = Meter(scenario)
    run(scenario, observer=meter, keep=False)
    return meter


def with_clients(scenario: Scenario, seed: int) -> Scenario:
    """The same, but most answers can be continued, some clients ask anew, some come again."""
    rng = stream(seed, "clients")
    arrivals = []
    for arrival in scenario.arrivals:
        request = replace(
            arrival.request,
            resumable=rng.random() < 0.8,
            supersedes=rng.choice(["", "", "one", "two"]),
        )
        arrivals.append(
            replace(
                arrival,
                request=request,
                stale_ns=rng.randrange(2 * SECOND) if rng.random() < 0.2 else -1,
                retries=Retries(3, 50 * MS, 0.5) if rng.random() < 0.5 else None,
            )
        )
    params = replace(scenario.params, queue_max=rng.choice([2, 100]))
    return replace(scenario, arrivals=arrivals, params=params)


def random_scenario(seed: int) -> Scenario:
    """A few dozen requests with objectives of all kinds, on any engine."""
    rng = stream(seed, "bound")
    names = ["a", "b", "c"][: rng.randint(1, 3)]
    models = tuple(_model(rng, name) for name in names)
    roomy = rng.random() < 0.6
    budget = sum(m.spec.bytes_needed * m.spec.replicas for m in models) if roomy else 6 * GIB
    faults = FaultPlan(lost=0.1, late=0.1, error=0.1, slow=0.05) if rng.random() < 0.2 else None
    device = DeviceSpec("gpu", budget, window=rng.choice([0, 0, 3]))
    scenario = Scenario(
        models=models,
        devices=(device,),
        arrivals=_arrivals(rng, names, rng.randint(1, 40), rng.choice([1.0, 4.0, 15.0])),
        policies=POLICIES[0],
        seed=seed,
    )
    return replace(scenario, faults=faults) if faults else scenario


def _model(rng: random.Random, name: str) -> TwinModel:
    places = rng.choice([1, 2, 4, 12])
    engines: list[EngineSpec | None] = [
        None,
        None,
        UslEngine(SABER_FIT),
        UslEngine(UslLaw(100.0, 0.2, 0.01, prefill_ns_per_token=100_000)),
        VllmEngine(_PROFILE, budget_tokens=256, seqs_max=8, kv_blocks=600),
        LlamaCppEngine(_PROFILE, slots=places, batch_tokens=512, micro_batch_tokens=128),
    ]
    return TwinModel(
        spec=ModelSpec(
            name, "gpu", rng.randint(1, 6) * GIB, places, replicas=rng.choice([1, 1, 2])
        ),
        step=StepLaw(
            prefill_ns_per_token=rng.choice([0, 50_000, 500_000]),
            token_ns=10 * MS,
            neighbour_ns=rng.choice([0, 500_000, 5 * MS]),
        ),
        load=LoadLaw(fixed_ns=rng.choice([0, 300 * MS])),
        engine=rng.choice(engines),
    )


def _arrivals(rng: random.Random, names: list[str], count: int, rate: float) -> list[Arrival]:
    at_ns, arrivals = 0, []
    for index in range(count):
        at_ns += round(rng.expovariate(rate) * SECOND)
        output = rng.choice([1, 5, 30, 120])
        prompt = rng.choice([0, 100, 1_000])
        request = Request(
            f"r{index}", rng.choice(names), "t", _sla(rng, output), at_ns, prompt, output, output
        )
        patience_ns = rng.randrange(4 * SECOND) if rng.random() < 0.1 else -1
        session = rng.choice(["", "s1"])
        shared = rng.randint(0, prompt) if session else 0
        arrivals.append(Arrival(request, output, patience_ns, shared, session))
        if rng.random() < 0.05:
            then = replace(arrivals[-1], request=replace(request, id=f"r{index}then"))
            arrivals[-1] = replace(arrivals[-1], then=then, gap_ns=SECOND)
    return arrivals


def _sla(rng: random.Random, output: int) -> Sla:
    e2e_ns = round((0.1 + 0.02 * output * rng.uniform(0.4, 3.0)) * SECOND)
    return rng.choice(
        [
            Sla(e2e_ns=e2e_ns),
            Sla(e2e_ns=e2e_ns),
            Sla(ttft_ns=rng.randint(50, 800) * MS),
            Sla(ttft_ns=rng.randint(50, 800) * MS, tpot_ns=rng.randint(10, 30) * MS),
            Sla(ttft_ns=300 * MS, e2e_ns=e2e_ns),
            Sla(tpot_ns=20 * MS),
        ]
    )


def tiny_scenario(seed: int) -> Scenario:
    """Up to four requests for one engine that cannot serve them all in time."""
    rng = stream(seed, "tiny")
    law = StepLaw(prefill_ns_per_token=0, token_ns=10 * MS, neighbour_ns=rng.choice([2, 5, 9]) * MS)
    spec = ModelSpec("a", "gpu", 0, rng.choice([1, 2, 3]), pinned=True)
    arrivals, at_ns = [], 0
    for index in range(rng.randint(2, 4)):
        at_ns += rng.randrange(100) * MS
        output = rng.choice([5, 10, 20, 40])
        sla = Sla(e2e_ns=round(output * 10 * MS * rng.uniform(1.1, 2.0)))
        request = Request(f"r{index}", "a", "t", sla, at_ns, 0, output, output)
        arrivals.append(Arrival(request, output))
    return Scenario(
        models=(TwinModel(spec, law, LoadLaw(fixed_ns=0)),),
        devices=(DeviceSpec("gpu", 1),),
        arrivals=arrivals,
        policies=POLICIES[0],
    )


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Ordering by a list of names."""

    names: tuple[str, ...]

    def key(self, request: Request, default_deadline_ns: int) -> int:
        """The place in the list."""
        return self.names.index(request.id)


def optimum(scenario: Scenario) -> int:
    """The most good requests of all sets let in, in all orders, so many at a time; no pauses."""
    arrivals = list(scenario.arrivals)
    model = scenario.models[0]
    fewer = [
        replace(model, spec=replace(model.spec, places=places))
        for places in range(1, model.spec.places + 1)
    ]
    for count in range(len(arrivals), 0, -1):
        for chosen in itertools.combinations(arrivals, count):
            for order in itertools.permutations(arrival.request.id for arrival in chosen):
                rules = replace(scenario.policies, ordering=_Ranked(order))
                played = replace(scenario, arrivals=chosen, policies=rules)
                if any(good_of(replace(played, models=(one,))) == count for one in fewer):
                    return count
    return 0
