"""llama.cpp's own API in front of any engine."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from slalom.engines.protocol import Capabilities
from slalom.errors import RequestError
from slalom.gateway.declared import Targets, body_targets
from slalom.gateway.params import GatewayParams, ModelFacts, ServedModel
from slalom.gateway.protocols import llama_cpp_documents
from slalom.gateway.protocols.frame import Asked, Internal
from slalom.gateway.protocols.llama_cpp import protocol
from slalom.testing import FakeLauncher, FakeScript, Fault, FaultKind
from slalom.units import SECOND
from tests.gateway.engine_corpus import BrokenOffError
from tests.gateway.house import House, house
from tests.gateway.protocols.llama_cpp_reader import documents, read_stream, read_whole

FACTS = ModelFacts(context_tokens=2048, places=4)
PARAMS = GatewayParams((ServedModel("a", facts=FACTS),))
READS = protocol(PARAMS).reads
INFILL = {"input_prefix": "def f(a):\n    ", "input_suffix": "\n", "prompt": "ret", "n_predict": 2}


def last_body(world: House) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(world.engine().calls[-1].body)
    return body


def read(path: str, body: dict[str, Any], params: GatewayParams = PARAMS) -> Internal:
    return protocol(params).reads[path](Asked("r", path, b"", body, {}, None))


async def stream_of(world: House, path: str, body: dict[str, Any]) -> bytes:
    url = f"{world.url}{path}"
    async with world.http.post(url, json={**body, "stream": True}) as reply:
        assert reply.content_type == "text/event-stream"
        return await reply.read()


async def test_a_completion_whole_and_streamed() -> None:
    body = {"prompt": "one two", "n_predict": 3, "temperature": 0, "id_slot": 2}
    body |= {"cache_prompt": True, "min_p": 0.05, "stop": ["zz"], "grammar": 'root ::= "x"'}
    async with house(params=PARAMS) as world:
        status, whole, _ = await world.post("/completion", body)
        assert status == 200
        assert (whole["content"], whole["stop_type"]) == (" w0 w1 w2", "limit")
        assert (whole["tokens_predicted"], whole["tokens_evaluated"]) == (3, 2)
        assert whole["tokens_cached"] == 4
        assert whole["timings"]["predicted_n"] == 3
        assert (whole["id_slot"], whole["model"], whole["prompt"]) == (2, "a", "one two")
        assert whole["generation_settings"]["min_p"] == 0.05
        seen = last_body(world)
        for name in ("id_slot", "cache_prompt", "min_p", "stop", "grammar"):
            assert seen[name] == body[name]
        data = await stream_of(world, "/completions", body)
        assert read_stream(data) == read_whole(json.dumps(whole).encode())
        assert [one["tokens_predicted"] for one in documents(data)] == [1, 2, 3, 3]
        assert b"[DONE]" not in data


async def test_infill_on_an_engine_that_has_none() -> None:
    extra = [{"filename": "b.py", "text": "bbb"}, {"filename": "a.py", "text": "aaa"}]
    async with house(params=PARAMS) as world:
        _, told, headers = await world.post("/infill", {**INFILL, "input_extra": extra})
        assert told["content"] == " w0 w1"
        assert headers["x-slalom-task"] == "completion"
        prompt = last_body(world)["prompt"]
        assert prompt.index("b.py") < prompt.index("bbb") < prompt.index("aaa")
        assert prompt.endswith("def f(a):\n    ret<SUF>\n<MID>")
        assert not {"input_prefix", "input_extra", "suffix"} & last_body(world).keys()
        await world.post("/infill", {**INFILL, "input_suffix": ""})
        assert last_body(world)["prompt"] == "<PRE>def f(a):\n    ret<SUF><MID>"


async def test_infill_of_a_model_that_knows_none_is_refused() -> None:
    launcher = FakeLauncher(FakeScript(capabilities=Capabilities()))
    async with house({"a": launcher}, params=PARAMS) as world:
        status, document, _ = await world.post("/infill", INFILL)
        assert status == 400
        assert document["error"]["reason"] == "unsupported_by_model"
        assert document["error"]["code"] == 400
        assert "fill-in-the-middle" in document["error"]["message"]


async def test_time_limits_are_objectives_and_reach_the_engine() -> None:
    limits = {"t_max_prompt_ms": 500, "t_max_predict_ms": 1000}
    found = body_targets(read("/infill", {**INFILL, **limits}).body)
    assert found == Targets(ttft_ms=500, e2e_ms=1500)
    async with house(params=PARAMS) as world:
        status, _, _ = await world.post("/infill", {**INFILL, **limits})
        assert status == 200
        assert limits.items() <= last_body(world).items()
        _, document, _ = await world.post("/infill", {**INFILL, "t_max_prompt_ms": "soon"})
        assert document["error"]["param"] == "t_max_prompt_ms"


@pytest.mark.parametrize(
    ("asked", "sent"), [(5, {"max_tokens": 5}), (-1, {}), (-2, {}), (0, {"n_predict": 0})]
)
def test_the_limit_is_said_so_that_every_engine_knows_it(asked: int, sent: dict[str, int]) -> None:
    body = read("/completion", {"prompt": "x", "n_predict": asked}).body
    assert {name: body[name] for name in ("max_tokens", "n_predict") if name in body} == sent


async def test_a_warm_up_costs_others_nothing_and_says_nothing() -> None:
    async with house(params=PARAMS) as world:
        _, told, _ = await world.post("/infill", {**INFILL, "n_predict": 0})
        assert (told["content"], told["stop"]) == ("", True)
        assert not world.launchers["a"].engines, "nothing is loaded for it"


async def test_only_the_fields_that_are_wanted() -> None:
    names = ["content", "timings/predicted_n", "truncated", "nothing", "timings/nothing"]
    expected = {"content": " w0 w1", "timings/predicted_n": 2, "truncated": False}
    async with house(params=PARAMS) as world:
        _, told, _ = await world.post("/infill", {**INFILL, "response_fields": names})
        assert told == expected
        body = {**INFILL, "response_fields": names}
        *pieces, last = documents(await stream_of(world, "/infill", body))
        assert "".join(piece["content"] for piece in pieces) == " w0 w1"
        assert last == {**expected, "content": ""}
        assert "response_fields" not in last_body(world)


def test_the_engines_own_timings_and_probabilities_are_told() -> None:
    content = [{"id": 3, "token": "x", "logprob": -0.5, "top_logprobs": []}]
    choice = {"text": "x\n", "finish_reason": "stop", "logprobs": {"content": content}}
    timings = {"prompt_n": 7, "prompt_ms": 1.5}
    answer = json.dumps({"choices": [choice], "timings": timings}).encode()
    found = read("/completion", {"prompt": "p", "n_probs": 2})
    assert found.body["logprobs"] == 2
    told = json.loads(found.writer.whole(answer))
    assert told["completion_probabilities"] == content
    assert told["timings"] == timings
    assert told["has_new_line"] is True
    assert told["stop_type"] == "eos"


def test_the_word_that_ended_it_is_told_where_the_engine_tells_it() -> None:
    choice = {"text": "x", "finish_reason": "stop", "stop_reason": "END"}
    answer = json.dumps({"choices": [choice]}).encode()
    told = json.loads(read("/completion", {"prompt": "p"}).writer.whole(answer))
    assert (told["stop_type"], told["stopping_word"]) == ("word", "END")


def test_durations_of_engines_that_do_not_measure_are_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([0, SECOND, 3 * SECOND])
    monkeypatch.setattr("slalom.gateway.protocols.stopwatch.now_ns", lambda: next(clock))
    writer = read("/completion", {"prompt": "p", "stream": True}).writer
    usage = {"prompt_tokens": 10, "completion_tokens": 4}
    pieces = [{"choices": [{"text": "x"}]}, {"choices": [{"finish_reason": "stop"}]}]
    for piece in (*pieces, {"choices": [], "usage": usage}):
        writer.feed(b"data: " + json.dumps(piece).encode() + b"\n\n")
    (last,) = documents(writer.feed(b"data: [DONE]\n\n"))
    timings = last["timings"]
    assert (timings["prompt_n"], timings["prompt_ms"]) == (10, 1000)
    assert (timings["predicted_per_second"], timings["predicted_per_token_ms"]) == (2, 500)


def test_a_model_that_is_not_named() -> None:
    first, second = ServedModel("first"), ServedModel("second", tasks=("completion",))
    two = GatewayParams((first, second))
    assert read("/completion", {"prompt": "x"}, two).body["model"] == "first"
    found = read("/infill", INFILL, two)
    assert found.body["model"] == "second"
    assert found.notices == ("no model was named: second answers",)
    fills = GatewayParams((first, ServedModel("third", facts=ModelFacts(fills=True)), second))
    assert read("/infill", INFILL, fills).body["model"] == "second"
    fills = GatewayParams(fills.models[:2])
    assert read("/infill", INFILL, fills).body["model"] == "third"
    assert read("/completion", {"prompt": "x"}, fills).body["model"] == "first"
    assert read("/infill", INFILL).notices == ()
    assert read("/infill", {**INFILL, "model": "first"}, two).body["model"] == "first"
    with pytest.raises(RequestError):
        read("/infill", INFILL, GatewayParams(()))


@pytest.mark.parametrize("prompt", [[1, 2, 3], ["x", 5], "x", ["x"], {"prompt_string": "x"}])
def test_every_form_of_a_prompt(prompt: Any) -> None:
    found = read("/completion", {"prompt": prompt}).body["prompt"]
    assert found == ("x" if prompt in (["x"], {"prompt_string": "x"}) else prompt)


@pytest.mark.parametrize(
    ("path", "field", "value", "named"),
    [
        ("/completion", "prompt", None, "prompt"),
        ("/completion", "prompt", [], "prompt"),
        ("/completion", "prompt", ["x", "y"], "prompt"),
        ("/completion", "prompt", [None], "prompt"),
        ("/completion", "prompt", {"prompt_string": 3}, "prompt.prompt_string"),
        ("/completion", "stream", 1, "stream"),
        ("/completion", "n_probs", -1, "n_probs"),
        ("/completion", "n_cmpl", 2, "n_cmpl"),
        ("/completion", "response_fields", "content", "response_fields"),
        ("/completion", "model", 3, "model"),
        ("/infill", "input_prefix", None, "input_prefix"),
        ("/infill", "input_suffix", 3, "input_suffix"),
        ("/infill", "prompt", 3, "prompt"),
        ("/infill", "input_extra", {}, "input_extra"),
        ("/infill", "input_extra", [{"text": "x"}, {"text": 1}], "input_extra[1]"),
    ],
)
def test_errors_name_the_field(path: str, field: str, value: object, named: str) -> None:
    body = {"prompt": "x", **(INFILL if path == "/infill" else {}), field: value}
    with pytest.raises(RequestError) as wrong:
        read(path, body)
    assert wrong.value.param == named


async def test_errors_have_llama_cpps_form() -> None:
    fault = Fault(FaultKind.CUT, after_tokens=2)
    launcher = FakeLauncher(FakeScript(fault=lambda *_: fault))
    async with house({"a": launcher}, params=PARAMS) as world:
        body = {"prompt": "x", "n_predict": 9}
        with pytest.raises(BrokenOffError):
            read_stream(await stream_of(world, "/completion", body))
        status, document, _ = await world.post("/completion", {"prompt": "x", "model": "nope"})
        assert status == document["error"]["code"] == 404
        assert document["error"]["type"] == "not_found_error"


# -- documents ------------------------------------------------------------------------------------


async def test_properties_and_slots() -> None:
    async with house(params=PARAMS) as world:
        _, props, _ = await world.get("/props")
        assert props["default_generation_settings"]["n_ctx"] == 2048
        assert (props["total_slots"], props["model_alias"]) == (4, "a")
        cold: Any = (await world.get("/slots"))[1]
        assert len(cold) == 4
        assert not any(slot["is_processing"] for slot in cold)
        assert (await world.get("/props?model=nope"))[0] == 404
        assert (await world.get("/health"))[1] == {"status": "ok"}


async def test_slots_say_how_many_work() -> None:
    launcher = FakeLauncher(FakeScript(fault=lambda *_: Fault(FaultKind.HANG, after_tokens=1)))
    async with house({"a": launcher}, params=PARAMS) as world:
        body = {"prompt": "x", "n_predict": 9, "stream": True}
        async with world.http.post(f"{world.url}/completion", json=body) as reply:
            assert await reply.content.readany()
            slots: Any = (await world.get("/slots?fail_on_no_slot=1"))[1]
            assert [slot["is_processing"] for slot in slots] == [True, False, False, False]
            assert [slot["id"] for slot in slots] == [0, 1, 2, 3]


async def test_tokens_are_not_worth_a_load() -> None:
    async with house(params=PARAMS) as world:
        for path, body in (
            ("/tokenize", {"content": "x"}),
            ("/detokenize", {"tokens": [1]}),
            ("/apply-template", {"messages": [{"role": "user"}]}),
        ):
            status, document, headers = await world.post(path, body)
            assert (status, document["error"]["reason"]) == (503, "model_not_loaded")
            assert headers["retry-after"]
        assert not world.launchers["a"].engines
        status, document, _ = await world.post("/tokenize", {"content": 3})
        assert (status, document["error"]["param"]) == (400, "content")
        assert (await world.post("/detokenize", {"tokens": ["x"]}))[0] == 400


async def llama_cpp(_engine: Any, path: str, question: Mapping[str, Any]) -> dict[str, Any]:
    match path:
        case "/tokenize" if "content" in question:
            pieces = [{"id": 7, "piece": question["content"]}]
            return {"tokens": pieces if question["with_pieces"] else [7]}
        case "/detokenize" if "model" not in question:
            return {"content": f"<{question['tokens']}>"}
        case "/apply-template":
            return {"prompt": "rendered"}
    return {}


async def vllm(engine: Any, path: str, question: Mapping[str, Any]) -> dict[str, Any]:
    if question.get("model") != engine.model_name:
        return {}
    if path == "/tokenize":
        text = question.get("prompt", "chat")
        strings = {"token_strs": [text]} if question.get("return_token_strs") else {}
        return {"count": 1, "tokens": [8 if text == "chat" else 7], **strings}
    return {"prompt": f"<{question['tokens']}>"} if path == "/detokenize" else {}


async def neither(_engine: Any, _path: str, _question: Mapping[str, Any]) -> dict[str, Any]:
    return {}


@pytest.mark.parametrize(("engine", "rendered"), [(llama_cpp, "rendered"), (vllm, "<[8]>")])
async def test_tokens_and_templates_in_the_words_of_each_engine(
    engine: Any, rendered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_cpp_documents, "ask_engine", engine)
    async with house(params=PARAMS) as world:
        await world.post("/completion", {"prompt": "x", "n_predict": 1})
        asked = {"content": "hi"}
        assert (await world.post("/tokenize", asked))[1] == {"tokens": [7]}
        pieces = (await world.post("/tokenize", {**asked, "with_pieces": True}))[1]
        assert pieces == {"tokens": [{"id": 7, "piece": "hi"}]}
        assert (await world.post("/detokenize", {"tokens": [1]}))[1] == {"content": "<[1]>"}
        chat = {"messages": [{"role": "user", "content": "hi"}]}
        assert (await world.post("/apply-template", chat))[1] == {"prompt": rendered}
        monkeypatch.setattr(llama_cpp_documents, "ask_engine", neither)
        for path, body in (("/tokenize", asked), ("/apply-template", chat)):
            status, document, _ = await world.post(path, body)
            assert (status, document["error"]["reason"]) == (400, "unsupported_by_model")
