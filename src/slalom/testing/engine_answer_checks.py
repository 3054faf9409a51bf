"""The checks of the conformance kit that are about answers: streams, limits, aborts.

Owns what an engine must do with a call. Every check launches an engine of its own, stops it and
returns what it measured; `engine_life_checks` has the rest. Called through `check_engine`.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from slalom.engines.upstream_connection import BUFFER_BYTES_MAX
from slalom.errors import EngineError
from slalom.testing.engine_subject import NotApplicableError, Subject
from slalom.testing.engine_talk import (
    CHAT,
    COMPLETIONS,
    LONG_TOKENS,
    ask,
    begin_long,
    call,
    gauges,
    read_answer,
    running,
    until,
)

#: Silence after which a check takes a frozen engine for stalled, seconds.
_STALL_S = 1.0
#: Length of an answer that is not read for a while.
_UNREAD_TOKENS = 600


async def _stream(subject: Subject) -> str:
    """Both endpoints stream events as they come, and end them properly."""
    async with running(subject) as engine:
        for path in (COMPLETIONS, CHAT):
            reply = await engine.generate(
                call(engine, path, stream=True, max_tokens=64, ignore_eos=True)
            )
            assert reply.content_type.startswith("text/event-stream"), reply.content_type
            answer = await read_answer(reply)
            assert answer.status == 200, f"{path}: status {answer.status}"
            assert answer.text, f"{path}: no text"
            assert answer.finish, f"{path}: no finish_reason"
    return f"{answer.reads} reads"


async def _whole(subject: Subject) -> str:
    """Both endpoints answer in one piece when not asked to stream."""
    async with running(subject) as engine:
        for path in (COMPLETIONS, CHAT):
            answer = await ask(engine, path, max_tokens=8, ignore_eos=True)
            assert answer.status == 200, f"{path}: status {answer.status}"
            assert answer.text, f"{path}: no text"
            assert answer.document is not None, f"{path}: streamed without being asked"
    return ""


async def _max_tokens(subject: Subject) -> str:
    """`max_tokens` is obeyed to the token."""
    async with running(subject) as engine:
        answer = await ask(engine, max_tokens=7, ignore_eos=True)
    assert answer.usage is not None, "no usage"
    assert answer.usage["completion_tokens"] == 7, f"7 were allowed: {answer.usage}"
    assert answer.finish == "length", f"finish_reason {answer.finish!r}"
    return ""


async def _usage(subject: Subject) -> str:
    """Usage is told, also in a stream that asks for it, and adds up."""
    async with running(subject) as engine:
        whole = await ask(engine, max_tokens=5, ignore_eos=True)
        options = {"include_usage": True}
        streamed = await ask(
            engine, max_tokens=5, ignore_eos=True, stream=True, stream_options=options
        )
    for answer in (whole, streamed):
        usage = answer.usage
        assert usage is not None, "no usage"
        assert usage["prompt_tokens"] > 0, f"{usage}"
        total = usage["prompt_tokens"] + usage["completion_tokens"]
        assert usage["total_tokens"] == total, f"does not add up: {usage}"
    return ""


async def _stop_words(subject: Subject) -> str:
    """A stop word ends the answer and does not appear in it."""
    async with running(subject) as engine:
        free = await ask(engine, max_tokens=24, ignore_eos=True)
        middle = len(free.text) // 2
        word = free.text[middle : middle + 2]
        assert word, "the answer has no text to take a stop word from"
        cut = await ask(engine, max_tokens=24, ignore_eos=True, stop=[word])
    assert word not in cut.text, "the stop word is in the answer"
    assert len(cut.text) < len(free.text), "the answer did not become shorter"
    assert free.text.startswith(cut.text), "the answer differs before the stop word"
    assert cut.finish == "stop", f"finish_reason {cut.finish!r}"
    return ""


async def _all_places(subject: Subject) -> str:
    """As many streams as it has places run at the same time, each with its own answer."""
    async with running(subject) as engine:
        replies = await asyncio.gather(*(begin_long(engine) for _ in range(subject.places)))
        metrics = await engine.metrics()
        if metrics is not None:
            assert metrics.running == subject.places, f"running {metrics.running}"
        for reply in replies:
            await reply.close()
    return f"{subject.places} streams"


async def _cancel(subject: Subject) -> str:
    """Closing a stream frees the engine's place at once: its own gauges say so."""
    async with running(subject) as engine:
        reply = await begin_long(engine)
        metrics = await gauges(engine)
        assert metrics.running == 1, f"running {metrics.running} instead of 1"
        await reply.close()

        async def is_free() -> bool:
            return (await gauges(engine)).running == 0

        seconds = await until(is_free, "the engine's place is free after the stream was closed")
        generated = (await gauges(engine)).generated_tokens
        assert generated < LONG_TOKENS, "the engine finished the work nobody waits for"
        with contextlib.suppress(EngineError):
            assert not await reply.read(), "a closed reply still gives bytes"
        answer = await ask(engine, max_tokens=4)
        assert answer.status == 200, "the engine does not work after an abort"
    return f"free after {seconds * 1000:.0f} ms"


