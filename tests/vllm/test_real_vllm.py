"""Real vLLM on the CPU behind Slalom: opt-in (`make test-vllm`), minutes long.

One server for all of it, because a start takes most of the time; the tests go in the order in which
they stand, and the last ones kill vLLM and end the server.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.vllm.figures import Figures, machine, rates, side_by_side
from tests.vllm.model_folder import write_folder
from tests.vllm.server import (
    DOUBTING,
    MODEL,
    PLACES,
    SOURCE,
    SURE,
    TWIN,
    RealServer,
    completion,
    configuration,
    real_server,
    with_a_twin,
)

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(3600),
    pytest.mark.asyncio(loop_scope="module"),
]

#: More tokens than anybody waits for, in the context of the model.
LONG = 1900


@pytest.fixture(scope="module")
def figures() -> Iterator[Figures]:
    """What is measured on the way, told at the end."""
    kept = Figures()
    yield kept
    kept.tell()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(
    tmp_path_factory: pytest.TempPathFactory, vllm_python: Path, figures: Figures
) -> AsyncIterator[RealServer]:
    """A server whose vLLM has answered once."""
    place = tmp_path_factory.mktemp("real-vllm")
    folder = write_folder(SOURCE, place / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(place / "state"))
        async with real_server(place, with_a_twin(configuration(vllm_python, folder))) as made:
            began = time.monotonic()
            status, told, headers = await made.post("/v1/completions", completion(8, logprobs=1))
            waited = time.monotonic() - began
            assert status == 200, told
            assert headers["x-slalom-model"] == MODEL
            version = (await made.told("/version", url=made.engine_url))["version"]
            figures.add("vLLM", f"{version} for the CPU, {machine()}")
            figures.add("from nothing to its first answer, s", f"{waited:.1f}")
            yield made


async def test_it_tells_probabilities_and_times(server: RealServer) -> None:
    _, told, _ = await server.post("/v1/completions", completion(8, logprobs=1))
    assert told["usage"]["completion_tokens"] == 8
    assert len(told["choices"][0]["logprobs"]["token_logprobs"]) == 8
    assert told["metrics"]["time_to_first_token_ms"] > 0, "--enable-per-request-metrics"


async def test_its_memory_is_measured(server: RealServer, figures: Figures) -> None:
    details = (await server.told(f"/v1/models/{MODEL}"))["slalom"]
    measured = int(details["replicas"][0]["measured_bytes"]) >> 20
    assert 500 < measured < 8192, "all of its processes, each page once"
    figures.add("its memory, MiB", str(measured))


async def test_a_stream_ends_with_its_usage_and_was_predicted(server: RealServer) -> None:
    async with server.streaming(16) as reply:
        headers, text = reply.headers, (await reply.read()).decode()
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    assert text.endswith("data: [DONE]\n\n")
    usage = events[-1]["usage"]
    assert usage["completion_tokens"] == 16
    assert usage["prompt_tokens_details"] is not None, "--enable-prompt-tokens-details"
    assert float(headers["x-slalom-predicted-e2e-ms"]) > 0
    assert float(headers["x-slalom-predicted-ttft-ms"]) > 0


async def test_it_chats(server: RealServer) -> None:
    messages = [{"role": "user", "content": "hello"}]
    body = {"model": MODEL, "messages": messages, "max_tokens": 4, "temperature": 0}
    status, told, _ = await server.post("/v1/chat/completions", body)
    assert status == 200, told
    assert told["choices"][0]["message"]["content"]


async def test_it_fills_in(server: RealServer) -> None:
    body = {**completion(8), "prompt": "def area(w, h):\n    return ", "suffix": "\n\n\nprint(1)\n"}
    status, told, headers = await server.post("/v1/completions", body)
    assert status == 200, told
    assert headers["x-slalom-task"].startswith("completion"), "its folder says how it fills in"


async def test_its_gauges_are_read(server: RealServer) -> None:
    before = await server.gauges()
    await server.post("/v1/completions", completion(32))
    after = await server.gauges()
    assert after.generated_tokens - before.generated_tokens == 32
    assert (after.running, after.waiting) == (0, 0)
    assert 0 <= after.kv_used < 1


async def test_a_client_that_leaves_frees_its_place(server: RealServer, figures: Figures) -> None:
    before = (await server.gauges()).generated_tokens
    async with server.streaming(LONG) as reply:
        await reply.content.readany()
        assert (await server.gauges()).running == 1
        reply.close()
        left = time.monotonic()

    async def idle() -> bool:
        return (await server.gauges()).running == 0

    await server.until(idle, "vLLM has stopped writing", seconds=30)
    figures.add("a client leaves; its place is free after, s", f"{time.monotonic() - left:.2f}")
    assert (await server.gauges()).generated_tokens - before < LONG


async def test_the_smaller_priority_is_first(server: RealServer, figures: Figures) -> None:
    """Asked directly, with more than it has places: it takes the urgent one before the others."""
    done: list[str] = []

    async def ask(name: str, tokens: int, priority: int) -> None:
        body = completion(tokens, priority=priority)
        status, told, _ = await server.post("/v1/completions", body, url=server.engine_url)
        assert status == 200, told
        done.append(name)

    async def fill() -> None:
        while True:
            await ask("filler", LONG, 0)

    # Twice as many as there are places, and ahead of all: no place comes free for the others.
    fillers = [asyncio.ensure_future(fill()) for _ in range(2 * PLACES)]
    waiting: list[asyncio.Future[None]] = []

    async def all_wait() -> bool:
        seen = await server.gauges()
        return seen.running == PLACES and seen.waiting >= PLACES + len(waiting)

    await server.until(all_wait, "vLLM is full", seconds=60)
    waiting += [asyncio.ensure_future(ask(f"late-{n}", 40, 50)) for n in range(6)]
    await server.until(all_wait, "six wait", seconds=60)
    waiting.append(asyncio.ensure_future(ask("urgent", 40, 1)))
    await server.until(all_wait, "and the urgent one", seconds=60)
    for filler in fillers:
        filler.cancel()
    await asyncio.gather(*fillers, return_exceptions=True)
    await asyncio.gather(*waiting)
    place = [name for name in done if name != "filler"].index("urgent")
    figures.add("seven wait, the last to come is urgent; it ends as number", str(place + 1))
    assert place < PLACES, f"among the first that found a place: {done}"


async def test_its_answers_can_be_judged(server: RealServer) -> None:
    """VLLM's log-probabilities reach the gate of an alias, streamed and not, and no client."""
    await server.post("/v1/completions", completion(1, model=TWIN))
    for name, judged, model in (
        (SURE, "trusted", MODEL),
        (DOUBTING, f"unsure; taken over from {MODEL}", TWIN),
    ):
        status, told, headers = await server.post("/v1/completions", completion(8, model=name))
        assert status == 200, told
        assert (headers["x-slalom-judged"], headers["x-slalom-model"]) == (judged, model)
        assert not told["choices"][0]["logprobs"]
        async with server.streaming(8, model=name) as reply:
            text = (await reply.read()).decode()
        assert (reply.headers["x-slalom-judged"], reply.headers["x-slalom-model"]) == (
            judged,
            model,
        )
        assert '"token_logprobs"' not in text


