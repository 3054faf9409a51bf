"""The SSE watch: same answer however the bytes are cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slalom.runtime.stream_watch import PARTIAL_BYTES_MAX, BodyWatch, StreamWatch

ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":null}}]}\n\n'
TOKENS = [
    b'data: {"choices":[{"delta":{"content":"def "}}]}\n\n',
    'data: {"choices":[{"delta":{"content":"naïve ✓"}}]}\n\n'.encode(),
    b'data: {"choices":[{"delta":{"content":"\\n\\n\\"usage\\": {"}}]}\n\n',
]
FINAL = b'data: {"choices":[{"finish_reason":"stop","delta":{}}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3}}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = ROLE + b": a comment\n\n" + b"".join(TOKENS) + FINAL + USAGE + DONE


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(st.lists(st.integers(min_value=0), max_size=60), st.booleans())
def test_any_cut_gives_the_same_stream_and_the_same_facts(
    places: list[int],
    strip: bool,
) -> None:
    watch = StreamWatch(strip_usage=strip)
    out = b"".join(watch.feed(piece) for piece in cut(STREAM, places)) + watch.finish()
    assert out == (STREAM.replace(USAGE, b"") if strip else STREAM)
    assert watch.first_token
    assert watch.done
    assert not watch.error
    assert (watch.prompt_tokens, watch.output_tokens) == (9, 3)


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_bytes_that_are_no_events_pass_unchanged(pieces: list[bytes]) -> None:
    watch = StreamWatch(strip_usage=True)
    out = b"".join(watch.feed(piece) for piece in pieces) + watch.finish()
    joined = b"".join(pieces)
    assert out == joined or b'"usage"' in joined


def test_the_role_chunk_is_no_token_but_a_tool_call_is() -> None:
    watch = StreamWatch(strip_usage=False)
    watch.feed(ROLE)
    watch.feed(b'data: {"choices":[{"delta":{"content":""}}]}\n\n')
    assert not watch.first_token
    watch.feed(b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c"}]}}]}\n\n')
    assert watch.first_token


def test_tokens_are_counted_without_a_usage_chunk() -> None:
    watch = StreamWatch(strip_usage=False)
    for event in (ROLE, *TOKENS):
        watch.feed(event)
    assert watch.output_tokens == len(TOKENS)
    assert watch.prompt_tokens == -1


def test_null_usage_in_every_chunk_is_left_alone() -> None:
    event = b'data: {"choices":[{"text":"x"}],"usage":null}\n\n'
    watch = StreamWatch(strip_usage=True)
    assert watch.feed(event * 3) == event * 3
    assert watch.output_tokens == 3


def test_usage_on_a_chunk_with_choices_is_kept() -> None:
    event = (
        b'data: {"choices":[{"text":"x"}],"usage":{"prompt_tokens":4,"completion_tokens":1}}\n\n'
    )
    watch = StreamWatch(strip_usage=True)
    assert watch.feed(event) == event
    assert watch.prompt_tokens == 4


def test_line_ends_with_carriage_returns() -> None:
    stream = STREAM.replace(b"\n", b"\r\n")
    watch = StreamWatch(strip_usage=True)
    out = b"".join(watch.feed(stream[i : i + 7]) for i in range(0, len(stream), 7))
    assert out + watch.finish() == stream.replace(USAGE.replace(b"\n", b"\r\n"), b"")
    assert watch.output_tokens == 3


def test_an_error_event_is_seen_but_the_word_in_a_text_is_not() -> None:
    watch = StreamWatch(strip_usage=False)
    watch.feed(b'data: {"choices":[{"delta":{"content":"error: \\"error\\""}}]}\n\n')
    assert not watch.error
    watch.feed(b'data: {"error":{"message":"boom"}}\n\n')
    assert watch.error


def test_an_endless_event_does_not_fill_memory() -> None:
    watch = StreamWatch(strip_usage=True)
    sent = passed = 0
    for _ in range(64):
        piece = b"x" * 65_536
        sent += len(piece)
        passed += len(watch.feed(piece))
        assert sent - passed <= PARTIAL_BYTES_MAX
    assert passed + len(watch.finish()) == sent


@pytest.mark.parametrize(
    ("details", "cached"),
    [
        ('{"cached_tokens":300}', 300),
        ('{"cached_tokens":0,"audio_tokens":1}', 0),
        ('{"cached_tokens":null}', -1),
        ("null", -1),
        ("7", -1),
        ('{"cached_tokens":"many"}', -1),
    ],
)
def test_what_the_engine_had_read_before_is_told_if_it_says_so(details: str, cached: int) -> None:
    usage = f'{{"prompt_tokens":400,"completion_tokens":1,"prompt_tokens_details":{details}}}'
    watch = StreamWatch(strip_usage=True)
    assert watch.cached_tokens == -1
    watch.feed(f'data: {{"choices":[],"usage":{usage}}}\n\n'.encode())
    assert (watch.prompt_tokens, watch.cached_tokens) == (400, cached)
    body = BodyWatch()
    body.feed(f'{{"choices":[],"usage":{usage}}}'.encode())
    assert body.usage() == (400, 1, cached)


def test_usage_of_a_whole_body() -> None:
    watch = BodyWatch()
    watch.feed(b'{"choices":[{"text":"a"}],"usage":{"prompt_')
    watch.feed(b'tokens":5,"completion_tokens":2,"total_tokens":7}}')
    assert watch.usage() == (5, 2, -1)
    broken = BodyWatch()
    broken.feed(b"<html>")
    assert broken.usage() == (-1, 0, -1)
