"""Any body whatsoever becomes work or a clear refusal, never a surprise."""

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slalom.engines.protocol import Capabilities
from slalom.errors import RequestError
from slalom.gateway import upstream_call
from slalom.gateway.params import GatewayParams, ServedModel
from slalom.gateway.preparation import Arrival, Work, prepare
from slalom.gateway.request_head import read_head
from slalom.gateway.shared import Shared
from slalom.models.fim import FimTemplate
from slalom.runtime.sink import Terms

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"


class Engine:
    model_name = "engine-name"
    capabilities = Capabilities(embeddings=True, fim=FimTemplate("<P>", "<S>", "<M>"))


class Runtime:
    """Only what preparing asks for."""

    def __init__(self) -> None:
        self.on_end: list[Any] = []

    def capabilities(self, model_id: str) -> Capabilities:
        return Engine.capabilities

    def snapshot(self) -> Any:
        raise AssertionError("nobody asks here")


SHARED = Shared(Runtime(), GatewayParams((ServedModel("a"), ServedModel("b"))))  # type: ignore[arg-type]


def work(body: Any, path: str = CHAT, headers: dict[str, str] | None = None) -> Work:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    head = read_head(lines, SHARED.watched_headers)
    return prepare(SHARED, Arrival("r-1", path, head, None, 1), raw)


def sent(prepared: Work, terms: Terms | None = None) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        prepared.outgoing.call(Engine(), terms or Terms()).body  # type: ignore[arg-type]
    )
    return document


MESSAGES = [{"role": "user", "content": "x" * 350}]

NAMES = st.sampled_from(
    [
        *("model", "messages", "prompt", "suffix", "input", "stream", "stop", "n", "tools"),
        *("max_tokens", "max_completion_tokens", "n_predict", "metadata", "stream_options"),
        *("t_max_prompt_ms", "t_max_predict_ms", "priority", "service_tier", "temperature"),
        *("input_extra", "filename", "repository"),
    ]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.just("a"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "text", "task", "filename"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)
START: dict[str, dict[str, Any]] = {
    CHAT: {"model": "a", "messages": MESSAGES},
    COMPLETIONS: {"model": "a", "prompt": "x"},
    EMBEDDINGS: {"model": "a", "input": "x"},
}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(START)), st.dictionaries(NAMES, VALUES, max_size=4))
@example(CHAT, {"suffix": "x"})
@example(CHAT, {"messages": [{"role": "user", "content": [None, {"text": 5}, {"text": "y"}]}]})
@example(COMPLETIONS, {"prompt": [[[1]], ["x"]]})
@example(COMPLETIONS, {"n": 2**31 - 1, "max_tokens": 2**31 - 1})
@example(CHAT, {"t_max_prompt_ms": 1e300, "t_max_predict_ms": 10**400})
@example(EMBEDDINGS, {"suffix": "x", "stream": 1, "max_tokens": "x"})
def test_any_body_is_work_or_a_refusal(path: str, changes: dict[str, Any]) -> None:
    try:
        prepared = work({**START[path], **changes}, path)
    except RequestError:
        return
    request = prepared.request
    msgspec.json.encode(request)  # what the journal does with it
    for count in (request.max_tokens, request.prompt_tokens, request.predicted_tokens):
        assert 0 <= count < 2**63
    for limit in (request.sla.ttft_ns, request.sla.tpot_ns, request.sla.e2e_ns):
        assert limit is None or 0 < limit < 2**62
    assert sent(prepared)["model"] == "engine-name"


@given(st.binary(max_size=40))
@example(b'{"model":"a","messages":[{"role":"user","content":"\\ud800"}]}')
@example(b'{"model":"a","messages":[{"role":"user"}],"x":1e999}')
def test_any_bytes_are_work_or_a_refusal(raw: bytes) -> None:
    with suppress(RequestError):
        sent(work(raw))


