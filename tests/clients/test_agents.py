"""Coding agents, unchanged: each streams from a real model, and uses a tool on a scripted one."""

import pytest

from tests.clients.agents import AGENTS
from tests.clients.place import Place
from tests.clients.scripted_model import Script

pytestmark = [pytest.mark.live, pytest.mark.timeout(700)]

agents = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.client(name)) for name in AGENTS]
)


@agents
async def test_an_agent_streams_from_a_real_model(place: Place, name: str) -> None:
    path, use = AGENTS[name]
    await use(place, "slalom-small")
    (first, *_) = await place.streamed(path, "slalom-small")
    assert first["output_tokens"] > 0


@agents
async def test_an_agent_uses_a_tool(place: Place, script: Script, name: str) -> None:
    path, use = AGENTS[name]
    said = await use(place, "scripted")
    assert any(place.fact in answer for answer in script.answered)
    assert place.fact in said
    assert len(await place.streamed(path, "scripted")) >= 2
