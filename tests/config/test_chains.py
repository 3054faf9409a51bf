"""The section `chains`: what it says reaches the gateway, and what is wrong is named."""

from typing import Any

import pytest
from pydantic import ValidationError

from slalom.assembly.parts import gateway_params
from slalom.config.schema import Config

STEPS = [
    {"name": "generate", "model": "slalom-small", "output_tokens": 200},
    {"name": "review", "model": "small", "task": "chat", "gap_ms": 500},
]
MODELS = [
    {
        "id": "slalom-small",
        "aliases": ["small"],
        "engine": {"kind": "remote", "base_url": "http://h"},
    }
]


def config(**chain: Any) -> Config:
    return Config.model_validate({"models": MODELS, "chains": {"fix": {"steps": STEPS, **chain}}})


def test_a_chain_reaches_the_gateway_with_ids_and_tasks() -> None:
    spec = gateway_params(config(deadline_ms=9_000)).chains["fix"]
    assert (spec.name, spec.deadline_ms, spec.length) == ("fix", 9_000, 2)
    assert [(one.model, one.task) for one in spec.steps.values()] == [
        ("slalom-small", "generation"),
        ("slalom-small", "chat"),
    ]


def test_weights_of_tasks_and_keys_reach_the_gateway() -> None:
    key = {"name": "ci", "key_sha256": "0" * 64, "weight": 0.5}
    found = gateway_params(
        Config.model_validate({"models": MODELS, "tasks": {"chat": {"weight": 3}}, "keys": [key]})
    )
    assert found.tasks["chat"].weight == 3
    assert found.tasks["generation"].weight == 1
    assert found.keys[0].weight == 0.5


@pytest.mark.parametrize(
    ("chain", "says"),
    [
        ({"steps": [{**STEPS[0], "then": "generate"}]}, "circle"),
        ({"steps": [{**STEPS[0], "model": "smal"}]}, "small"),
        ({"steps": [{**STEPS[0], "task": "chatt"}]}, "chat"),
        ({"steps": []}, "1 to 64"),
        ({"deadline_ms": 0}, "greater than 0"),
    ],
)
def test_what_is_wrong_is_named(chain: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        config(**chain)
