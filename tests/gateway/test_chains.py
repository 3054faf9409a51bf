"""Chains over HTTP: opened or only named, their progress and slack, and ways to get them wrong."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from openai import AsyncOpenAI

from slalom.core.actions import Outcome
from slalom.core.chain import Link
from slalom.gateway.params import GatewayParams, KeyEntry, ServedModel
from slalom.policies.trim.plan_and_trim import PlanAndTrim
from slalom.testing import FakeLauncher, FakeScript, FakeTimings
from slalom.units import SECOND
from slalom.workload.chains import ChainSpec, StepSpec
from slalom.workload.tasks import DEFAULT_TASKS
from tests.gateway.house import House, chat, house, last_body

MODELS = (ServedModel("a", aliases=("coder",)), ServedModel("b"))
REPAIR = ChainSpec(
    "repair",
    [
        StepSpec("generate", "a", "generation", 100, 40, then=("review", "accept")),
        StepSpec("review", "b", "chat", gap_ms=500, then=("repair",)),
        StepSpec("repair", "a", "generation", then=()),
        StepSpec("accept", "a", "chat", then=()),
    ],
    deadline_ms=30_000,
)
ALICE, BOB = {"x-api-key": "alice"}, {"x-api-key": "bob"}
KEYS = tuple(KeyEntry(name, hashlib.sha256(name.encode()).digest()) for name in ("alice", "bob"))


@asynccontextmanager
async def served(
    *, keys: tuple[KeyEntry, ...] = (), slow: bool = False, **params: Any
) -> AsyncIterator[House]:
    script = FakeScript(FakeTimings(token_ns=60 * SECOND)) if slow else FakeScript()
    launchers = {name: FakeLauncher(script) for name in "ab"}
    given = GatewayParams(MODELS, keys=keys, chains={"repair": REPAIR}, **params)
    async with house(launchers, params=given, admission=PlanAndTrim()) as world:
        yield world


def said(chain: str = "c", **words: object) -> dict[str, str]:
    """Headers of a call."""
    more = {f"x-slalom-chain-{name.replace('_', '-')}": str(it) for name, it in words.items()}
    return {"x-slalom-chain": chain, **more}


def link_of(world: House) -> Link:
    """The place in its chain of the request that ended last, as the scheduler was told of it."""
    return LINKS[id(world)][-1]


LINKS: dict[int, list[Link]] = {}


def watch(world: House) -> None:
    links: list[Link] = []
    LINKS[id(world)] = links

    def see(entry: Any) -> None:
        for event in entry.events:
            request = getattr(event, "request", None)
            if request is not None and request.link is not None:
                links.append(request.link)

    world.runtime.on_step.append(see)


async def call(
    world: House, headers: Mapping[str, str], model: str = "a", **more: Any
) -> tuple[int, dict[str, Any], Mapping[str, str]]:
    return await world.post("/v1/chat/completions", chat(model, **more), headers)


async def opened(
    world: House, headers: Mapping[str, str] | None = None, **body: Any
) -> dict[str, Any]:
    status, document, _ = await world.post("/v1/chains", body or {"template": "repair"}, headers)
    assert status == 200, document
    return document


async def test_a_call_that_names_a_chain_gets_its_progress_and_what_is_left() -> None:
    async with served() as world:
        watch(world)
        status, _, headers = await call(world, said(step=1, steps=3, deadline_ms=20_000))
        assert status == 200
        assert (headers["x-slalom-chain-step"], headers["x-slalom-chain-steps"]) == ("1", "3")
        assert 0 < float(headers["x-slalom-chain-slack-ms"]) < 20_000
        assert "queue=" in headers["x-slalom-estimate-ms"]
        assert "remaining=" in headers["x-slalom-estimate-ms"]
        link = link_of(world)
        assert (link.chain, link.step, link.steps, len(link.rest)) == ("c", 1, 3, 2)
        first_ns = link.deadline_ns
        await call(world, said(step=2, steps=3, deadline_ms=90_000))
        assert link_of(world).deadline_ns == first_ns, "the first word on it counts"
        assert len(link_of(world).rest) == 1


async def test_the_body_says_it_where_an_sdk_sends_no_headers() -> None:
    async with served() as world:
        watch(world)
        words = {"id": "c", "step": 2, "steps": 2, "deadline_ms": 5000.5}
        status, _, headers = await call(world, {}, slalom_chain=words)
        assert status == 200
        assert headers["x-slalom-chain-step"] == "2"
        assert link_of(world).is_last
        assert "slalom_chain" not in last_body(world), "it is no engine's affair"


async def test_every_protocol_hears_the_headers() -> None:
    async with served() as world:
        watch(world)
        message = {"model": "a", "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]}
        status, _, headers = await world.post("/v1/messages", message, said(step=1, steps=2))
        assert (status, headers["x-slalom-chain-step"]) == (200, "1")
        ollama = {"model": "a", "stream": False, "messages": message["messages"]}
        status, _, headers = await world.post("/api/chat", ollama, said(step=2, steps=2))
        assert (status, headers["x-slalom-chain-step"]) == (200, "2")


async def test_an_opened_chain_knows_its_steps_and_which_comes_next() -> None:
    async with served() as world:
        watch(world)
        chain = await opened(world, template="repair", deadline_ms=60_000)
        assert (chain["status"], chain["steps"], chain["next"]) == ("open", 3, "generate")
        assert [one["model"] for one in chain["expected"]] == ["a", "b", "a"]
        assert chain["slack_ms"] == pytest.approx(60_000 - chain["predicted_ms"], abs=1)
        status, _, headers = await call(world, said(chain["id"]))
        assert (status, headers["x-slalom-chain-step"]) == (200, "1")
        assert [one.model for one in link_of(world).rest] == ["b", "a"]
        assert link_of(world).rest[0].gap_ns == 500_000_000
        _, seen, _ = await world.get(f"/v1/chains/{chain['id']}")
        assert (seen["done"], seen["next"], seen["running"]) == (1, "review", 0)
        assert [one["step"] for one in seen["expected"]] == [2, 3]
        assert seen["predicted_ms"] < chain["predicted_ms"] + 1
        await call(world, said(chain["id"], step="accept"))
        assert link_of(world).is_last, "the short branch was taken"
        _, seen, _ = await world.get(f"/v1/chains/{chain['id']}")
        assert (seen["status"], seen["done"], seen["expected"]) == ("done", 2, [])


async def test_a_template_can_be_named_without_opening_anything() -> None:
    async with served() as world:
        watch(world)
        status, _, _ = await call(world, said("mine", template="repair", step="review"), "b")
        assert status == 200
        link = link_of(world)
        assert [one.task for one in link.rest] == ["generation"]
        assert link.deadline_ns > 0


async def test_an_abandoned_chain_frees_everything() -> None:
    async with served(slow=True) as world:
        chain = await opened(world)
        state = world.runtime._scheduler.state
        await world.until(lambda: state.models["a"].announced)
        asking = asyncio.create_task(call(world, said(chain["id"])))
        await world.until(lambda: world.gateway.shared.chains.find("", chain["id"]).live)
        await world.until(lambda: state.attempts)
        async with world.http.delete(f"{world.url}/v1/chains/{chain['id']}") as reply:
            assert (reply.status, (await reply.json())["status"]) == (200, "abandoned")
        status, document, _ = await asking
        assert (status, document["error"]["code"]) == (409, "chain_abandoned")
        await world.until(lambda: not state.attempts)
        assert not state.chains
        assert not state.models["a"].announced
        assert not state.models["b"].announced
        status, document, _ = await call(world, said(chain["id"]))
        assert (status, document["error"]["code"]) == (409, "chain_over")


WRONG: list[tuple[dict[str, str], str, str]] = [
    (said(step=4, steps=3), "chain_step_after_end", "x"),
    (said(deadline_ms=0), "invalid_chain", "past"),
    (said(deadline_ms=-5), "invalid_chain", "past"),
    (said(deadline_ms="soon"), "invalid_chain", "number"),
    (said(step=0), "invalid_chain", "1 to 64"),
    (said(steps=65), "invalid_chain", "1 to 64"),
    (said(step="review"), "chain_step_not_found", "no steps with names"),
    (said(template="nope"), "chain_template_not_found", "repair"),
    (said(template="repair", step="nope"), "chain_step_not_found", "generate, review"),
    (said(template="repair", step=4), "chain_step_after_end", "3"),
    (said("sp ace"), "invalid_chain", "letters"),
    ({"x-slalom-chain-step": "1"}, "invalid_chain", "x-slalom-chain"),
]


@pytest.mark.parametrize(("headers", "code", "says"), WRONG)
async def test_a_wrong_word_is_told_and_leaves_nothing_behind(
    headers: dict[str, str], code: str, says: str
) -> None:
    async with served() as world:
        status, document, _ = await call(world, headers)
        expected = 404 if "not_found" in code else 409 if "after_end" in code else 400
        assert (status, document["error"]["code"]) == (expected, code)
        assert says in document["error"]["message"] or says == "x"
        _leaked_nothing(world)


async def test_an_id_of_the_servers_kind_that_it_never_gave_is_not_found() -> None:
    async with served() as world:
        status, document, _ = await call(world, said("chain_made_up"))
        assert (status, document["error"]["code"]) == (404, "chain_not_found")
        status, _, _ = await world.get("/v1/chains/chain_made_up")
        assert status == 404
        _leaked_nothing(world)


BAD_BODIES: list[tuple[dict[str, Any], int, str, str]] = [
    ({"steps": [{"model": "a", "name": "x", "then": "x"}]}, 409, "impossible_chain", "circle"),
    (
        {"steps": [{"model": "a", "name": "x"}, {"model": "a", "name": "y", "then": ["x"]}]},
        409,
        "impossible_chain",
        "x -> y -> x",
    ),
    ({"steps": [{"model": "a", "then": []}, {"model": "a"}]}, 409, "impossible_chain", "leads to"),
    ({"steps": [{"model": "a", "then": "z"}]}, 409, "impossible_chain", "no step of this chain"),
    ({"steps": [{"model": "a", "name": "x"}] * 2}, 409, "impossible_chain", "called 'x'"),
    ({"steps": [{"model": "zzz"}]}, 404, "model_not_found", "zzz"),
    ({"steps": [{"model": "a", "task": "zzz"}]}, 404, "task_not_found", "zzz"),
    ({"steps": [{"model": "a", "gap_ms": -1}]}, 400, "invalid_chain", "gap_ms"),
    ({"steps": [{"model": "a", "prompt_tokens": 1.5}]}, 400, "invalid_chain", "prompt_tokens"),
    ({"steps": [{}]}, 400, "invalid_chain", "model"),
    ({"steps": [7]}, 400, "invalid_chain", "object"),
    ({"steps": []}, 400, "invalid_chain", "1 to 64"),
    ({"steps": [{"model": "a"}] * 65}, 400, "invalid_chain", "1 to 64"),
    ({}, 400, "invalid_chain", "template"),
    ({"template": "repair", "steps": []}, 400, "invalid_chain", "not both"),
    ({"template": "nope"}, 404, "chain_template_not_found", "nope"),
    ({"template": "repair", "deadline_ms": -1}, 400, "invalid_chain", "past"),
    ({"template": "repair", "deadline_ms": 1e12}, 400, "invalid_chain", "a day"),
    ({"template": "repair", "deadine_ms": 1}, 400, "invalid_chain", "deadine_ms"),
]


@pytest.mark.parametrize(("body", "status", "code", "says"), BAD_BODIES)
async def test_a_chain_that_cannot_be_run_is_not_opened(
    body: dict[str, Any], status: int, code: str, says: str
) -> None:
    async with served() as world:
        answered, document, _ = await world.post("/v1/chains", body)
        assert (answered, document["error"]["code"]) == (status, code)
        assert says in document["error"]["message"]
        _leaked_nothing(world)


async def test_a_chain_belongs_to_one_key() -> None:
    async with served(keys=KEYS) as world:
        chain = await opened(world, ALICE, template="repair")
        for headers in (said(chain["id"]), said("mine", step=1, steps=2)):
            status, _, _ = await call(world, {**ALICE, **headers})
            assert status == 200
        for headers in (said(chain["id"]), said("mine", step=2, steps=2)):
            status, document, _ = await call(world, {**BOB, **headers})
            assert (status, document["error"]["code"]) == (409, "chain_taken")
            assert "alice" not in str(document)
        status, document, _ = await world.get(f"/v1/chains/{chain['id']}", BOB)
        assert (status, document["error"]["code"]) == (404, "chain_not_found")
        async with world.http.delete(f"{world.url}/v1/chains/{chain['id']}", headers=BOB) as reply:
            assert reply.status == 404
        _, seen, _ = await world.get(f"/v1/chains/{chain['id']}", ALICE)
        assert (seen["status"], seen["done"]) == ("open", 1)


async def test_a_call_after_the_last_one_is_refused() -> None:
    async with served() as world:
        await call(world, said(step=1, steps=1))
        status, document, headers = await call(world, said(step=2))
        assert (status, document["error"]["code"]) == (409, "chain_step_after_end")
        assert headers["x-should-retry"] == "false", "SDKs would try a 409 again"
        status, _, _ = await call(world, said(step=2, steps=2))
        assert status == 200, "unless there are more calls than was said"


async def test_chains_are_bounded_and_those_that_are_over_make_room() -> None:
    async with served(chains_max=2) as world:
        first = await opened(world)
        await opened(world)
        status, document, headers = await world.post("/v1/chains", {"template": "repair"})
        assert (status, document["error"]["code"]) == (429, "too_many_chains")
        assert int(headers["retry-after"]) > 0
        async with world.http.delete(f"{world.url}/v1/chains/{first['id']}"):
            pass
        await opened(world)
        assert len(world.gateway.shared.chains) == 2


async def test_sdks_say_it_with_headers_or_in_the_body() -> None:
    async with served() as world:
        watch(world)
        client = AsyncOpenAI(base_url=world.base_url, api_key="none", max_retries=0)
        async with client:
            create = client.chat.completions.with_raw_response.create
            for words in (
                {"extra_headers": said("sdk", step=1, steps=2, deadline_ms=9_000)},
                {"extra_body": {"slalom_chain": {"id": "sdk"}}},
            ):
                reply = await create(**chat("a"), **words)
                assert float(reply.headers["x-slalom-chain-slack-ms"]) < 9_000
        assert [(link.step, link.is_last) for link in LINKS[id(world)]] == [(1, False), (2, True)]


async def test_a_request_is_worth_what_its_task_and_its_key_say() -> None:
    tasks = {**DEFAULT_TASKS, "chat": replace(DEFAULT_TASKS["chat"], weight=4.0, floor=0.8)}
    keys = (replace(KEYS[0], weight=0.5, floor=0.9), KEYS[1])
    seen: list[tuple[float, float]] = []
    async with served(keys=keys, tasks=tasks) as world:

        def see(entry: Any) -> None:
            asked = [event.request for event in entry.events if hasattr(event, "request")]
            seen.extend((one.weight, one.floor) for one in asked)

        world.runtime.on_step.append(see)
        for key, task in ((ALICE, "chat"), (BOB, "chat"), (BOB, "generation")):
            status, _, _ = await call(world, {**key, "x-slalom-task": task})
            assert status == 200
    assert seen == [(2.0, 0.9), (4.0, 0.8), (1.0, 0.0)]


async def test_metrics_count_chains() -> None:
    async with served() as world:
        await call(world, said("whole", step=1, steps=1))
        await call(world, said("half", step=1, steps=2))

        async def text() -> str:
            async with world.http.get(f"{world.url}/metrics") as reply:
                return await reply.text()

        await world.until(lambda: len(world.ended) == 2)
        told = await text()
        assert "slalom_chains_open 1.0" in told
        assert 'slalom_chains_ended_total{how="done"} 1.0' in told
        assert 'slalom_chains_ended_total{how="abandoned"} 0.0' in told


async def test_records_tell_of_the_chain() -> None:
    async with served() as world:
        await call(world, said(step=1, steps=2, deadline_ms=20_000))
        await world.until(lambda: world.gateway.records.latest(1))
        (record,) = world.gateway.records.latest(1)
        assert (record["chain"], record["chain_step"], record["chain_steps"]) == ("c", 1, 2)
        assert 0 < record["chain_left_ms"] < 20_000
        assert world.ended[-1].outcome is Outcome.DONE


async def test_an_estimate_counts_what_remains_of_the_chain() -> None:
    async with served() as world:
        await call(world, {})
        body = chat("a")
        _, plain, _ = await world.post("/v1/estimate", body)
        assert plain["parts"]["remaining_ms"] is None
        _, found, _ = await world.post("/v1/estimate", body, said(steps=3, deadline_ms=60_000))
        assert found["parts"]["remaining_ms"] > 0
        assert found["would_hold"] is True
        _, found, _ = await world.post("/v1/estimate", body, said(steps=3, deadline_ms=1))
        assert found["would_hold"] is False
        assert "after its deadline" in found["reason"]
        _leaked_nothing(world)


def _leaked_nothing(world: House) -> None:
    assert len(world.gateway.shared.chains) == 0
    assert len(world.runtime._scheduler.state.chains) == 0
