"""The completion cache: whose answers, to which questions, how many; as a table and over HTTP."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slalom.gateway.completion_cache import ENTRY_BYTES, CompletionCache, Question, Rest, question
from slalom.gateway.params import GatewayParams, KeyEntry, ServedModel
from slalom.testing import FakeLauncher, FakeScript
from tests.gateway.house import House, house

PROMPT = "def add(left, right):\n    return left + right\n\n" * 5
TASK = {"x-slalom-task": "completion"}
PATH = "/v1/completions"


def asked(before: str, scope: bytes = b"mine") -> Question:
    return Question(scope, before)


def test_what_was_suggested_can_be_typed_letter_by_letter() -> None:
    cache = CompletionCache(1 << 20)
    cache.learn(asked("x = "), Rest("foo(bar)", "stop"))
    for typed in range(1, 8):
        rest = cache.find(asked("x = " + "foo(bar)"[:typed]))
        assert rest == Rest("foo(bar)"[typed:], "stop")
    assert (cache.hits, cache.misses) == (7, 0)


@pytest.mark.parametrize(
    ("before", "scope"),
    [
        ("x = ", b"mine"),  # nothing typed: asking again is asking for another answer
        ("x = foo(bar)", b"mine"),  # all typed: what comes now, nobody has said
        ("x = fool", b"mine"),
        ("y = fo", b"mine"),
        ("x = fo", b"theirs"),
        ("x =", b"mine"),
    ],
)
def test_anything_else_asks_an_engine(before: str, scope: bytes) -> None:
    cache = CompletionCache(1 << 20)
    cache.learn(asked("x = "), Rest("foo(bar)", "stop"))
    assert cache.find(asked(before, scope)) is None
    assert (cache.hits, cache.misses) == (0, 1)


def test_of_an_answer_that_was_cut_a_half_must_be_left() -> None:
    cache = CompletionCache(1 << 20)
    cache.learn(asked("x"), Rest("12345678", "length"))
    assert cache.find(asked("x1234")) == Rest("5678", "length")
    assert cache.find(asked("x12345")) is None


def test_the_newest_answer_counts() -> None:
    cache = CompletionCache(1 << 20)
    cache.learn(asked("x"), Rest("abcd", "stop"))
    cache.learn(asked("xa"), Rest("bXYZ", "stop"))
    assert cache.find(asked("xab")) == Rest("XYZ", "stop")


def test_what_is_kept_is_bounded_in_bytes_and_the_oldest_go() -> None:
    cache = CompletionCache(4 * (ENTRY_BYTES + 10))
    for number in range(50):
        cache.learn(asked("x", b"%d" % number), Rest("0123456789", "stop"))
        assert cache.bytes_held <= cache.bytes_max
    assert cache.bytes_held == 4 * (ENTRY_BYTES + 10)
    assert cache.find(asked("x0", b"45")) is None
    assert cache.find(asked("x0", b"49")) is not None
    for number in range(50):  # of one place, not all either
        cache.learn(asked("y" * number, b"49"), Rest("0123456789", "stop"))
    assert sum(map(len, cache._scopes.values())) <= 4


def test_nothing_is_kept_that_is_no_answer_or_too_large() -> None:
    cache = CompletionCache(1 << 20)
    cache.learn(asked("x"), None)
    cache.learn(asked("x"), Rest("", "stop"))
    cache.learn(asked("x"), Rest("y" * (1 << 20), "stop"))
    assert cache.bytes_held == 0
    off = CompletionCache(0)
    off.learn(asked("x"), Rest("y", "stop"))
    assert off.bytes_held == 0


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.text("xy", max_size=6), st.text("xy", max_size=6)))
)
def test_an_answer_is_always_a_rest_of_what_was_said_there(
    told: list[tuple[str, str, str]],
) -> None:
    cache = CompletionCache(6 * (ENTRY_BYTES + 4))
    said: set[tuple[str, str]] = set()
    for scope, before, text in told:
        found = cache.find(asked(before, scope.encode()))
        if found is not None:
            assert found.text
            assert (scope, before + found.text) in said
        cache.learn(asked(before, scope.encode()), Rest(text, "stop"))
        said.add((scope, before + text))
        assert 0 <= cache.bytes_held <= cache.bytes_max


def scope_of(body: dict[str, Any], headers: dict[str, str] | None = None) -> bytes | None:
    fields = {"model": "a", "prompt": "x", "temperature": 0, **body}
    found = question(fields, headers or {}, ("key", "", "a"), ("x", "after"))
    return found.scope if found else None


def test_only_one_sure_answer_is_kept() -> None:
    assert scope_of({}) is not None
    assert scope_of({"n": 1, "echo": False, "logprobs": None, "temperature": 0.0}) is not None
    for more in ({"n": 2}, {"echo": True}, {"logprobs": 0}, {"logprobs": 3}, {"n_probs": 5}):
        assert scope_of(more) is None
    assert scope_of({"temperature": 0.2}) is None
    assert scope_of({"temperature": None}) is None
    assert scope_of({"temperature": 0.2}, {"x-slalom-cache": "allow"}) is not None
    assert scope_of({}, {"x-slalom-cache": "off"}) is None


def test_other_sampling_is_another_question_and_streaming_is_not() -> None:
    plain = scope_of({})
    assert scope_of({"stream": True, "stream_options": {"include_usage": True}}) == plain
    for more in ({"stop": ["\n"]}, {"max_tokens": 9}, {"seed": 1}, {"grammar": "x"}, {"top_k": 1}):
        assert scope_of(more) not in (None, plain)
    other = question({"temperature": 0}, {}, ("other", "", "a"), ("x", "after"))
    assert other is not None
    assert other.scope != plain


def body(prompt: str, tokens: int = 6, **more: Any) -> dict[str, Any]:
    return {"model": "a", "prompt": prompt, "max_tokens": tokens, "temperature": 0, **more}


async def ask(
    at: House, prompt: str, headers: dict[str, str] | None = None, **more: Any
) -> tuple[str, bool]:
    """Text of a completion, and whether it was a hit."""
    sent = {**TASK, **(headers or {})}
    status, document, got = await at.post(PATH, body(prompt, **more), sent)
    assert status == 200, document
    return document["choices"][0]["text"], got.get("x-slalom-cache") == "hit"


async def ask_streamed(at: House, prompt: str, **more: Any) -> tuple[list[Any], bool]:
    """Events of a completion, and whether it was a hit."""
    async with at.http.post(
        f"{at.url}{PATH}", json=body(prompt, stream=True, **more), headers=TASK
    ) as reply:
        data = await reply.text()
        hit = reply.headers.get("x-slalom-cache") == "hit"
    lines = [line[6:] for line in data.split("\n") if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]], hit


def text_in(events: list[Any]) -> str:
    return "".join(choice["text"] for event in events for choice in event["choices"])


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_typed_of_a_suggestion_asks_no_engine(*, stream: bool) -> None:
    async with house() as at:
        if stream:
            events, hit = await ask_streamed(at, PROMPT)
            first = text_in(events)
        else:
            first, hit = await ask(at, PROMPT)
        assert (first, hit) == (" w0 w1 w2 w3 w4 w5", False)
        await at.until(lambda: len(at.ended) == 1)
        assert await ask(at, PROMPT + " w0") == (" w1 w2 w3 w4 w5", True)
        events, hit = await ask_streamed(at, PROMPT + " w0 w")
        assert (text_in(events), hit) == ("1 w2 w3 w4 w5", True)
        assert events[-1]["choices"][0]["finish_reason"] == "length"
        assert all("usage" not in event for event in events)
        assert len(at.ended) == 1  # the scheduler has heard of the first one only
        await at.until(lambda: len(at.gateway.records.latest(9)) == 3)
        assert [record.get("cache") for record in at.gateway.records.latest(9)] == [
            *("hit", "hit", None)
        ]


async def test_a_hit_tells_its_usage_where_that_is_asked_for() -> None:
    async with house() as at:
        await ask(at, PROMPT)
        events, hit = await ask_streamed(at, PROMPT + " ", stream_options={"include_usage": True})
        assert hit
        assert events[-1]["choices"] == []
        assert events[-1]["usage"]["total_tokens"] == 0  # nothing was computed


async def test_other_tasks_and_other_samplings_ask_an_engine() -> None:
    async with house() as at:
        await ask(at, PROMPT)
        typed = PROMPT + " w0"
        assert not (await ask(at, typed, {"x-slalom-task": "generation"}))[1]
        assert not (await ask(at, typed, max_tokens=7))[1]
        assert not (await ask(at, typed, temperature=0.7))[1]
        assert not (await ask(at, typed, {"x-slalom-cache": "off"}))[1]
        assert (await ask(at, typed))[1]


async def test_a_client_may_allow_it_at_any_temperature() -> None:
    allow = {"x-slalom-cache": "allow"}
    async with house() as at:
        await ask(at, PROMPT, allow, temperature=0.8)
        assert (await ask(at, PROMPT + " w0", allow, temperature=0.8))[1]
        assert not (await ask(at, PROMPT + " w0", temperature=0.8))[1]


async def test_no_key_gets_what_another_was_told() -> None:
    keys = tuple(
        KeyEntry(name, hashlib.sha256(name.encode()).digest()) for name in ("alice", "bob")
    )
    alice, bob = ({"authorization": f"Bearer {key.name}"} for key in keys)
    async with house(params=GatewayParams((ServedModel("a"),), keys=keys)) as at:
        await ask(at, PROMPT, alice)
        assert not (await ask(at, PROMPT + " w0", bob))[1]
        assert (await ask(at, PROMPT + " w0", alice))[1]


async def test_an_answer_that_broke_off_is_not_kept() -> None:
    async with house() as at:
        await ask(at, "short")
        url = f"{at.url}{PATH}"
        async with at.http.post(url, json=body(PROMPT, 4_000, stream=True), headers=TASK) as reply:
            await reply.content.readany()
        await at.until(lambda: len(at.ended) == 2)
        assert not (await ask(at, PROMPT + " w0", max_tokens=4_000, stop="w9"))[1]
        events, hit = await ask_streamed(at, PROMPT + " w0", tokens=5)
        assert (text_in(events), hit) == (" w1 w2 w3 w4 w5", False)


async def test_it_can_be_turned_off_and_counts_itself() -> None:
    off = GatewayParams((ServedModel("a"),), completion_cache_bytes=0)
    async with house(params=off) as at:
        await ask(at, PROMPT)
        assert not (await ask(at, PROMPT + " w0"))[1]
    async with house() as at:
        await ask(at, PROMPT)
        await ask(at, PROMPT + " w0")
        async with at.http.get(f"{at.url}/metrics") as reply:
            lines = (await reply.text()).splitlines()
        values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        assert float(values['slalom_completion_cache_requests_total{hit="true"}']) == 1
        assert float(values['slalom_completion_cache_requests_total{hit="false"}']) == 1
        assert float(values["slalom_completion_cache_bytes"]) > ENTRY_BYTES


async def test_the_gap_of_a_fill_in_the_middle_prompt_is_where_one_types() -> None:
    script = FakeScript()
    fim = script.capabilities.fim
    async with house({"a": FakeLauncher(script)}) as at:
        if fim is not None:
            await ask(at, fim.render(PROMPT, "}\n"))
            assert (await ask(at, fim.render(PROMPT + " w0", "}\n")))[1]
            assert not (await ask(at, fim.render(PROMPT + " w0", "}")))[1]
            await ask(at, PROMPT, suffix="}\n")
            assert (await ask(at, PROMPT + " w0", suffix="}\n"))[1]
