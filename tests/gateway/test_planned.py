"""What a planner does as clients see it: predictions, clamps, pauses, and newer requests."""

import asyncio
import json
from typing import Any

import pytest
from openai import AsyncOpenAI

from slalom.core.planning import Expectation, Plan, PlanView, Refuse, Start
from slalom.gateway.params import GatewayParams, ServedModel
from slalom.testing import FakeLauncher, FakeScript, FakeTimings
from slalom.testing.fake_wire import token_text
from slalom.testing.scripted_planner import Scripted, start_all, urgent_first
from slalom.units import MS, SECOND
from tests.gateway.house import House, chat, house

PROMPT = "def add(left, right):\n    return left + right\n\n" * 5
TASK = {"x-slalom-task": "completion"}


def foretelling(view: PlanView, now_ns: int) -> Plan:
    expected = Expectation(now_ns + 250 * MS, now_ns + 4 * SECOND, 0.875)
    return Plan(starts=[Start(s.request_id, s.replica_id, 7, 3, expected) for s in start_all(view)])


def refusing(view: PlanView, _now_ns: int) -> Plan:
    why = "it would end after 9 s, 4 s late; 3 fewer before it would do"
    waiting = view.waiting(9)
    return Plan(
        refusals=[Refuse(w.request.id, retry_after_ns=3_200 * MS, detail=why) for w in waiting]
    )


def slow(token_ms: int = 20, **more: Any) -> FakeLauncher:
    return FakeLauncher(FakeScript(timings=FakeTimings(token_ns=token_ms * MS), **more))


def completion(prompt: str, tokens: int = 4, **more: Any) -> dict[str, Any]:
    return {"model": "a", "prompt": prompt, "max_tokens": tokens, **more}


async def text_of(at: House, body: dict[str, Any], headers: dict[str, str] | None = None) -> bytes:
    """A streamed completion, read to its end."""
    url = f"{at.base_url}/completions"
    async with at.http.post(url, json={**body, "stream": True}, headers=headers) as reply:
        assert reply.status == 200
        return await reply.read()


@pytest.mark.parametrize("stream", [False, True])
async def test_the_reply_says_what_was_expected_and_what_was_cut(*, stream: bool) -> None:
    async with house(admission=Scripted(foretelling)) as at:
        url = f"{at.base_url}/chat/completions"
        async with at.http.post(url, json=chat(tokens=9, stream=stream)) as reply:
            body = await reply.text()
            headers = reply.headers
        assert headers["x-slalom-max-tokens"] == "3"
        assert headers["x-slalom-chance"] == "0.875"
        assert 250 <= float(headers["x-slalom-predicted-ttft-ms"]) < 10_000
        assert 4_000 <= float(headers["x-slalom-predicted-e2e-ms"]) < 14_000
        assert "w2" in body
        assert "w3" not in body
        await at.until(lambda: at.gateway.records.latest(1))
        (record,) = at.gateway.records.latest(1)
        assert (record["chance"], record["clamped_tokens"]) == (0.875, 3)
        assert record["predicted_e2e_ms"] >= 4_000


async def test_no_planner_no_prediction() -> None:
    async with house() as at:
        _, _, headers = await at.post("/v1/chat/completions", chat())
        assert not [name for name in headers if "predicted" in name or "chance" in name]


async def test_metrics_tell_how_good_the_predictions_were() -> None:
    async with house(admission=Scripted(foretelling)) as at:
        await at.stream(chat(tokens=2))
        await at.until(lambda: at.ended)
        async with at.http.get(f"{at.url}/metrics") as reply:
            lines = (await reply.text()).splitlines()
        values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        task = at.ended[0].task
        good = at.ended[0].good
        squared = (0.875 - good) ** 2
        assert float(values[f'slalom_prediction_brier_sum{{task="{task}"}}']) == squared
        within = f'slalom_predictions_total{{task="{task}",what="e2e",within="true"}}'
        assert float(values[within]) == 1
        assert float(values[f'slalom_prediction_error_ratio_sum{{task="{task}",what="e2e"}}']) < 1