async def test_it_says_what_llama_cpp_says(server: RealServer, figures: Figures) -> None:
    """Until rounding parts them: the same weights, computed in other number formats."""
    _, ours, _ = await server.post("/v1/completions", completion(24))
    _, theirs, _ = await server.post("/v1/completions", completion(24, model=TWIN))
    pair = ours["choices"][0]["text"], theirs["choices"][0]["text"]
    same = next((at for at, two in enumerate(zip(*pair, strict=False)) if len({*two}) > 1), None)
    agreed = min(map(len, pair)) if same is None else same
    assert agreed >= 4, pair
    figures.add("characters of 24 tokens that llama.cpp writes too", f"{agreed} of {len(pair[0])}")


async def test_what_slalom_adds(server: RealServer, figures: Figures) -> None:
    await side_by_side(server, figures)
    await rates(server, figures)


async def test_it_comes_back_after_a_kill(server: RealServer, figures: Figures) -> None:
    old = server.processes()
    assert old
    for process in old:
        process.kill()
    began = time.monotonic()

    async def noticed() -> bool:
        return await server.live.state(MODEL) != "ready"

    await server.until(noticed, "the end of vLLM is noticed", seconds=60)
    status, told, _ = await server.post("/v1/completions", completion(4))
    assert status == 200, told
    figures.add("killed; answers again after, s", f"{time.monotonic() - began:.1f}")
    figures.add("at the end", machine())
    assert not {process.pid for process in old} & {one.pid for one in server.processes()}


async def test_nothing_outlives_the_server(server: RealServer) -> None:
    everything = server.processes()
    assert len(everything) > 1, "the one that listens and the one that computes"
    server.live.terminate()
    assert await asyncio.to_thread(server.live.wait, 60) == 0

    async def gone() -> bool:
        return not any(process.is_running() for process in everything)

    await server.until(gone, "vLLM's processes are gone", seconds=30)
