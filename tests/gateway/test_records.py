"""What is kept and told of requests: one record each, and never a word of a prompt."""

import asyncio
import json
import logging
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from slalom.core.events import FailureKind
from slalom.core.params import SchedulerParams
from slalom.gateway.params import GatewayParams, ServedModel
from slalom.testing import FakeLauncher, FakeLoad, FakeScript, FakeTimings, Fault, FaultKind
from slalom.units import MIB, MS
from tests.gateway.house import House, chat, house

CHAT = "/v1/chat/completions"
SECRET = "zebra-crossing-42"


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [
        json.loads(record.getMessage())
        for record in caplog.records
        if record.name == "slalom.requests"
    ]


async def test_one_wide_line_per_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with house() as world:
        await world.stream(chat(tokens=3), {"x-request-id": "r-1"})
        await world.post(CHAT, chat("nope"), {"x-request-id": "r-2"})
        await world.until(lambda: len(lines(caplog)) == 2)
        by_id = {line["request_id"]: line for line in lines(caplog)}
        done, refused = by_id["r-1"], by_id["r-2"]
        assert done["outcome"] == "done"
        assert (done["status"], done["output_tokens"], done["attempts"]) == (200, 3, 1)
        assert done["model"] == "a"
        assert done["e2e_ms"] >= done["ttft_ms"] >= done["queue_ms"] >= 0
        assert done["bytes_sent"] > 0
        assert (refused["status"], refused["code"]) == (404, "model_not_found")
        assert world.gateway.records.find("r-1") == done


async def test_no_prompt_or_answer_gets_into_log_records_or_metrics(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)

    def broken(number: int, _asked: object) -> Fault | None:
        return [None, Fault(FaultKind.CUT, after_tokens=1), Fault(FaultKind.STATUS), None][
            number % 4
        ]

    async with house({"a": FakeLauncher(FakeScript(fault=broken))}) as world:
        message = [{"role": "user", "content": SECRET}]
        bodies: list[Any] = [
            chat(messages=message),
            chat(messages=message, stream=True),
            chat(messages=SECRET),
            chat(messages=message, stop=[SECRET], user=SECRET),
            chat(messages=message, metadata={"task": "none", "note": SECRET}),
            chat("nope", messages=message),
            chat(messages=message, temperature=SECRET),
            {**chat(messages=message), SECRET: 1},
        ]
        for body in bodies:
            async with world.http.post(f"{world.url}{CHAT}", json=body) as reply:
                await reply.read()
        raw = f'{{"model": "a", "messages": "{SECRET}'
        headers = {"content-type": "application/json"}
        async with world.http.post(f"{world.url}{CHAT}", data=raw, headers=headers) as reply:
            assert SECRET not in await reply.text()
        await world.until(lambda: len(world.gateway.records.latest(99)) == len(bodies) + 1)
        async with world.http.get(f"{world.url}/metrics") as reply:
            metrics = await reply.text()
        kept = f"{world.gateway.records.latest(99)}{metrics}{world.runtime.snapshot()}"
    told = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    assert len(lines(caplog)) == len(bodies) + 1
    assert SECRET not in kept
    assert SECRET not in told
    assert " w0" not in told


async def test_the_ring_of_records_is_bounded() -> None:
    params = GatewayParams((ServedModel("a"),), records_max=3)
    async with house(params=params) as world:
        for number in range(5):
            await world.post(CHAT, chat(), {"x-request-id": f"r-{number}"})
        await world.until(lambda: world.gateway.records.find("r-4"))
        kept = [record["request_id"] for record in world.gateway.records.latest(9)]
        assert kept == ["r-4", "r-3", "r-2"]


async def samples(world: House) -> dict[str, float]:
    async with world.http.get(f"{world.url}/metrics") as reply:
        assert reply.status == 200
        text = await reply.text()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