async def _cancel_before_head(subject: Subject) -> str:
    """Giving up before the answer begins frees what it held, too."""
    async with running(subject) as engine:
        fill = [await begin_long(engine) for _ in range(subject.places)]
        waiting = asyncio.ensure_future(begin_long(engine))

        async def is_queued() -> bool:
            metrics = await gauges(engine)
            return metrics.running + metrics.waiting > subject.places

        await until(is_queued, "one request more than places waits inside the engine")
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        for reply in fill:
            await reply.close()

        async def is_empty() -> bool:
            metrics = await gauges(engine)
            return metrics.running + metrics.waiting == 0

        await until(is_empty, "the engine is empty")
    return ""


async def _slow_reader(subject: Subject) -> str:
    """A stream nobody reads takes bounded memory and holds up nobody else."""
    async with running(subject) as engine:
        slow = await begin_long(engine, tokens=_UNREAD_TOKENS)
        for _ in range(3):
            answer = await ask(engine, max_tokens=32, ignore_eos=True, stream=True)
            assert answer.status == 200, f"status {answer.status}"
        buffered = int(getattr(slow, "buffered_bytes", 0))
        if subject.over_http:
            assert buffered <= 4 * BUFFER_BYTES_MAX, f"{buffered} bytes are buffered"
        size = 0
        while piece := await slow.read():
            size += len(piece)
        assert size > _UNREAD_TOKENS, "the slow stream is not complete"
    return f"{buffered >> 10} KiB were buffered"


async def _embeddings(subject: Subject) -> str:
    """Where it makes embeddings, there is one vector per input, all of one width."""
    async with running(subject) as engine:
        if not engine.capabilities.embeddings:
            raise NotApplicableError("the engine makes no embeddings")
        answer = await ask(engine, "/v1/embeddings", input=["one", "two words"])
        assert answer.status == 200, f"status {answer.status}"
        assert answer.document is not None
        vectors = [row["embedding"] for row in answer.document["data"]]
        assert len(vectors) == 2, f"{len(vectors)} vectors for 2 inputs"
        assert len(vectors[0]) == len(vectors[1]) > 0, "the vectors differ in width"
        assert vectors[0] != vectors[1], "different inputs give the same vector"
    return f"width {len(vectors[0])}"


async def _fill_in_the_middle(subject: Subject) -> str:
    """Where it knows fill-in-the-middle, its template makes a prompt it accepts."""
    async with running(subject) as engine:
        if engine.capabilities.fim is None:
            raise NotApplicableError("the model has no fill-in-the-middle tokens")
        prompt = engine.capabilities.fim.render("def add(a, b):\n    ", "\n    return total\n")
        answer = await ask(engine, prompt=prompt, max_tokens=8)
        assert answer.status == 200, f"status {answer.status}"
    return ""


async def _bad_body(subject: Subject) -> str:
    """A body it cannot read is refused as the caller's mistake, and harms nothing."""
    async with running(subject) as engine:
        answer = await ask(engine, prompt={"not": "a prompt"}, max_tokens="many")
        assert 400 <= answer.status < 600, f"status {answer.status}"
        assert answer.document is not None
        assert "error" in answer.document, "an error without an error object"
        assert await engine.health(), "the engine did not survive a bad body"
    return f"status {answer.status}"


#: The checks of answers by their names, in the order of a report.
ANSWER_CHECKS: dict[str, Callable[[Subject], Awaitable[str]]] = {
    "stream": _stream,
    "whole": _whole,
    "max_tokens": _max_tokens,
    "usage": _usage,
    "stop_words": _stop_words,
    "all_places": _all_places,
    "cancel": _cancel,
    "cancel_before_head": _cancel_before_head,
    "slow_reader": _slow_reader,
    "embeddings": _embeddings,
    "fill_in_the_middle": _fill_in_the_middle,
    "bad_body": _bad_body,
}
