"""A planner that learns and does nothing clever, to be run against the twin's engines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from slalom.config.scenario_load import load_scenario
from slalom.core.planning import Observation, Plan, Planner, PlanView, Start
from slalom.core.policy import Policies
from slalom.core.request import ModelSpec
from slalom.policies.prediction.predictor import Predictor, PredictorOptions
from slalom.policies.registry import policies
from slalom.twin.from_file import scenario_of
from slalom.twin.run import run
from slalom.twin.scenario import Scenario

ROOT = Path(__file__).parents[3]

Watch = Callable[[Predictor, int], None]


class FirstCome:
    """Starts what has waited longest while there is a place, up to `window` on a replica."""

    def __init__(self, predictor: Predictor, window: int, watch: Watch | None) -> None:
        self.predictor = predictor
        self._window = window
        self._watch = watch

    def observe(self, seen: Observation, model: PlanView, now_ns: int) -> None:
        self.predictor.observe(seen, model, now_ns)
        if self._watch is not None:
            self._watch(self.predictor, now_ns)

    def plan(self, model: PlanView, now_ns: int) -> Plan:
        starts: list[Start] = []
        free = {
            replica.id: min(replica.free_places, self._window - len(replica.active()))
            for replica in model.ready()
        }
        for waiting in model.waiting(1_000):
            replica_id = max(free, key=lambda name: free[name])
            if free[replica_id] <= 0 or len(starts) >= model.room:
                break
            free[replica_id] -= 1
            starts.append(Start(waiting.request.id, replica_id))
        return Plan(starts=starts)


@dataclass(frozen=True)
class Learning:
    """The planning policy; `made` collects the predictors that were begun."""

    made: list[Predictor]
    window: int = 1_000
    options: PredictorOptions | None = None
    watch: Watch | None = None

    def begin(self, models: Sequence[ModelSpec]) -> Planner:
        predictor = Predictor(models, self.options)
        self.made.append(predictor)
        return FirstCome(predictor, self.window, self.watch)


def learned(
    name: str,
    *,
    seed: int = 0,
    rate_scale: float = 1.0,
    calibrated: bool | float = True,
    window: int = 1_000,
    options: PredictorOptions | None = None,
    watch: Watch | None = None,
    change: Callable[[Scenario], Scenario] | None = None,
) -> tuple[Predictor, Scenario]:
    """What a predictor has learned after a scenario, and the scenario."""
    loaded = load_scenario(ROOT / "scenarios" / f"{name}.yaml")
    file = loaded.file
    models = tuple(
        model.model_copy(update={"calibrated": calibrated, "places": max(model.places, 64)})
        for model in file.models
    )
    loaded = replace(loaded, file=file.model_copy(update={"models": models}))
    made: list[Predictor] = []
    base = policies()
    policy = Learning(made, window, options, watch)
    chosen = Policies(policy, base.ordering, base.residency, base.routing)
    scenario = scenario_of(loaded, chosen, seed, rate_scale=rate_scale)
    if change is not None:
        scenario = change(scenario)
    run(scenario, keep=False)
    return made[0], scenario
