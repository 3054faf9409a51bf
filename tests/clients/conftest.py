"""What the tests of real clients share: the switch that asks for them, and a running server."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.pins import PINS
from tests.clients.place import Place
from tests.clients.scripted_model import Script, scripted_model
from tests.live.live_server import live_server, model

#: Agents send prompts of up to 22,000 tokens.
AGENT_CONTEXT = 32_768


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--clients", action="store_true", help="run the clients (make test-clients)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        marker = item.get_closest_marker("client")
        if marker is None:
            continue
        (name,) = marker.args
        if not config.getoption("--clients", default=False):
            item.add_marker(pytest.mark.skip(reason="asked for by: make test-clients"))
        elif not PINS[name].executable.exists():
            item.add_marker(pytest.mark.skip(reason=f"{name} is not installed"))


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    async with scripted_model() as found:
        yield found


@pytest.fixture
async def place(tmp_path: Path, script: Script) -> AsyncIterator[Place]:
    """A server with a bundled model on llama.cpp and the scripted one, and a client's home."""
    real: dict[str, Any] = model("slalom-small", context_tokens=AGENT_CONTEXT, places=2)
    engine = {"kind": "remote", "base_url": script.url, "model_name": "scripted"}
    config = {"models": [real, {"id": "scripted", "engine": engine}]}
    async with live_server(tmp_path, config) as server:
        yield Place(server, tmp_path / "home")
