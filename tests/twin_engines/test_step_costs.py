"""What planners are told of the twin's engines, against the engines' own step times."""

from pathlib import Path

import pytest

from slalom.config.scenario_load import load_scenario
from slalom.core.request import StepCost
from slalom.policies.registry import policies
from slalom.twin.engine_model import StepLaw
from slalom.twin.engine_specs import LlamaCppEngine, UslEngine, VllmEngine
from slalom.twin.from_file import scenario_of
from slalom.twin.profiles import shipped_profiles
from slalom.twin.step_costs import fitted_cost, step_cost_of
from slalom.twin.step_time import StepProfile
from slalom.twin.usl import SABER_FIT, UslLaw

_SCENARIO = """
name: one
requests: 1
clients:
  - arrivals: {kind: poisson, rate_per_s: 1}
    mix:
      - task: chat
        model: m
        prompt: {kind: fixed, tokens: 10}
        output: {kind: fixed, tokens: 10}
models:
  - id: m
    bytes: 1GiB
    calibrated: XX
    engine: {kind: usl, a: 100, s: 0.1, k: 0}
devices: [{id: gpu, budget: 2GiB}]
"""


def test_the_usl_engine_is_known_exactly_beyond_its_turn_too() -> None:
    cost = step_cost_of(UslEngine(SABER_FIT), places=100)
    for running in range(1, 250):
        assert cost.of(running, 0, 0) == pytest.approx(SABER_FIT.step_ns(running), rel=1e-6)
    law = UslLaw(50, 0.1, 0.001, prefill_ns_per_token=70)
    cost = step_cost_of(UslEngine(law), places=100)
    assert cost.of(30, 1_000, 0) == pytest.approx(law.step_ns(30), rel=1e-6)
    assert cost.reading_ns(100) == 7_000


def test_the_simple_engine_is_known_exactly() -> None:
    law = StepLaw(prefill_ns_per_token=5, token_ns=1_000, neighbour_ns=100)
    cost = step_cost_of(law, places=8)
    assert [cost.of(n, 500, 0) for n in (1, 2, 8)] == [law.step_ns(n) for n in (1, 2, 8)]
    assert cost.of(1, 0, 10) == law.step_ns(1) + 50


@pytest.mark.parametrize("name", sorted(shipped_profiles()))
def test_a_stepping_engine_is_known_nearly(name: str) -> None:
    profile = shipped_profiles()[name]
    for places in (16, 256):
        found = fitted_cost(VllmEngine(profile), places=places)
        assert found.error < 0.02
        assert found.error_max < 0.1
        said = found.cost.of(8, 8 * 700, 900, 900**2 / 2)
        assert said == pytest.approx(profile.step_ns(8, 8 * 700, 900, 900**2 / 2), rel=0.02)
        assert found.cost.request_ns == profile.ingest_ns


def test_pieces_of_a_prompt_count_into_its_tokens() -> None:
    profile = shipped_profiles()["l40s/qwen2.5-coder-7b"]
    whole = fitted_cost(LlamaCppEngine(profile, micro_batch_tokens=2_048), places=4)
    pieces = fitted_cost(LlamaCppEngine(profile, micro_batch_tokens=256), places=4)
    assert whole.error < 1e-6
    assert pieces.error < 0.2
    # The weights are read once for each piece.
    assert pieces.cost.reading_ns(2_000) > 1.15 * whole.cost.reading_ns(2_000)


def test_an_engine_that_computes_every_token_is_known_exactly() -> None:
    profile = StepProfile(
        "cpu",
        dense_flat_ns=5e6,
        dense_ns_per_token=2e6,
        decode_seq_ns=1e5,
        decode_kv_ns_per_token=9,
    )
    found = fitted_cost(LlamaCppEngine(profile, slots=8, micro_batch_tokens=2_048), places=8)
    assert found.cost.of(6, 600, 0) == pytest.approx(profile.step_ns(6, 600), rel=1e-6)
    assert found.error < 1e-3


@pytest.mark.parametrize(
    ("written", "factor"), [("true", 1.0), ("false", None), ("0.6", 0.6), ("1.6", 1.6)]
)
def test_a_scenario_says_what_planners_know(
    tmp_path: Path, written: str, factor: float | None
) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(_SCENARIO.replace("XX", written), encoding="utf-8")
    scenario = scenario_of(load_scenario(path), policies(), seed=0)
    told = scenario.models[0].spec.step_cost
    if factor is None:
        assert told is None
    else:
        assert isinstance(told, StepCost)
        assert told.of(11, 0, 0) == pytest.approx(factor * 21e6)
