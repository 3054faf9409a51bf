"""Which answers can be paused, and the call that goes on with one."""

from typing import Any

import pytest

from slalom.engines.protocol import Capabilities
from slalom.gateway.continuing import resumable
from slalom.models.fim import FimTemplate
from slalom.runtime.sink import Terms
from tests.gateway.test_preparation import COMPLETIONS, Engine, sent, work

PLAIN = Capabilities()
FIM = Capabilities(fim=FimTemplate("<P>", "<S>", "<M>"))
VLLM = Capabilities(
    continue_chat=(("add_generation_prompt", False), ("continue_final_message", True))
)
USER = {"role": "user", "content": "go"}


def may(
    capabilities: Capabilities = PLAIN, tokens: int = 64, *, chat: bool = False, **body: Any
) -> bool:
    asked = {"model": "a", "stream": True, **({"messages": [USER]} if chat else {"prompt": "x"})}
    return resumable({**asked, **body}, chat=chat, capabilities=capabilities, max_tokens=tokens)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"temperature": 0.7, "top_p": 0.9, "stop": ["\n"], "max_tokens": 9},
        {"n": 1, "best_of": 1, "echo": False, "logprobs": None, "presence_penalty": 0},
        {"response_format": {"type": "text"}, "seed": None},
        {"metadata": {}, "user": "u", "priority": 1, "session_id": "s"},
    ],
)
def test_a_plain_streamed_text_can_go_on(body: dict[str, Any]) -> None:
    assert may(**body)


@pytest.mark.parametrize(
    "body",
    [
        {"stream": False},
        {"n": 2},
        {"best_of": 3},
        {"echo": True},
        {"logprobs": 0},
        {"logprobs": 5},
        {"seed": 1},
        {"frequency_penalty": 0.5},
        {"presence_penalty": True},
        {"prompt": [1, 2, 3]},
        {"prompt": ["a", "b"]},
        {"suffix": "behind"},
        {"grammar": "root ::= x"},
        {"response_format": {"type": "json_object"}},
        {"some_field_of_tomorrow": 1},
    ],
)
def test_what_depends_on_more_than_the_text_cannot(body: dict[str, Any]) -> None:
    assert not may(**body)


def test_a_suffix_can_where_the_gap_is_ours_to_write() -> None:
    assert may(FIM, suffix="behind")


def test_an_answer_too_long_to_keep_cannot() -> None:
    assert not may(tokens=40_000)


def test_a_chat_can_where_the_engine_can() -> None:
    assert not may(chat=True)
    assert may(VLLM, chat=True)
    assert not may(VLLM, chat=True, tools=[])
    assert not may(VLLM, chat=True, messages=[USER, {"role": "assistant", "content": "So"}])


def body(**more: Any) -> dict[str, Any]:
    return {"model": "a", "prompt": "x", "max_tokens": 50, "stream": True, **more}


def test_the_request_says_so() -> None:
    assert work(body(), COMPLETIONS).request.resumable
    assert not work(body(seed=3), COMPLETIONS).request.resumable
    assert not work({"model": "a", "input": "x"}, "/v1/embeddings").request.resumable


def test_the_call_goes_on_behind_the_text_with_what_is_left() -> None:
    again = sent(work(body(), COMPLETIONS), Terms(resumed_text=" y z", resumed_tokens=2))
    assert (again["prompt"], again["max_tokens"]) == ("x y z", 48)
    clamped = Terms(max_tokens=10, resumed_text=" y z", resumed_tokens=2)
    assert sent(work(body(), COMPLETIONS), clamped)["max_tokens"] == 8
    assert sent(work(body(suffix="s"), COMPLETIONS), clamped)["prompt"] == "<P>x<S>s<M> y z"


def test_a_clamp_sets_whatever_field_the_client_used() -> None:
    for name in ("max_tokens", "max_completion_tokens", "n_predict"):
        fields = {"model": "a", "prompt": "x", name: 50}
        clamped = sent(work(fields, COMPLETIONS), Terms(max_tokens=7))
        assert clamped[name] == 7
        assert {"max_tokens", "max_completion_tokens", "n_predict"} & clamped.keys() == {name}
    assert sent(work(body(max_tokens=5), COMPLETIONS), Terms(max_tokens=7))["max_tokens"] == 5
    assert sent(work(body(n=3), COMPLETIONS), Terms(max_tokens=30))["max_tokens"] == 10


def test_a_chat_goes_on_with_its_last_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "capabilities", VLLM)
    asked = {"model": "a", "messages": [USER], "stream": True, "max_tokens": 9}
    again = sent(work(asked), Terms(resumed_text="So", resumed_tokens=1))
    assert again["messages"] == [USER, {"role": "assistant", "content": "So"}]
    assert (again["add_generation_prompt"], again["continue_final_message"]) == (False, True)
    assert again["max_tokens"] == 8


def test_only_an_engine_that_heeds_a_priority_gets_the_planners(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = work(body(priority=3), COMPLETIONS)
    assert sent(own, Terms(priority=9))["priority"] == 3
    assert "priority" not in sent(work(body(), COMPLETIONS), Terms(priority=9))
    monkeypatch.setattr(Engine, "capabilities", Capabilities(priority=True))
    assert sent(own, Terms(priority=9))["priority"] == 9
    assert sent(own, Terms())["priority"] == 0, "clients do not jump the planner's queue"


def test_each_attempt_has_its_own_id_at_the_engine() -> None:
    outgoing = work(body(), COMPLETIONS).outgoing
    calls = [outgoing.call(Engine(), Terms(attempt)) for attempt in (1, 2)]  # type: ignore[arg-type]
    assert [call.headers["x-request-id"] for call in calls] == ["r-1", "r-1.2"]
