"""The fake engine in virtual time: what it does, to the nanosecond."""

import asyncio
import json

import pytest

from slalom.core.events import FailureKind
from slalom.engines.protocol import Call
from slalom.errors import EngineError
from slalom.testing import (
    FakeEngine,
    FakeLauncher,
    FakeLoad,
    FakeScript,
    FakeTimings,
    Fault,
    FaultKind,
    VirtualClock,
    run_virtual,
)
from slalom.testing.fake_wire import CHAT, COMPLETIONS, EMBEDDINGS, Asked
from slalom.units import MS, SECOND


def call(tokens: int = 3, path: str = COMPLETIONS, *, stream: bool = True, **more: object) -> Call:
    body = {"model": "m", "prompt": "a b c d", "max_tokens": tokens, "stream": stream, **more}
    return Call(path, json.dumps(body).encode(), stall_timeout_s=5.0)


async def serve(engine: FakeEngine, wanted: Call, clock: VirtualClock) -> tuple[int, int, bytes]:
    """When the head came and the end, and the body."""
    reply = await engine.generate(wanted)
    first_ns = clock.now_ns()
    body = await reply.read_all(1 << 20)
    return first_ns, clock.now_ns(), body


def test_prefill_tokens_and_neighbours_take_their_time() -> None:
    timings = FakeTimings(prefill_ns_per_token=10, token_ns=1000, neighbour_ns=7)

    async def main(clock: VirtualClock) -> None:
        engine = FakeEngine(FakeScript(timings))
        assert (await serve(engine, call(3), clock))[:2] == (1040, 3040)
        together = [serve(engine, call(2), clock) for _ in range(2)]
        start_ns = clock.now_ns()
        times = [(f - start_ns, e - start_ns) for f, e, _ in await asyncio.gather(*together)]
        # The second found the first running; from then on both have a neighbour, until
        # the first is done.
        assert times == [(1040, 2047), (1047, 2054)]
        assert engine.finished == 3
        assert engine.running_max == 2

    run_virtual(main)


def test_places_and_the_line_behind_them() -> None:
    async def main(clock: VirtualClock) -> None:
        engine = FakeEngine(FakeScript(FakeTimings(token_ns=MS), places=2))
        work = [asyncio.ensure_future(serve(engine, call(2), clock)) for _ in range(5)]
        await asyncio.sleep(0.0005)
        metrics = await engine.metrics()
        assert metrics is not None
        assert (metrics.running, metrics.waiting) == (2, 3)
        ends = [end_ns // MS for _, end_ns, _ in await asyncio.gather(*work)]
        assert ends == [2, 2, 4, 4, 6]

    run_virtual(main)


def test_an_abort_frees_the_place_at_the_same_instant() -> None:
    async def main(clock: VirtualClock) -> None:
        engine = FakeEngine(FakeScript(places=1))
        reply = await engine.generate(call(1000))
        waiting = asyncio.ensure_future(serve(engine, call(1), clock))
        await asyncio.sleep(0)
        await reply.close()
        assert (await waiting)[1] == 2 * MS
        assert engine.aborted == 1

    run_virtual(main)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(FaultKind.CRASH, after_tokens=2), FailureKind.CRASHED),
        (Fault(FaultKind.CUT, after_tokens=2), FailureKind.CRASHED),
        (Fault(FaultKind.HANG, after_tokens=2), FailureKind.STALLED),
    ],
)
def test_faults_break_streams_where_told(fault: Fault, code: FailureKind) -> None:
    script = FakeScript(fault=lambda number, _: fault if number == 2 else None)

    async def main(clock: VirtualClock) -> None:
        engine = FakeEngine(script)
        assert (await serve(engine, call(3), clock))[2].endswith(b"[DONE]\n\n")
        reply = await engine.generate(call(9))
        body = await reply.read() + await reply.read()
        assert body.count(b"data:") == 2
        with pytest.raises(EngineError) as caught:
            await reply.read()
        assert caught.value.code == code
        assert await engine.health() is (fault.kind is FaultKind.CUT)
        if fault.kind is FaultKind.CRASH:
            assert "fault" in await engine.wait_closed()

    run_virtual(main)


def test_garbage_and_error_statuses() -> None:
    faults = {1: Fault(FaultKind.GARBAGE), 2: Fault(FaultKind.STATUS, status=429)}

    async def main(clock: VirtualClock) -> None:
        engine = FakeEngine(FakeScript(fault=lambda number, _: faults.get(number)))
        reply = await engine.generate(call())
        assert reply.status == 200
        assert not (await reply.read_all(999)).startswith(b"data:")
        reply = await engine.generate(call())
        assert reply.status == 429
        assert b"error" in await reply.read_all(999)
        assert (await engine.generate(Call(COMPLETIONS, b"no json"))).status == 400

    run_virtual(main)


