"""Ollama's requests: what their fields mean, and how errors name them."""

import json
from typing import Any

import ollama
import pytest

from slalom.errors import RequestError
from slalom.gateway.params import GatewayParams, ModelFacts, ServedModel
from slalom.gateway.protocols.frame import Asked, Internal
from slalom.gateway.protocols.ollama import protocol
from slalom.gateway.protocols.ollama_request import keep_alive_s

MESSAGES: list[Any] = [{"role": "user", "content": "one two three"}]
PARAMS = GatewayParams((ServedModel("a", facts=ModelFacts(context_tokens=2048)),))
READS = protocol(PARAMS).reads
PNG, JPEG = "iVBORw0KGgo=", "/9j/4AAQSkZJRg=="
SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}}


def read(path: str, **body: Any) -> Internal:
    body = {"model": "a", **body}
    return READS[path](Asked("req-1", path, json.dumps(body).encode(), body, {}, None))


def chat(**body: Any) -> dict[str, Any]:
    return read("/api/chat", **{"messages": MESSAGES, **body}).body


def generate(**body: Any) -> Internal:
    return read("/api/generate", **{"prompt": "x", **body})


def test_the_form_of_an_answer() -> None:
    assert "response_format" not in chat(format="")
    assert chat(format="json")["response_format"] == {"type": "json_object"}
    assert chat(format=SCHEMA)["response_format"]["json_schema"]["schema"] == SCHEMA
    raw = generate(raw=True, format=SCHEMA).body
    assert raw["json_schema"] == SCHEMA
    assert raw["response_format"] == chat(format=SCHEMA)["response_format"]


def test_thinking_and_log_probabilities() -> None:
    assert chat(think=False)["chat_template_kwargs"] == {"enable_thinking": False}
    assert chat(think="low")["chat_template_kwargs"]["reasoning_effort"] == "low"
    assert chat(logprobs=True, top_logprobs=2)["top_logprobs"] == 2
    assert generate(raw=True, logprobs=True).body["logprobs"] == 1
    assert "logprobs" not in chat(top_logprobs=2)


def test_log_probabilities_are_told() -> None:
    entry = {"token": "x", "logprob": -0.5, "bytes": [120]}
    content = [{**entry, "top_logprobs": [entry]}]
    choice = {"delta": {"content": "x"}, "logprobs": {"content": content}}
    event = b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"
    told = json.loads(read("/api/chat", messages=MESSAGES).writer.feed(event))
    read_back = ollama.ChatResponse(**told).logprobs
    assert read_back
    assert read_back[0].top_logprobs
    assert (read_back[0].token, read_back[0].top_logprobs[0].logprob) == ("x", -0.5)


def test_pictures_are_passed_on() -> None:
    message = {**MESSAGES[0], "images": [PNG, JPEG]}
    content = chat(messages=[message])["messages"][0]["content"]
    assert [part["type"] for part in content] == ["text", "image_url", "image_url"]
    assert content[1]["image_url"]["url"] == f"data:image/png;base64,{PNG}"
    assert content[2]["image_url"]["url"].startswith("data:image/jpeg;")
    told = generate(images=[PNG]).body["messages"][0]["content"]
    assert told[1]["image_url"]["url"] == f"data:image/png;base64,{PNG}"


def test_options_of_the_engine_are_the_configurations() -> None:
    found = generate(options={"num_ctx": 4096, "num_gpu": 99, "num_thread": 2})
    assert [note.partition(":")[0] for note in found.notices] == [
        "num_ctx 4096",
        "num_gpu, num_thread",
    ]
    assert not {"num_ctx", "num_gpu"} & found.body.keys()
    assert generate(options={"num_ctx": 2048}).notices == ()
    internal = generate(keep_alive="5m")
    assert internal.notices == ()
    assert internal.body["keep_alive"] == "5m"


def test_a_model_without_a_template_gets_its_prompt_as_it_is() -> None:
    params = GatewayParams((ServedModel("a", facts=ModelFacts(chats=False)),))
    body = {"model": "a", "prompt": "x", "stream": False}
    found = protocol(params).reads["/api/generate"](Asked("r", "", b"", body, {}, None))
    assert found.body["prompt"] == "x"
    assert "messages" not in found.body


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), ("5m", 300), ("1h30m", 5400), (-1, -1), ("-1", -1), (0, 0), ("250ms", 0.25)],
)
def test_how_long_a_model_is_kept(value: object, seconds: float | None) -> None:
    assert keep_alive_s({"keep_alive": value}) == seconds


@pytest.mark.parametrize("value", ["soon", "5 m", [], True, {}, 1 << 70, "m"])
def test_how_long_a_model_is_not_kept(value: object) -> None:
    with pytest.raises(RequestError, match="keep_alive"):
        keep_alive_s({"keep_alive": value})


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("options", [], "options"),
        ("options", {"num_predict": 1.5}, "options.num_predict"),
        ("options", {"num_predict": 1 << 31}, "options.num_predict"),
        ("options", {"num_ctx": "big"}, "options.num_ctx"),
        ("options", {"stop": 1}, "options.stop"),
        ("stream", "yes", "stream"),
        ("format", 3, "format"),
        ("think", 3, "think"),
        ("suffix", 3, "suffix"),
        ("template", "{{ .Prompt }}", "template"),
        ("images", "x", "images"),
        ("images", [3], "images[0]"),
        ("top_logprobs", 99, "top_logprobs"),
        ("model", None, "model"),
    ],
)
def test_errors_name_the_field(field: str, value: object, named: str) -> None:
    with pytest.raises(RequestError) as wrong:
        generate(**{"logprobs": True, field: value})
    assert wrong.value.param == named


@pytest.mark.parametrize(
    ("message", "named"),
    [
        (3, "messages[0]"),
        ({"role": "ghost"}, "messages[0].role"),
        ({"role": "user", "content": 3}, "messages[0].content"),
        ({"role": "assistant", "tool_calls": [{}]}, "messages[0].tool_calls[0]"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
    ],
)
def test_errors_name_the_place_in_a_conversation(message: object, named: str) -> None:
    with pytest.raises(RequestError) as wrong:
        chat(messages=[message])
    assert wrong.value.param == named


def test_results_of_tools_find_their_calls() -> None:
    def call(name: str, **more: Any) -> dict[str, Any]:
        return {"function": {"name": name, "arguments": {}}, **more}

    told = chat(
        messages=[
            {"role": "assistant", "tool_calls": [call("f"), call("g", id="mine"), call("f")]},
            {"role": "tool", "tool_name": "f", "content": "1"},
            {"role": "tool", "tool_call_id": "mine", "content": "2"},
            {"role": "tool", "content": "3"},
        ]
    )["messages"]
    ids = [one["id"] for one in told[0]["tool_calls"]]
    assert len(set(ids)) == 3
    assert [message["tool_call_id"] for message in told[1:]] == ids
