"""Clients that wait for a load: on every protocol they see life first, then the right end."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from slalom.core.events import FailureKind
from slalom.gateway.params import GatewayParams, ServedModel
from slalom.runtime.driver import RuntimeParams
from slalom.testing import FakeEngine, FakeLauncher, FakeLoad
from slalom.units import SECOND
from tests.gateway.engine_corpus import BrokenOffError
from tests.gateway.house import WAIT_S, House, house
from tests.gateway.protocol_samples import SAMPLES, Sample

PARAMS = GatewayParams((ServedModel("a"),), wait_comment_after_ns=0)

paths = pytest.mark.parametrize("path", sorted(SAMPLES))


class Gated(FakeLauncher):
    """Loads nothing before it is told to."""

    def __init__(self, load: FakeLoad) -> None:
        super().__init__(load=load)
        self.gate = asyncio.Event()

    async def launch(self, replica_id: str, on_progress: Callable[[float], None]) -> FakeEngine:
        on_progress(0.5)
        await self.gate.wait()
        return await super().launch(replica_id, on_progress)


async def ask(world: House, path: str, launcher: Gated) -> tuple[int, bytes, bytes]:
    """Status, what came before the load went on, and everything."""
    sample = SAMPLES[path]
    body = {**sample.body, **sample.streams}
    async with (
        asyncio.timeout(WAIT_S),
        world.http.post(world.url + path, json=body) as reply,
    ):
        first = await reply.content.readany()
        launcher.gate.set()
        return reply.status, first, first + await reply.content.read()


@paths
async def test_life_comes_before_the_model_and_then_the_answer(path: str) -> None:
    launcher = Gated(FakeLoad())
    async with house({"a": launcher}, params=PARAMS) as world:
        status, first, said = await ask(world, path, launcher)
        assert status == 200
        assert first
        meaning = SAMPLES[path].read_stream(said)
        assert meaning.text
        assert said.startswith(first)


@paths
async def test_life_comes_before_the_model_and_then_the_error(path: str) -> None:
    launcher = Gated(FakeLoad(failure=FailureKind.MODEL_UNUSABLE))
    async with house({"a": launcher}, params=PARAMS) as world:
        _, _, said = await ask(world, path, launcher)
        with pytest.raises(BrokenOffError):
            SAMPLES[path].read_stream(said)


def test_life_comes_within_a_second() -> None:
    params = GatewayParams(())
    tick_ns = RuntimeParams().tick_s * SECOND
    assert params.wait_comment_after_ns + tick_ns <= SECOND


@paths
async def test_a_body_that_is_too_large_is_refused_in_the_protocols_shape(path: str) -> None:
    sample: Sample = SAMPLES[path]
    params = GatewayParams((ServedModel("a"),), body_bytes_max=1000)
    body: dict[str, Any] = {**sample.body, "padding": "x" * 2000}
    async with house(params=params) as world:
        status, document, _ = await world.post(path, body)
        assert status == 413
        _, other, _ = await world.post(path, {"model": 7})
        assert document.keys() == other.keys()
        for side in ("/v1/messages/count_tokens", "/v1/responses/input_tokens"):
            assert (await world.post(side, body))[0] == 413
        assert world.gateway._shared.bytes_inside == 0
