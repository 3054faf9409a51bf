"""What a task says of answers before any was seen: of a load's requests and a chain's calls."""

from pathlib import Path

from slalom.config.scenario_load import load_scenario
from slalom.workload.chains import StepSpec, later_of
from slalom.workload.load import iter_load
from slalom.workload.tasks import DEFAULT_TASKS

SCENARIOS = Path(__file__).parents[2] / "scenarios"


def test_a_translation_is_thought_to_be_as_long_as_its_prompt() -> None:
    loaded = load_scenario(SCENARIOS / "fleet-own.yaml")
    found = [item for item in iter_load(loaded.plan, 0) if item.task == "translation"]
    assert len({item.prompt_tokens for item in found}) > 20
    for item in found:
        assert item.predicted_tokens == min(item.prompt_tokens, item.max_tokens)


def test_so_is_one_that_is_to_come_in_a_chain() -> None:
    steps = [StepSpec("t", "m", "translation"), StepSpec("u", "m", "completion")]
    later = later_of(steps, DEFAULT_TASKS, prompt_tokens=100, answer_tokens=40)
    assert [(one.prompt_tokens, one.predicted_tokens) for one in later] == [(140, 140), (280, 16)]
