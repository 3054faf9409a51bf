"""`/v1/estimate`: what would happen, told without anything happening."""

import asyncio
from typing import Any

from slalom.core.journal import Entry, replay
from slalom.core.planning import Planning
from slalom.core.scheduler import Scheduler
from slalom.gateway.auth import key_digest
from slalom.gateway.params import GatewayParams, KeyEntry, ServedModel
from slalom.testing import FakeLauncher, FakeLoad, FakeScript, FakeTimings
from slalom.testing.scripted_planner import EveryLever
from slalom.units import MS, SECOND
from tests.gateway.house import chat, house

PATH = "/v1/estimate"
LEVERS: Planning = EveryLever()


async def test_it_tells_when_where_and_whether() -> None:
    async with house(admission=LEVERS) as at:
        await at.stream(chat(tokens=1))
        status, told, headers = await at.post(PATH, chat(), {"x-slalom-task": "summarisation"})
        assert status == 200
        assert headers["x-request-id"]
        # The planner's rule: a millisecond for each token read, a second for each that waits.
        assert told.pop("predicted_ttft_ms") < 100
        assert told == {
            "object": "estimate",
            "model": "a",
            "task": "summarisation",
            "resident": True,
            "replica": "a#0",
            "would_hold": True,
            "chance": 0.75,
            "predicted_start_ms": 0.0,
            "predicted_e2e_ms": 1000.0,
            "parts": {"queue_ms": 0.0, "execution_ms": 1000.0, "remaining_ms": None},
            "targets": {"ttft_ms": None, "tpot_ms": None, "e2e_ms": 5000.0},
            "reason": "Every target is expected to hold.",
        }
        assert [end.request_id for end in at.ended] == [at.ended[0].request_id], "nothing ran"


async def test_it_says_which_target_would_break() -> None:
    async with house(admission=LEVERS) as at:
        await at.stream(chat(tokens=1))
        _, told, _ = await at.post(PATH, {"model": "a", "prompt": "x"}, {"x-slo-e2e-ms": "400"})
        assert told["would_hold"] is False
        assert "The end is expected after 1" in told["reason"]
        assert "later than its target" in told["reason"]
        _, told, _ = await at.post(PATH, {"model": "a", "input": "x"})
        assert told["task"] == "embedding"


async def test_a_model_that_is_not_there_comes_first() -> None:
    launcher = FakeLauncher(load=FakeLoad(duration_ns=20 * SECOND))
    async with house({"a": launcher}, admission=LEVERS) as at:
        _, told, _ = await at.post(PATH, chat())
        assert (told["resident"], told["would_hold"], told["chance"]) == (False, None, None)
        assert "cold" in told["reason"]
        assert launcher.launches == [], "asking loads nothing"


async def test_without_a_planner_it_is_not_implemented() -> None:
    async with house() as at:
        status, told, _ = await at.post(PATH, chat())
        assert status == 501
        assert told["error"]["code"] == "no_prediction"
        assert "plan-and-trim" in told["error"]["message"]


async def test_it_is_checked_as_the_request_would_be() -> None:
    key = KeyEntry("k", key_digest("secret"))
    params = GatewayParams((ServedModel("a"),), keys=(key,))
    async with house(params=params, admission=LEVERS) as at:
        assert (await at.post(PATH, chat()))[0] == 401
        bearer = {"authorization": "Bearer secret"}
        assert (await at.post(PATH, chat("b"), bearer))[0] == 404
        assert (await at.post(PATH, {"model": "a", "prompt": 5}, bearer))[0] == 400
        assert (await at.get(PATH, bearer))[0] == 405


async def test_a_journal_with_estimates_in_it_replays() -> None:
    slow = FakeLauncher(FakeScript(timings=FakeTimings(token_ns=20 * MS)))
    async with house({"a": slow}, places=1, admission=LEVERS) as at:
        entries: list[Entry] = []
        fresh = Scheduler(
            [model.spec for model in at.runtime._scheduler.state.models.values()],
            [device.spec for device in at.runtime._scheduler.state.devices.values()],
            at.runtime._scheduler.policies,
        )
        at.runtime.on_step.append(entries.append)
        streams = [asyncio.create_task(at.stream(chat(tokens=9))) for _ in range(4)]

        async def ask() -> Any:
            return await at.post(PATH, chat())

        while not all(stream.done() for stream in streams):
            await ask()
        assert replay(fresh, entries) is None
        assert any(not entry.events and not entry.actions for entry in entries)
