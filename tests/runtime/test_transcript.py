"""What is kept of a stream, and how a later stream is joined to it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slalom.runtime.transcript import TEXT_BYTES_MAX, Transcript


def event(end: str = "\n\n", **fields: Any) -> bytes:
    return f"data: {json.dumps(fields)}{end}".encode()


def chat(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    return event(choices=[{"index": 0, "delta": delta, "finish_reason": finish}], **more)


def piece(text: str, finish: str | None = None, **more: Any) -> bytes:
    return event(choices=[{"index": 0, "text": text, "finish_reason": finish}], **more)


def kept(*events: bytes) -> Transcript:
    transcript = Transcript()
    for each in events:
        transcript.keep(each)
    return transcript


@given(st.lists(st.text(max_size=9), min_size=1), st.sampled_from(["\n\n", "\r\n\r\n"]))
def test_the_text_is_the_pieces(pieces: list[str], end: str) -> None:
    events = [event(end, choices=[{"index": 0, "text": text}]) for text in pieces]
    transcript = kept(*events)
    assert transcript.text == "".join(pieces)
    assert transcript.can_go_on()
    assert kept(b"".join(events)).text == transcript.text


def test_a_long_stream_is_read_on_the_way() -> None:
    transcript = kept(*[piece("word ")] * 5_000)
    assert transcript.text == "word " * 5_000
    assert "word" not in repr(transcript)


def test_a_text_beyond_bounds_is_given_up() -> None:
    transcript = kept(*[piece("x" * 10_000)] * (TEXT_BYTES_MAX // 10_000 + 1))
    assert not transcript.can_go_on()
    assert transcript.text == ""


@pytest.mark.parametrize(
    "last",
    [
        piece("", "stop"),
        b"data: [DONE]\n\n",
        chat({"tool_calls": [{"index": 0}]}),
        chat({"reasoning_content": "hm"}),
        event(choices=[{"index": 1, "text": "x"}]),
        b"data: {no json\n\n",
    ],
)
def test_what_is_no_plain_open_text_cannot_go_on(last: bytes) -> None:
    assert kept(piece("a")).can_go_on()
    assert not kept(piece("a"), last).can_go_on()


def test_the_later_stream_takes_the_first_ones_name() -> None:
    first = kept(piece("a", id="one", created=7))
    joined = first.splice(piece("b", id="two", created=9) + b"data: [DONE]\n\n", 5)
    assert (
        joined
        == piece("b", id="one", created=7)
        .replace(b": ", b":")
        .replace(b", ", b",")
        .replace(b"data:", b"data: ")
        + b"data: [DONE]\n\n"
    )


def test_a_second_role_is_left_out() -> None:
    first = kept(chat({"role": "assistant", "content": ""}), chat({"content": "a"}))
    opening = chat({"role": "assistant", "content": None}, id="two")
    assert first.splice(opening + chat({"content": "b"}), 5).count(b"data:") == 1
    both = first.splice(chat({"role": "assistant", "content": "b"}), 5)
    assert b'"delta":{"content":"b"}' in both


def test_usage_is_that_of_the_whole_answer() -> None:
    first = kept(piece("a"))
    usage = {"prompt_tokens": 25, "completion_tokens": 10, "total_tokens": 35}
    joined = first.splice(event(choices=[], usage=usage), 5)
    assert json.loads(joined.removeprefix(b"data: "))["usage"] == {
        "prompt_tokens": 20,
        "completion_tokens": 15,
        "total_tokens": 35,
    }


def test_comments_and_garbage_pass() -> None:
    first = kept(piece("a"))
    for odd in (b": waiting\n\n", b"data: {no json\n\n", b"data: [DONE]\n\n"):
        assert first.splice(odd, 5) == odd