async def test_metrics() -> None:
    async with house(budget_bytes=1 << 30, need_bytes=1 << 26) as world:
        await world.stream(chat(tokens=3))
        await world.post(CHAT, chat("nope"))
        await world.until(lambda: world.ended)
        seen = await samples(world)
        labels = "model=a,outcome=done,task=generation"
        assert seen[f"slalom_time_to_first_token_seconds_count{{{labels}}}"] == 1
        assert seen[f"slalom_e2e_request_latency_seconds_count{{{labels}}}"] == 1
        assert seen[f"slalom_generation_tokens_total{{{labels}}}"] == 3
        assert seen["slalom_sla_requests_total{good=true,model=a,task=generation}"] == 1
        assert seen["slalom_device_budget_bytes{device=host}"] == 1 << 30
        assert seen["slalom_device_booked_bytes{device=host}"] == 1 << 26
        assert "slalom_device_drift_bytes{device=host}" in seen
        assert seen["slalom_model_state{model=a,state=ready}"] == 1
        assert seen["slalom_model_state{model=a,state=cold}"] == 0
        assert seen["slalom_num_requests_running{model=a}"] == 0
        not_found = f"slalom_http_requests_total{{code=model_not_found,path={CHAT},status=404}}"
        assert seen[not_found] == 1
        counters = {name for name in seen if name.startswith("slalom_scheduler_")}
        assert len(counters) >= len(world.runtime.snapshot().counters)


async def test_models_show_their_state() -> None:
    launcher = FakeLauncher(load=FakeLoad(duration_ns=500 * MS))
    params = GatewayParams((ServedModel("a", aliases=("alpha",)),))
    async with house({"a": launcher}, params=params) as world:
        _, document, _ = await world.get("/v1/models")
        card = document["data"][0]
        assert (card["id"], card["object"], card["owned_by"]) == ("a", "model", "slalom")
        assert card["slalom"]["state"] == "cold"
        assert card["slalom"]["aliases"] == ["alpha"]
        await world.stream(chat())
        _, card, _ = await world.get("/v1/models/alpha")
        assert card["slalom"]["state"] == "ready"
        assert card["slalom"]["bytes"] == 64 << 20
        assert len(card["slalom"]["replicas"]) == 1
        assert (await world.get("/v1/models/beta"))[0] == 404


async def test_a_failed_load_shows_in_the_models() -> None:
    launcher = FakeLauncher(load=FakeLoad(failure=FailureKind.MODEL_UNUSABLE))
    async with house({"a": launcher}) as world:
        await world.post(CHAT, chat())
        _, card, _ = await world.get("/v1/models/a")
        assert card["slalom"]["state"] == "failed"
        assert card["slalom"]["last_failure"]


async def test_readiness_fails_while_someone_starves() -> None:
    launcher = FakeLauncher(FakeScript(timings=FakeTimings(token_ns=10 * MS)))
    params = GatewayParams((ServedModel("a"),), starving_ns=50 * MS)
    async with house({"a": launcher}, params=params, places=1) as world:
        assert (await world.get("/ready"))[0] == 200
        async with world.http.post(
            f"{world.url}{CHAT}", json=chat(tokens=10_000, stream=True)
        ) as first:
            assert first.status == 200
            second = world.http.post(f"{world.url}{CHAT}", json=chat(tokens=1))
            waiting = asyncio.create_task(_read(second))
            await world.until(lambda: world.runtime.snapshot().oldest_wait_ns > 50 * MS)
            status, document, _ = await world.get("/ready")
            assert (status, document["status"]) == (503, "starving")
            assert "a" in document["reason"]
        assert await waiting == 200
        assert (await world.get("/ready"))[0] == 200


async def _read(request: Any) -> int:
    async with request as reply:
        await reply.read()
        return int(reply.status)


async def test_models_and_metrics_tell_who_sleeps() -> None:
    at_once = SchedulerParams(swap_patience_ns=0, min_residency_ns=0)
    launchers = {"a": FakeLauncher(), "b": FakeLauncher()}
    async with house(
        launchers, budget_bytes=100 * MIB, scheduler_params=at_once, sleep_level=2
    ) as world:
        for model in "ab":
            status, _, _ = await world.post("/v1/chat/completions", chat(model))
            assert status == 200
        _, card, _ = await world.get("/v1/models/a")
        assert card["slalom"]["state"] == "asleep"
        assert card["slalom"]["bytes"] == 0
        async with world.http.get(f"{world.url}/metrics") as reply:
            text = await reply.text()
        assert 'slalom_model_state{model="a",state="asleep"} 1.0' in text