@pytest.mark.parametrize("depth", [50, 300, 450, 490, 495, 499, 900, 5_000])
@pytest.mark.parametrize("field", ["x", "tools", "messages", "prompt", "metadata"])
def test_no_depth_is_a_surprise(depth: int, field: str) -> None:
    deep = b"[" * depth + b"]" * depth
    raw = b'{"model": "a", "prompt": "x", "%s": %s}' % (field.encode(), deep)
    codes: set[str] = set()
    try:
        sent(work(raw, COMPLETIONS))
    except RequestError as problem:
        codes.add(problem.code)
    assert codes <= {"invalid_json", "invalid_request"}


def test_a_limit_is_set_where_the_client_names_none() -> None:
    for given_limit, expected in [
        ({}, {"max_tokens": 512}),
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({"max_completion_tokens": 9}, {"max_completion_tokens": 9}),
        ({"n_predict": 11}, {"n_predict": 11}),
        ({"n_predict": -1}, {"n_predict": 512, "max_tokens": 512}),
    ]:
        prepared = work({**START[CHAT], **given_limit})
        body = sent(prepared)
        names = ("max_tokens", "max_completion_tokens", "n_predict")
        assert {name: body[name] for name in names if name in body} == expected
        assert prepared.request.max_tokens == next(iter(expected.values()))


def test_every_choice_counts() -> None:
    assert work({**START[CHAT], "n": 3, "max_tokens": 5}).request.max_tokens == 15


def test_usage_is_asked_for_and_hidden_again() -> None:
    quiet = work({**START[CHAT], "stream": True, "stream_options": {"x": 1}})
    assert sent(quiet)["stream_options"] == {"x": 1, "include_usage": True}
    assert quiet.strip_usage
    wanted = work({**START[CHAT], "stream": True, "stream_options": {"include_usage": True}})
    assert not wanted.strip_usage
    assert "stream_options" not in sent(work(START[CHAT]))


def test_a_body_that_needs_no_change_goes_on_as_it_came() -> None:
    raw = b'{ "model":"engine-name" , "messages":[{"role":"user"}],"max_tokens":5 }'
    models = GatewayParams((ServedModel("engine-name"),))
    shared = Shared(Runtime(), models)  # type: ignore[arg-type]
    prepared = prepare(shared, Arrival("r", CHAT, read_head([], frozenset()), None, 1), raw)
    assert prepared.outgoing.call(Engine(), Terms()).body is raw  # type: ignore[arg-type]


def test_suffix_means_infill_only_where_the_api_has_it() -> None:
    infill = work({**START[COMPLETIONS], "suffix": "y"}, COMPLETIONS)
    assert sent(infill)["prompt"] == "<P>x<S>y<M>"
    assert infill.request.task == "completion-multiline"
    assert work({**START[CHAT], "suffix": "y"}).request.task == "generation"
    marked = work({"model": "a", "prompt": "<P>x<S>y<M>", "max_tokens": 8}, COMPLETIONS)
    assert marked.request.task == "completion"


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"prompt": "x" * 350}, 101),
        ({"prompt": "é" * 350}, 201),
        ({"prompt": "x" * 35, "suffix": "y" * 35}, 22),
        ({"prompt": [1, 2, 3]}, 3),
        ({"prompt": ["x" * 35, "y" * 35]}, 22),
        ({"input": "x" * 350}, 101),
        ({"messages": MESSAGES}, 105),
        ({"messages": [{"content": [{"text": "x" * 350}, {"image_url": "y" * 9999}]}]}, 105),
        ({"messages": [{"content": None}]}, 4),
    ],
)
def test_the_estimate_of_a_prompt(body: dict[str, Any], tokens: int) -> None:
    assert upstream_call.prompt_tokens(body, chat="messages" in body) == tokens


def test_the_scheduler_knows_who_sees_the_answer_grow() -> None:
    body = {"model": "a", "messages": MESSAGES}
    assert work({**body, "stream": True}).request.streamed
    assert not work(body).request.streamed
    assert not work({"model": "a", "input": "x"}, EMBEDDINGS).request.streamed
