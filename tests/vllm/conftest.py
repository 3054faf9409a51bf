"""The switch that asks for real vLLM, and where it is installed."""

import os
from pathlib import Path

import pytest

#: Names the Python that can import vLLM; `make test-vllm` sets it.
VARIABLE = "SLALOM_VLLM_PYTHON"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get(VARIABLE):
        return
    for item in items:
        if item.get_closest_marker("vllm") is not None:
            item.add_marker(pytest.mark.skip(reason="asked for by: make test-vllm"))


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    return Path(os.environ[VARIABLE]).absolute()
