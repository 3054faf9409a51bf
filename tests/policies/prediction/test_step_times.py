"""Step times learned from traffic, against the laws of the twin's engines."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, cast

import pytest

from slalom.core.request import StepCost
from slalom.policies.prediction.predictor import Predictor, PredictorOptions
from slalom.twin.engine_model import StepLaw
from slalom.twin.engine_protocol import TwinEngine
from slalom.twin.engine_specs import EngineSpec, LlamaCppEngine
from slalom.twin.profiles import shipped_profiles
from slalom.twin.scenario import Scenario
from slalom.twin.step_costs import step_cost_of
from slalom.twin.step_time import StepProfile
from slalom.units import MS, SECOND
from tests.policies.prediction.fleet import learned


def _errors(
    cost: StepCost, law: StepCost, sequences: Sequence[int], contexts: Sequence[int] = (300, 900)
) -> Iterator[float]:
    for count, context in product(sequences, contexts):
        yield cost.of(count, count * context, 0) / law.of(count, count * context, 0) - 1


def _law(scenario: Scenario, at: int = 0) -> StepCost:
    model = scenario.models[at]
    return step_cost_of(model.engine or model.step, places=model.spec.places)


@dataclass(frozen=True)
class _Slowing:
    """An engine's spec whose engines take so many times as long from some time on."""

    inner: EngineSpec
    at_ns: int
    factor: int

    def build(self, report_every_ns: int) -> TwinEngine[Any]:
        engine = self.inner.build(report_every_ns)
        take_due = engine.take_due
        slowed: list[bool] = []

        def take(now_ns: int) -> Any:
            found = take_due(now_ns)
            if now_ns >= self.at_ns and not slowed:
                slowed.append(True)
                engine.slow_down(self.factor, now_ns)
            return found

        engine.take_due = take  # type: ignore[method-assign]
        return engine


def _slowing(scenario: Scenario, at_ns: int, factor: int) -> Scenario:
    models = tuple(
        replace(
            model,
            engine=cast("EngineSpec", _Slowing(cast("EngineSpec", model.engine), at_ns, factor)),
        )
        for model in scenario.models
    )
    return replace(scenario, models=models)


@pytest.mark.parametrize("calibrated", [True, 0.6, 1.6, False])
def test_the_usl_engine_is_learned_from_one_run_of_a_hundred_requests(
    calibrated: bool | float,
) -> None:
    predictor, scenario = learned("saber-w3", calibrated=calibrated)
    errors = list(_errors(predictor.cost("qwen2.5-coder-3b"), _law(scenario), (2, 5, 10, 20, 30)))
    assert max(map(abs, errors)) < 0.1


@pytest.mark.parametrize("calibrated", [True, 0.6, 1.6, False])
def test_a_stepping_engine_is_learned_within_a_minute(calibrated: bool | float) -> None:
    predictor, scenario = learned("poisson", calibrated=calibrated, change=_first_minute)
    cost, law = predictor.cost("coder-7b"), _law(scenario)
    assert max(map(abs, _errors(cost, law, (2, 5, 10, 15)))) < 0.05
    assert cost.reading_ns(2_000) == pytest.approx(law.reading_ns(2_000), rel=0.15)
    assert predictor.learned()[0].step_error < 0.05


def _first_minute(scenario: Scenario) -> Scenario:
    arrivals = [one for one in scenario.arrivals if one.request.arrived_ns < 60 * SECOND]
    return replace(scenario, arrivals=arrivals)


def test_prompts_and_ingestion_are_learned_from_first_tokens() -> None:
    predictor, scenario = learned("poisson", calibrated=1.6)
    cost, law = predictor.cost("coder-7b"), _law(scenario)
    assert cost.reading_ns(1_000) == pytest.approx(law.reading_ns(1_000), rel=0.1)
    assert cost.reading_ns(6_000) == pytest.approx(law.reading_ns(6_000), rel=0.1)
    assert cost.request_ns == pytest.approx(law.request_ns, rel=0.2)


