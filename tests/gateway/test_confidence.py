"""A small model's answer is looked at before its client gets it; the large one answers if need be.

Over HTTP, with engines that say how sure they are, in every protocol's way in.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from slalom.core.events import Verdict
from slalom.core.request import Alternatives, Choice
from slalom.gateway.confidence import AnswerGate, GateMaker
from slalom.gateway.params import GateParams, GatewayParams, ServedAlias, ServedModel
from slalom.models.fim import FimTemplate
from slalom.testing import FakeLauncher, FakeScript
from slalom.testing.patience import until
from slalom.testing.scripted_planner import EveryLever
from slalom.workload.tasks import DEFAULT_TASKS, TaskSpec
from tests.gateway.house import House, chat, house, last_body

FIM = FimTemplate("<P>", "<S>", "<M>")
BEFORE, AFTER = "def area(width, height):\n    return ", "\n\nprint(area(2, 3))\n"
ASK: dict[str, Any] = {"model": "any", "prompt": BEFORE, "suffix": AFTER, "max_tokens": 9999}
RIGHT = ("width", " *", " height", "")
WRONG = ("width", " *", " *", " height")


def engines(
    words: Sequence[str] = RIGHT,
    logprob: float = -0.1,
    large: Sequence[str] = RIGHT,
    tokens: int = 4,
) -> dict[str, FakeLauncher]:
    """A small model that says these words, so sure of each; and a large one."""

    def script(said: Sequence[str], sure: float, tokens: int = 4) -> FakeScript:
        base = FakeScript(
            text=lambda index: said[index % len(said)],
            logprob=sure,
            output_tokens=lambda _asked: tokens,
        )
        return replace(base, capabilities=replace(base.capabilities, fim=FIM))

    return {
        "small": FakeLauncher(script(words, logprob, tokens)),
        "large": FakeLauncher(script(large, -0.01)),
    }


def params(**gates: Any) -> GatewayParams:
    """The two models and a name for both."""
    asked = GateParams(**{"language": "python", **gates})
    either = Alternatives(("small", "large"), Choice.CONFIDENT)
    alias = ServedAlias("any", either, gates=asked)
    models = (ServedModel("small"), ServedModel("large"))
    # Without targets: how long this machine takes decides nothing.
    tasks = {name: TaskSpec(name) for name in DEFAULT_TASKS}
    return GatewayParams(models, aliases=(alias,), tasks=tasks)


async def both_up(at: House) -> None:
    for name in ("small", "large"):
        await at.stream(chat(name, tokens=1))


async def completion(at: House, **more: Any) -> tuple[str, dict[str, Any]]:
    """The text, and headers, of a completion; streamed or whole."""
    body = {**ASK, **more}
    async with at.http.post(f"{at.base_url}/completions", json=body) as reply:
        told = await reply.text()
        assert reply.status == 200, told
        if not body.get("stream"):
            choice = json.loads(told)["choices"][0]
            assert choice["logprobs"] is None, "the client did not ask for them"
            return choice["text"], dict(reply.headers)
        events = [json.loads(line[6:]) for line in told.splitlines() if line.startswith("data: {")]
        assert told.endswith("data: [DONE]\n\n")
        choices = [choice for event in events for choice in event["choices"]]
        assert not any(choice.get("logprobs") for choice in choices)
        return "".join(choice["text"] for choice in choices), dict(reply.headers)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_sure_and_fitting_answer_is_the_small_ones(stream: bool) -> None:
    async with house(engines(), params=params()) as at:
        await both_up(at)
        calls = len(at.engine("large").calls)
        text, headers = await completion(at, stream=stream)
        assert text == "width * height"
        assert headers["x-slalom-model"] == "small"
        assert headers["x-slalom-judged"] == "trusted"
        assert len(at.engine("large").calls) == calls
        assert last_body(at, "small")["logprobs"] == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("words", "logprob", "why"), [(RIGHT, -2.0, "unsure"), (WRONG, -0.1, "broken")]
)
async def test_a_doubted_answer_is_made_anew_by_the_large_one(
    stream: bool, words: Sequence[str], logprob: float, why: str
) -> None:
    large = ("height", " *", " width", "")
    tokens = 9000 if why == "unsure" and stream else 4
    async with house(engines(words, logprob, large, tokens), params=params()) as at:
        await both_up(at)
        text, headers = await completion(at, stream=stream)
        assert text == "height * width", "not a word of the small one's"
        assert headers["x-slalom-model"] == "large"
        assert headers["x-slalom-judged"] == f"{why}; taken over from small"
        assert headers["x-slalom-attempt"] == "2"
        assert "logprobs" not in last_body(at, "large")
        assert last_body(at, "large")["prompt"] == f"<P>{BEFORE}<S>{AFTER}<M>"
        assert at.ended[-1].model == "large"
        if stream and why == "unsure":
            assert at.engine("small").aborted == 1, "it need not write on"


async def test_each_gate_can_be_left_out() -> None:
    async with house(engines(WRONG), params=params(parse=False)) as at:
        await both_up(at)
        assert (await completion(at, stream=True))[1]["x-slalom-judged"] == "trusted"
    async with house(engines(RIGHT, -2.0), params=params(min_logprob=-3.0)) as at:
        await both_up(at)
        assert (await completion(at))[1]["x-slalom-judged"] == "trusted"
    async with house(engines(WRONG), params=params(language="")) as at:
        await both_up(at)
        assert (await completion(at))[1]["x-slalom-judged"] == "trusted", "no known language"


async def test_without_the_second_gate_a_sure_stream_flows() -> None:
    """The first words reach the client before the last ones are written."""
    words = [f" w{index}" for index in range(64)]
    async with house(engines(words, tokens=64), params=params(parse=False)) as at:
        await both_up(at)
        body = {**ASK, "stream": True}
        async with at.http.post(f"{at.base_url}/completions", json=body) as reply:
            seen = await reply.content.readany()
            running = at.runtime.snapshot().running
            await reply.read()
        assert b" w2" in seen
        assert b" w63" not in seen
        assert running == 1


async def test_where_the_large_one_would_be_late_the_client_gets_what_there_is() -> None:
    """Nobody foresees when the large one would end: who asks for a time is not sent there."""
    launchers = engines(WRONG)
    async with house(launchers, params=params(), places=1) as at:
        await both_up(at)
        at.engine("large").freeze()
        busy = asyncio.ensure_future(at.post("/v1/completions", {**ASK, "model": "large"}))

        async def is_busy() -> bool:
            return at.runtime.snapshot().running == 1

        await until(is_busy, "the large one is busy")
        text, headers = await completion(at, metadata={"slo_e2e_ms": 3_600_000})
        assert text == "width * * height"
        assert headers["x-slalom-judged"] == "broken; kept"
        busy.cancel()


async def test_a_chat_passes_the_first_gate() -> None:
    async with house(engines(RIGHT, -2.0), params=params()) as at:
        await both_up(at)
        status, told, headers = await at.post("/v1/chat/completions", chat("any"))
        assert status == 200
        assert headers["x-slalom-judged"] == "unsure; taken over from small"
        assert "logprobs" not in told["choices"][0]
        assert last_body(at, "small")["logprobs"] is True


TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize("more", [{"n": 2}, {"tools": [TOOL]}])
async def test_what_cannot_be_looked_at_goes_to_the_large_one(more: dict[str, Any]) -> None:
    async with house(engines(), params=params()) as at:
        await both_up(at)
        _, _, headers = await at.post("/v1/chat/completions", chat("any", **more))
        assert headers["x-slalom-model"] == "large"
        assert "x-slalom-judged" not in headers


async def test_of_several_prompts_each_has_an_answer_of_its_own() -> None:
    async with house(engines(RIGHT, -2.0), params=params()) as at:
        await both_up(at)
        for prompt, model in ((["a", "b"], "large"), (["a"], "small"), ([1, 2], "small")):
            body = {"model": "any", "prompt": prompt, "max_tokens": 2}
            calls = len(at.engine("small").calls)
            await at.post("/v1/completions", body)
            assert (len(at.engine("small").calls) > calls) == (model == "small"), prompt


async def test_a_client_that_asks_for_probabilities_gets_them() -> None:
    async with house(engines(), params=params()) as at:
        await both_up(at)
        _, told, headers = await at.post("/v1/completions", {**ASK, "logprobs": 3})
        assert headers["x-slalom-judged"] == "trusted"
        assert told["choices"][0]["logprobs"]
        assert last_body(at, "small")["logprobs"] == 3


async def test_a_planner_moves_it_too_and_predicts_anew() -> None:
    planned = params(language="python")
    async with house(engines(WRONG), params=planned, admission=EveryLever()) as at:
        await both_up(at)
        _, headers = await completion(at, stream=True)
        assert headers["x-slalom-judged"].startswith("broken; ")


async def test_tabby_and_infill_are_judged_by_their_file_names() -> None:
    async with house(engines(WRONG), params=params(language="")) as at:
        await both_up(at)
        segments = {"prefix": BEFORE, "suffix": AFTER, "filepath": "src/area.py"}
        status, told, headers = await at.post(
            "/v1/completions", {"model": "any", "segments": segments}
        )
        assert status == 200
        assert headers["x-slalom-judged"] == "broken; taken over from small"
        assert told["choices"][0]["text"].startswith("width * height")


# -- the gate alone ---------------------------------------------------------------------------


def gate(cursor: tuple[str, str] | None = (BEFORE, AFTER), **more: Any) -> AnswerGate:
    return GateMaker(GateParams(**{"language": "python", **more}), cursor)()


def event(text: str, *logprobs: float | None, openai: bool = False, finish: str = "") -> bytes:
    told: dict[str, Any] | None = {"content": [{"logprob": value} for value in logprobs]}
    if openai:
        told = {"token_logprobs": list(logprobs), "tokens": ["x"] * len(logprobs)}
    choice = {"index": 0, "text": text, "logprobs": told, "finish_reason": finish or None}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


@pytest.mark.parametrize("openai", [False, True])
def test_the_mean_of_the_first_tokens_counts_in_both_forms(openai: bool) -> None:
    looked = gate(cursor=None, min_logprob=-1.0)
    assert looked.feed(event("a", None, -2.0, openai=openai)) is None
    assert looked.feed(event("b", -0.6, -0.3, -99.0, openai=openai)) is Verdict.TRUSTED
    looked = gate(cursor=None, min_logprob=-1.0)
    assert looked.feed(event("ab", -0.1, -0.1, -3.0, openai=openai)) is Verdict.UNSURE


def test_an_answer_of_fewer_tokens_is_judged_by_those() -> None:
    looked = gate(cursor=None, min_logprob=-1.0)
    assert looked.feed(event("a", -5.0)) is None
    assert looked.end() is Verdict.UNSURE
    silent = gate(cursor=None)
    assert silent.feed(event("a")) is None
    assert silent.end() is Verdict.TRUSTED, "an engine that does not say"


def test_bytes_that_are_no_answer_are_the_clients_to_see() -> None:
    assert gate().feed(b"data: {garbage\n\n") is Verdict.TRUSTED


def test_what_a_limit_cut_is_not_broken() -> None:
    looked = gate()
    looked.feed(event("(width *", -0.1, -0.1, -0.1, finish="length"))
    assert looked.end() is Verdict.TRUSTED
    looked = gate()
    looked.feed(event("(width *", -0.1, -0.1, -0.1, finish="stop"))
    assert looked.end() is Verdict.BROKEN


def test_only_what_the_gate_asked_for_is_taken_out() -> None:
    stream = event("a", -0.1) + b": a comment\n\ndata: [DONE]\n\n"
    cleaned = gate().clean(stream)
    assert b'"logprobs":null' in cleaned
    assert cleaned.endswith(b": a comment\n\ndata: [DONE]\n\n")
    asked = GateMaker(GateParams(), None, strips=False)()
    assert asked.clean(stream) == stream
    assert gate().clean(b'{"choices":[{"logprobs":{"x":1}}]}') == b'{"choices":[{"logprobs":null}]}'
    assert gate().clean(b'{"error":"logprobs"}') == b'{"error":"logprobs"}'