async def test_a_refusal_tells_why_and_when_to_come_again() -> None:
    async with house(admission=Scripted(refusing)) as at:
        status, body, headers = await at.post("/v1/chat/completions", chat())
        assert status == 429
        assert body["error"]["code"] == "sla_infeasible"
        assert "3 fewer before it would do" in body["error"]["message"]
        assert headers["retry-after"] == "4"


async def test_a_paused_stream_reads_as_one() -> None:
    launcher = slow()
    async with house({"a": launcher}, places=1, admission=Scripted(urgent_first)) as at:
        await at.stream(chat(tokens=1))
        body = completion("tell me", 40, stream_options={"include_usage": True})
        loose = asyncio.create_task(text_of(at, body, {"x-slalom-task": "batch"}))
        await at.until(lambda: at.engine()._generated > 6)
        await text_of(at, completion("urgent", 2), TASK)
        parts = (await loose).split(b"\n\n")
        assert parts[-2:] == [b"data: [DONE]", b""]
        events = [json.loads(part[6:]) for part in parts[:-2]]
        texts = [choice["text"] for event in events for choice in event["choices"]]
        assert "".join(texts) == "".join(map(token_text, range(40)))
        assert len({event["id"] for event in events}) == 1
        assert events[-1]["usage"] == {
            "prompt_tokens": 2,
            "completion_tokens": 40,
            "total_tokens": 42,
        }
        assert at.engine().aborted == 1


async def test_a_chat_goes_on_only_where_its_engine_can() -> None:
    async with house({"a": slow()}, places=1, admission=Scripted(urgent_first)) as at:
        await at.stream(chat(tokens=1))
        loose = asyncio.create_task(at.stream(chat(tokens=12)))
        await at.until(lambda: at.engine()._generated > 3)
        await text_of(at, completion("urgent", 2), TASK)
        assert (await loose).count("w11") == 1
        assert at.engine().aborted == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("places", [1, 2])
async def test_typing_on_replaces_what_was_asked_before(*, stream: bool, places: int) -> None:
    async with house({"a": slow(50)}, places=places) as at:
        await at.stream(chat(tokens=1))
        blocker = asyncio.create_task(at.stream(chat(tokens=20)))
        await at.until(lambda: at.engine()._active)
        client = AsyncOpenAI(base_url=at.base_url, api_key="none", max_retries=0)
        create = client.completions.with_raw_response.create

        async def ask(prompt: str) -> Any:
            return await create(
                model="a",
                prompt=prompt,
                max_tokens=200 if prompt == PROMPT else 1,
                stream=stream,
                extra_headers=TASK,
            )

        older = asyncio.create_task(ask(PROMPT))
        await at.until(
            lambda: (
                at.runtime.snapshot().models[0].waiting == 2 - places
                and at.runtime.snapshot().models[0].running == places
            )
        )
        newer = asyncio.create_task(ask(PROMPT + "d"))
        answered = await older
        if stream:
            chunks = [chunk async for chunk in answered.parse()]
            assert chunks[-1].choices[0].finish_reason == "stop"
            assert len({chunk.id for chunk in chunks}) == 1
        else:
            answer = answered.parse()
            assert answer.choices[0].finish_reason == "stop"
            assert answer.choices[0].text == ""
            assert answer.usage.completion_tokens == 0
            assert answered.headers["x-slalom-outcome"] == "superseded"
        latest = await newer
        if stream:  # its head may come before its end
            assert [chunk async for chunk in latest.parse()]
        await blocker
        outcomes = [end.outcome.value for end in at.ended]
        assert outcomes.count("superseded") == 1
        async with at.http.get(f"{at.url}/metrics") as reply:
            metrics = (await reply.text()).splitlines()
        counted = [m for m in metrics if "sla_requests_total{" in m and '"completion"' in m]
        assert sum(float(m.rsplit(" ", 1)[1]) for m in counted) == 1, "only the newer one counts"
        await client.close()


async def test_off_is_off() -> None:
    params = GatewayParams((ServedModel("a"),), supersede="off")
    async with house({"a": slow()}, params=params) as at:
        await at.stream(chat(tokens=1))
        older = asyncio.create_task(text_of(at, completion(PROMPT, 20), TASK))
        await at.until(lambda: at.engine()._active)
        await text_of(at, completion(PROMPT + "d", 2), TASK)
        assert b"w19" in await older