@pytest.mark.parametrize("name", ["poisson", "saber-w3"])
def test_a_slow_down_is_noticed_within_seconds_and_holds_for_what_does_not_run(name: str) -> None:
    at_ns = (90 if name == "poisson" else 8) * SECOND
    late: list[tuple[int, StepCost]] = []

    def watch(predictor: Predictor, now_ns: int) -> None:
        if now_ns > at_ns:
            late.append((now_ns - at_ns, predictor.cost(predictor.learned()[0].model)))

    predictor, scenario = learned(
        name, watch=watch, change=lambda scenario: _slowing(scenario, at_ns, 2)
    )
    law = step_cost_of(
        cast("_Slowing", scenario.models[0].engine).inner, places=scenario.models[0].spec.places
    ).scaled(2.0)
    soon = next(cost for after_ns, cost in late if after_ns > 10 * SECOND)
    for cost in (soon, late[-1][1]):
        # One sequence hardly ever runs alone here, and is known to be slower all the same.
        assert max(map(abs, _errors(cost, law, (1, 5, 10)))) < 0.2
    assert predictor.learned()[0].changes >= 1


def test_without_learning_the_prior_stays() -> None:
    options = PredictorOptions(calibrate=False)
    predictor, scenario = learned("saber-w3", calibrated=0.6, options=options)
    assert predictor.cost("qwen2.5-coder-3b") == _law(scenario).scaled(0.6)
    assert predictor.learned()[0].step_error > 0.3
    # The margin makes up for it.
    assert predictor.pace_margin("qwen2.5-coder-3b") == pytest.approx(1 / 0.6, rel=0.05)


def test_replicas_of_a_model_learn_together() -> None:
    def two(scenario: Scenario) -> Scenario:
        models = tuple(
            replace(model, spec=replace(model.spec, replicas=2, pinned=True))
            for model in scenario.models
        )
        devices = tuple(replace(d, budget_bytes=2 * d.budget_bytes) for d in scenario.devices)
        return replace(scenario, models=models, devices=devices)

    predictor, scenario = learned("saber-w1", calibrated=0.6, change=two, rate_scale=1.5)
    cost = predictor.cost("qwen2.5-coder-3b")
    assert max(map(abs, _errors(cost, _law(scenario), (3, 8, 15)))) < 0.1
    # What runs on the other one costs nothing in the twin.
    beside = predictor.cost("qwen2.5-coder-3b", 10)
    assert beside.of(5, 0, 0) == pytest.approx(cost.of(5, 0, 0), rel=0.1)


_CPU = StepProfile(
    "cpu",
    dense_flat_ns=8.0 * MS,
    dense_ns_per_token=1.5 * MS,
    decode_seq_ns=0.2 * MS,
    decode_kv_ns_per_token=800.0,
    prefill_attention_ns_per_token_ctx=400.0,
    ingest_ns=3.0 * MS,
)


@pytest.mark.parametrize(
    ("engine", "slowness", "off"),
    [
        (LlamaCppEngine(_CPU, slots=8), 40.0, 0.05),
        (LlamaCppEngine(shipped_profiles()["l40s/qwen2.5-coder-7b"], slots=16), 4.0, 0.05),
        # Its prompts are read aside and slow nobody, which no step cost can say.
        (None, 3.0, 0.15),
    ],
)
def test_other_engines_are_learned_as_well(
    engine: LlamaCppEngine | None, slowness: float, off: float
) -> None:
    places = engine.slots if engine else 24
    law = step_cost_of(engine or StepLaw(), places=places)

    def put(scenario: Scenario) -> Scenario:
        models = tuple(
            replace(
                model,
                engine=engine,
                spec=replace(model.spec, places=places, step_cost=law.scaled(0.6)),
            )
            for model in scenario.models
        )
        return replace(scenario, models=models)

    predictor, _ = learned("poisson", change=put, rate_scale=1.0 / slowness)
    cost = predictor.cost("coder-7b")
    assert max(map(abs, _errors(cost, law, (1, 2, 4, 8), (200, 1_500)))) < off
    assert cost.reading_ns(2_000) == pytest.approx(law.reading_ns(2_000), rel=3 * off)
    assert predictor.learned()[0].healthy


def test_models_are_learned_apart() -> None:
    predictor, scenario = learned("cato-poisson", calibrated=1.6)
    for at, model in enumerate(scenario.models):
        errors = _errors(predictor.cost(model.spec.id), _law(scenario, at), (1, 2, 3))
        assert max(map(abs, errors)) < 0.1


def test_the_same_observations_give_the_same_costs() -> None:
    first, _ = learned("saber-w2", calibrated=False)
    second, _ = learned("saber-w2", calibrated=False)
    assert first.cost("qwen2.5-coder-3b") == second.cost("qwen2.5-coder-3b")
    assert first.learned() == second.learned()