def test_thawing_goes_on_where_it_stopped() -> None:
    async def main(clock: VirtualClock) -> None:
        engine = FakeEngine()
        work = asyncio.ensure_future(serve(engine, call(3), clock))
        await asyncio.sleep(0.0015)
        engine.freeze()
        await asyncio.sleep(1.0)
        engine.thaw()
        _, end_ns, body = await work
        assert body.count(b'"text":" w') == 3
        assert end_ns >= SECOND

    run_virtual(main)


def test_what_it_says_has_the_shape_clients_know() -> None:
    async def main(clock: VirtualClock) -> None:
        engine = FakeEngine(FakeScript(output_tokens=lambda _: 2))
        _, _, body = await serve(
            engine, call(9, CHAT, stream_options={"include_usage": True}), clock
        )
        events = [json.loads(e[6:]) for e in body.decode().split("\n\n")[:-2]]
        assert [e["object"] for e in events] == ["chat.completion.chunk"] * 4
        assert events[0]["choices"][0]["delta"] == {"content": " w0"}
        assert events[2]["choices"][0]["finish_reason"] == "stop"
        assert events[3]["usage"]["completion_tokens"] == 2
        _, _, whole = await serve(engine, call(1, stream=False), clock)
        assert json.loads(whole)["choices"][0] == {
            "index": 0,
            "text": " w0",
            "logprobs": None,
            "finish_reason": "length",
        }
        _, _, vectors = await serve(engine, call(path=EMBEDDINGS, input=["a", "bb"]), clock)
        assert len(json.loads(vectors)["data"]) == 2

    run_virtual(main)


def test_loads_take_their_time_and_fail_as_told() -> None:
    async def main(clock: VirtualClock) -> None:
        told: list[tuple[int, float]] = []
        launcher = FakeLauncher(
            load=lambda number: FakeLoad(
                SECOND, steps=2, failure=FailureKind.OUT_OF_MEMORY if number == 2 else None
            )
        )
        await launcher.launch("r-1", lambda f: told.append((clock.now_ns(), f)))
        assert told == [(0, 0.0), (SECOND // 2, 0.5), (SECOND, 1.0)]
        with pytest.raises(EngineError) as caught:
            await launcher.launch("r-2", lambda _: None)
        assert caught.value.code == FailureKind.OUT_OF_MEMORY
        work = asyncio.ensure_future(launcher.launch("r-3", lambda _: None))
        await asyncio.sleep(0.1)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        assert launcher.cancelled == 1
        assert launcher.launches == ["r-1", "r-2", "r-3"]
        assert len(launcher.engines) == 1

    run_virtual(main)


def test_sleep_levels_give_memory_back() -> None:
    async def main(clock: VirtualClock) -> None:
        engine = FakeEngine(FakeScript(FakeTimings(sleep_ns=5 * MS, wake_ns=9 * MS)))
        awake = await engine.memory_bytes()
        await engine.sleep(1)
        assert await engine.memory_bytes() < awake
        assert (await engine.generate(call())).status == 503
        await engine.wake()
        assert clock.now_ns() == 14 * MS
        assert await engine.memory_bytes() == awake

    run_virtual(main)


def test_reading_a_body() -> None:
    asked = Asked.read(CHAT, b'{"messages":[{"content":"a"},{"content":"b"}],"stop":"x"}')
    assert asked.prompt_text == "a\nb"
    assert asked.stop == ("x",)
    assert asked.max_tokens is None
    with pytest.raises(ValueError, match="object"):
        Asked.read(CHAT, b"[]")


def test_an_answer_that_has_begun_in_the_prompt_goes_on() -> None:
    async def main(clock: VirtualClock) -> None:
        script = FakeScript(output_tokens=lambda _asked: 5)
        engine = FakeEngine(script)
        whole = (await serve(engine, call(9), clock))[2]
        rest = (await serve(engine, call(9, prompt="a b w0 w1 w2"), clock))[2]
        assert b"".join(whole.split(b"\n\n")[3:]).count(b" w") == rest.count(b" w") == 2
        assert b" w3" in rest
        assert b" w2" not in rest
        fresh = (await serve(engine, call(2, prompt="a b w0 w1 w2 c"), clock))[2]
        assert b" w0" in fresh

    run_virtual(main)
