"""Operators steer models over HTTP: asks, dry runs, the feed, and what requests may wish."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from slalom.core.params import SchedulerParams
from slalom.core.request import Swap
from slalom.errors import RequestError
from slalom.gateway import admin_feed
from slalom.gateway.admin_feed import Feed
from slalom.gateway.auth import key_digest
from slalom.gateway.params import GatewayParams, KeyEntry, ServedModel
from slalom.gateway.residency_wishes import read_wishes, without_wishes
from slalom.testing import FakeLauncher
from slalom.units import MIB, SECOND
from tests.gateway.house import WAIT_S, House, chat, house

USER = KeyEntry("alice", key_digest("user-secret"))
ADMIN = KeyEntry("root", key_digest("admin-secret"), admin=True)
AS_ADMIN = {"authorization": "Bearer admin-secret"}
AS_USER = {"authorization": "Bearer user-secret"}
AT_ONCE = SchedulerParams(swap_patience_ns=0, min_residency_ns=0)
CHAT = "/v1/chat/completions"


@asynccontextmanager
async def two_models(**more: Any) -> AsyncIterator[House]:
    """Two models of which one fits at a time."""
    params = GatewayParams((ServedModel("a"), ServedModel("b")), keys=(USER, ADMIN))
    launchers = {"a": FakeLauncher(), "b": FakeLauncher()}
    settings = {"budget_bytes": 100 * MIB, "scheduler_params": AT_ONCE, **more}
    async with house(launchers, params=params, **settings) as world:
        yield world


def state(world: House, model: str) -> str:
    return next(one.state.value for one in world.runtime.snapshot().models if one.id == model)


async def ask(world: House, model: str, what: str) -> tuple[int, dict[str, Any]]:
    status, document, _ = await world.post(f"/admin/models/{model}/{what}", {}, AS_ADMIN)
    return status, document


@pytest.mark.parametrize("what", ["load", "sleep", "wake", "unload", "pin", "unpin"])
async def test_only_admins_may_ask(what: str) -> None:
    async with two_models() as world:
        for headers, expected in ((AS_USER, 403), ({}, 401)):
            status, _, _ = await world.post(f"/admin/models/a/{what}", {}, headers)
            assert status == expected
        for path in ("/admin/plan?model=a", "/admin/events"):
            assert (await world.get(path, AS_USER))[0] == 403


async def test_without_an_admin_key_the_plane_is_closed() -> None:
    async with house() as world:
        status, document, _ = await world.post("/admin/models/a/load", {})
        assert (status, document["error"]["code"]) == (403, "admin_key_needed")


async def test_a_model_is_loaded_and_unloaded_at_a_word() -> None:
    async with two_models() as world:
        status, document = await ask(world, "a", "load")
        assert (status, document["asked"]) == (202, "load")
        await world.until(lambda: state(world, "a") == "ready")
        assert (await ask(world, "a", "unload"))[0] == 202
        await world.until(lambda: state(world, "a") == "cold")


async def test_a_refusal_says_what_is_needed_what_is_free_and_who_holds_the_rest() -> None:
    async with two_models() as world:
        await ask(world, "a", "pin")
        await world.until(lambda: state(world, "a") == "ready")
        status, document = await ask(world, "b", "load")
        error = document["error"]
        assert (status, error["code"]) == (503, "model_does_not_fit")
        assert (error["needed_bytes"], error["free_bytes"]) == (64 * MIB, 36 * MIB)
        assert error["holders"][0]["replica_id"] == "a#0"
        status, document = await ask(world, "a", "unload")
        assert (status, document["error"]["code"]) == (409, "model_pinned")


async def test_unknown_models_are_not_found() -> None:
    async with two_models() as world:
        assert (await ask(world, "nobody", "load"))[0] == 404
        assert (await world.get("/admin/plan?model=nobody", AS_ADMIN))[0] == 404
        assert (await world.get("/admin/plan", AS_ADMIN))[0] == 400


async def test_a_dry_run_names_the_victim_and_changes_nothing() -> None:
    async with two_models() as world:
        await world.post(CHAT, chat("a"), AS_USER)
        before = world.runtime.snapshot()
        _, plan, _ = await world.get("/admin/plan?model=b", AS_ADMIN)
        assert (plan["fits"], plan["resident"], plan["victims"]) == (True, False, ["a#0"])
        assert plan["shortfall_bytes"] == 28 * MIB
        assert plan["patience_s"] == 0.0
        after = world.runtime.snapshot()
        assert after.counters == before.counters
        assert after.models == before.models
        _, plan, _ = await world.get("/admin/plan?model=a", AS_ADMIN)
        assert (plan["resident"], plan["victims"]) == (True, [])
        await ask(world, "a", "pin")
        _, plan, _ = await world.get("/admin/plan?model=b", AS_ADMIN)
        assert not plan["fits"]


async def test_the_feed_tells_a_swap_in_its_stages() -> None:
    async with two_models() as world, asyncio.timeout(WAIT_S):
        before = len(world.runtime.on_step)
        await world.post(CHAT, chat("a"), AS_USER)
        async with world.http.get(f"{world.url}/admin/events", headers=AS_ADMIN) as reply:
            assert reply.headers["content-type"].startswith("text/event-stream")
            await reply.content.readuntil(b"\n\n")
            await world.post(CHAT, chat("b"), AS_USER)
            names: list[str] = []
            while names.count("ready") < 1:
                event = (await reply.content.readuntil(b"\n\n")).decode()
                if event.startswith("event: "):
                    head, data = event.strip().split("\n")
                    names.append(head.removeprefix("event: "))
                    fields = json.loads(data.removeprefix("data: "))
                    if names[-1] == "evict":
                        assert fields["victims"] == ["a#0"]
                    if names[-1] == "unload":
                        assert fields["cause"] == "evicted"
        stages = [name for name in names if name != "progress"]
        assert stages == ["evict", "unload", "gone", "load", "ready"]
        await world.until(lambda: len(world.runtime.on_step) == before)


async def test_the_last_evictions_are_kept_and_counted_by_cause() -> None:
    async with two_models() as world:
        for model in "aba":
            await world.post(CHAT, chat(model), AS_USER)
        _, document, _ = await world.get("/admin/evictions", AS_ADMIN)
        assert [one["victims"] for one in document["data"]] == [["b#0"], ["a#0"]]
        await ask(world, "a", "unload")
        await world.until(lambda: state(world, "a") == "cold")
        async with world.http.get(f"{world.url}/metrics", headers=AS_USER) as reply:
            metrics = await reply.text()
        assert 'slalom_swaps_total{cause="evicted",kind="unload"} 2.0' in metrics
        assert 'slalom_swaps_total{cause="asked",kind="unload"} 1.0' in metrics


async def test_a_reader_that_is_too_slow_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_feed, "_WAITING_MAX", 3)
    feed = Feed()
    async with two_models() as world:
        world.runtime.on_step.append(feed.see)
        await world.post(CHAT, chat("a"), AS_USER)
        await world.post(CHAT, chat("b"), AS_USER)
    assert feed.overrun
    assert await feed.news(0.0) == b""


async def test_a_request_says_how_long_its_model_is_kept() -> None:
    async with two_models() as world:
        await world.post(CHAT, chat("a", keep_alive=0), AS_USER)
        await world.until(lambda: state(world, "a") == "cold")
        await world.post(CHAT, chat("a", ttl=3600), AS_USER)
        wishes = world.runtime._scheduler.state.models["a"].wishes
        assert wishes.kept_until_ns > world.runtime.now_ns() + 3000 * SECOND


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/embed", {"input": "x"}),
        ("/api/embeddings", {"prompt": "x"}),
        ("/api/generate", {"prompt": "x", "stream": False}),
        ("/api/chat", {"messages": [{"role": "user", "content": "x"}], "stream": False}),
        ("/api/generate", {"stream": False}),
    ],
)
async def test_ollamas_clients_say_how_long_their_model_is_kept(
    path: str, body: dict[str, Any]
) -> None:
    async with two_models() as world:
        if body != {"stream": False}:  # without a prompt that would be a load for nothing
            await world.post(path, {"model": "a", **body, "keep_alive": 0}, AS_USER)
            await world.until(lambda: state(world, "a") == "cold")
        status, _, _ = await world.post(path, {"model": "a", **body, "keep_alive": "1h"}, AS_USER)
        assert status == 200
        wishes = world.runtime._scheduler.state.models["a"].wishes
        assert wishes.kept_until_ns > world.runtime.now_ns() + 3000 * SECOND


async def test_a_request_may_allow_no_swap() -> None:
    async with two_models() as world:
        await world.post(CHAT, chat("a"), AS_USER)
        status, document, _ = await world.post(CHAT, chat("b", allow_swap="never"), AS_USER)
        assert (status, document["error"]["code"]) == (503, "swap_not_allowed")
        header = {**AS_USER, "x-slalom-allow-swap": "never"}
        status, _, _ = await world.post(CHAT, chat("b", allow_swap="normal"), header)
        assert status == 503
        assert state(world, "a") == "ready"


async def test_only_admin_keys_may_pin() -> None:
    async with two_models() as world:
        status, document, _ = await world.post(CHAT, chat("a", pin=True), AS_USER)
        assert (status, document["error"]["code"]) == (403, "admin_key_needed")
        status, _, _ = await world.post(CHAT, chat("a", pin=True), AS_ADMIN)
        assert status == 200
        status, document, _ = await world.post(CHAT, chat("b"), AS_USER)
        assert document["error"]["code"] == "model_does_not_fit"


@pytest.mark.parametrize(
    ("body", "keep_ns"),
    [
        ({"keep_alive": "5m"}, 300 * SECOND),
        ({"keep_alive": 2}, 2 * SECOND),
        ({"ttl": 7}, 7 * SECOND),
        ({"keep_alive": "1h", "ttl": 7}, 3600 * SECOND),
        ({"keep_alive": -1}, 30 * 24 * 3600 * SECOND),
        ({"keep_alive": 1e15}, 30 * 24 * 3600 * SECOND),
        ({}, -1),
    ],
)
def test_how_long_in_the_words_of_others(body: dict[str, Any], keep_ns: int) -> None:
    assert read_wishes({}, body, None).keep_ns == keep_ns


def test_engines_do_not_see_wishes() -> None:
    body = {"model": "a", "ttl": 1, "keep_alive": "1m", "allow_swap": "idle", "pin": False}
    assert without_wishes(body) == {"model": "a"}


def test_headers_win_over_the_body() -> None:
    headers = {"x-slalom-keep-alive": "30", "x-slalom-allow-swap": "idle"}
    wishes = read_wishes(headers, {"ttl": 7, "allow_swap": "never"}, None)
    assert (wishes.keep_ns, wishes.allow_swap) == (30 * SECOND, Swap.IDLE)


@pytest.mark.parametrize(
    "body", [{"keep_alive": "soon"}, {"ttl": True}, {"allow_swap": "maybe"}, {"pin": "perhaps"}]
)
def test_what_makes_no_sense_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        read_wishes({}, body, ADMIN)
