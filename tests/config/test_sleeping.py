"""What the configuration says of sleep, and what it must not say."""

from typing import Any

import pytest
from pydantic import ValidationError

from slalom.config import Config
from slalom.config.footprint import model_specs
from slalom.config.params import device_specs
from slalom.core.request import DeviceSpec
from slalom.units import GIB

VLLM = {"kind": "command", "cmd": "vllm serve X --port ${PORT}", "sleep": "vllm", "places": 8}


def parse(model: dict[str, Any], *devices: dict[str, Any]) -> Config:
    known = devices or (
        {"id": "gpu", "budget": "70GiB", "host": "ram"},
        {"id": "ram", "budget": "128GiB"},
    )
    section = {"id": "m", "device": "gpu", "memory": "20GiB", "engine": VLLM, **model}
    return Config.model_validate({"models": [section], "devices": known})


def test_a_sleeper_takes_its_weights_of_host_memory_and_keeps_a_little() -> None:
    config = parse({"sleep_level": 1, "sleep_memory": "15GiB", "sleep_residual": "1GiB"})
    (spec,) = model_specs(config)
    assert (spec.sleep_level, spec.host_bytes, spec.residual_bytes) == (1, 15 * GIB, GIB)
    assert device_specs(config)[0] == DeviceSpec("gpu", 70 * GIB, 0, "ram")


def test_without_a_size_host_memory_is_that_of_the_replica_and_level_two_takes_none() -> None:
    assert model_specs(parse({"sleep_level": 1}))[0].host_bytes == 20 * GIB
    assert model_specs(parse({"sleep_level": 2}))[0].host_bytes == 0
    assert model_specs(parse({}))[0].sleep_level == 0


@pytest.mark.parametrize(
    ("model", "devices", "said"),
    [
        ({"engine": {"kind": "llama-cpp", "source": "bundled:slalom-mini"}}, (), "cannot sleep"),
        ({"engine": {**VLLM, "sleep": "none"}}, (), "sleep: vllm"),
        ({}, ({"id": "gpu", "budget": "70GiB"},), "no host memory to sleep in"),
        ({}, ({"id": "gpu", "budget": "70GiB", "host": "gpu"},), "no other device 'gpu'"),
        (
            {},
            ({"id": "gpu", "budget": "7GiB", "host": "rma"}, {"id": "ram", "budget": "8GiB"}),
            "did you mean 'ram'",
        ),
    ],
)
def test_who_cannot_sleep_so_is_told_what_to_write(
    model: dict[str, Any], devices: tuple[dict[str, Any], ...], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        parse({"sleep_level": 1, **model}, *devices)
