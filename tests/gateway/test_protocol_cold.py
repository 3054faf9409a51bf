"""Clients that wait for a load: on every protocol they see life first, then the right end."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from slalom.core.events import FailureKind
from slalom.gateway.params import GatewayParams, ServedModel
from slalom.runtime.params import RuntimeParams
from slalom.testing import FakeEngine, FakeLauncher, FakeLoad
from slalom.units import SECOND
from tests.gateway.engine_corpus import BrokenOffError
from tests.gateway.house import WAIT_S, House, chat, house
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


#: OpenAI's own routes and those without a text.
_BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": chat(),
    "/v1/completions": {"model": "a", "prompt": "one", "max_tokens": 4},
    "/v1/embeddings": {"model": "a", "input": "one"},
    "/api/embed": {"model": "a", "input": "one"},
    "/api/embeddings": {"model": "a", "prompt": "one"},
}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("fails", [False, True])
async def test_openais_streams_too(path: str, *, fails: bool) -> None:
    failure = FailureKind.MODEL_UNUSABLE if fails else None
    launcher = Gated(FakeLoad(failure=failure))
    async with house({"a": launcher}, params=PARAMS) as world:
        body = {**_BODIES[path], "stream": True}
        async with (
            asyncio.timeout(WAIT_S),
            world.http.post(world.url + path, json=body) as reply,
        ):
            first = await reply.content.readany()
            assert first.startswith(b": waiting")
            launcher.gate.set()
            said = await reply.content.read()
        assert said.endswith(b"data: [DONE]\n\n")
        assert (b"model_unusable" in said) is fails
        assert (b" w3" in said) is not fails


@pytest.mark.parametrize("path", sorted({*SAMPLES, *_BODIES}))
async def test_who_asks_for_the_whole_waits_for_it_or_gets_a_status(path: str) -> None:
    sample = SAMPLES.get(path)
    body = _BODIES[path] if sample is None else sample.body | dict.fromkeys(sample.streams, False)
    for failure in (None, FailureKind.MODEL_UNUSABLE):
        launcher = Gated(FakeLoad(failure=failure))
        async with house({"a": launcher}, params=PARAMS) as world:
            asked = asyncio.ensure_future(world.http.post(world.url + path, json=body))
            await world.until(lambda: world.runtime.snapshot().waiting)
            assert not asked.done()
            launcher.gate.set()
            async with asyncio.timeout(WAIT_S), await asked as reply:
                said = await reply.read()
                assert reply.status == (200 if failure is None else 503)
            if failure is None and sample is not None:
                assert sample.read_whole(said).text
            elif failure is None:
                assert b"w3" in said or b"embedding" in said
            else:
                assert b"cannot be loaded" in said or b"fail its load" in said


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
