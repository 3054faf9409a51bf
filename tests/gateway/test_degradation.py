"""A name that stands for several models: who serves is told, and only who can is asked."""

from dataclasses import replace

import pytest

from slalom.core.request import Alternatives, Choice
from slalom.errors import ConfigError, RequestError
from slalom.gateway.catalogue import Catalogue
from slalom.gateway.params import GatewayParams, ServedAlias, ServedModel
from slalom.models.fim import FimTemplate
from slalom.testing import FakeLauncher, FakeLoad, FakeScript
from slalom.testing.scripted_planner import EveryLever
from slalom.units import SECOND
from tests.gateway.house import chat, house, last_body

ANY = ServedAlias("any", Alternatives(("a", "b"), Choice.WARM_FIRST))
FIM = FimTemplate("<P>", "<S>", "<M>")


def params(alias: ServedAlias = ANY, **more: object) -> GatewayParams:
    """Models a and b, and a name for both."""
    models = (ServedModel("a"), ServedModel("b"))
    return GatewayParams(models, aliases=(alias,), **more)  # type: ignore[arg-type]


def launchers(*, a_fim: bool = False, b_fim: bool = False) -> dict[str, FakeLauncher]:
    """Two models; the first takes long to load."""

    def script(fim: bool) -> FakeScript:
        base = FakeScript()
        return replace(base, capabilities=replace(base.capabilities, fim=FIM if fim else None))

    slow = FakeLoad(duration_ns=600 * SECOND)
    return {"a": FakeLauncher(script(a_fim), load=slow), "b": FakeLauncher(script(b_fim))}


async def test_the_one_that_is_ready_serves_and_is_named() -> None:
    async with house(launchers(), params=params()) as at:
        await at.stream(chat("b", tokens=1))
        status, told, headers = await at.post("/v1/chat/completions", chat("any"))
        assert status == 200
        assert headers["x-slalom-model"] == "b"
        assert told["choices"]
        assert last_body(at, "b")["model"] == at.engine("b").model_name
        assert [end.model for end in at.ended] == ["b", "b"]
        assert at.launchers["a"].launches == [], "nothing was loaded for it"


async def test_a_stream_names_it_too() -> None:
    async with house(launchers(), params=params()) as at:
        await at.stream(chat("b", tokens=1))
        url = f"{at.base_url}/chat/completions"
        async with at.http.post(url, json={**chat("any"), "stream": True}) as reply:
            assert reply.headers["x-slalom-model"] == "b"
            await reply.read()


async def test_a_client_that_waits_is_told_for_which() -> None:
    waits = params(wait_comment_after_ns=1)
    async with house(launchers(), params=waits) as at:
        url = f"{at.base_url}/chat/completions"
        async with at.http.post(url, json={**chat("any"), "stream": True}) as reply:
            assert reply.headers["x-slalom-model"] == "a"
            assert b"waiting" in await reply.content.readany()


async def test_an_estimate_names_it_and_says_why() -> None:
    async with house(launchers(), params=params(), admission=EveryLever()) as at:
        await at.stream(chat("b", tokens=1))
        _, told, _ = await at.post("/v1/estimate", chat("any"))
        assert (told["model"], told["asked"]) == ("b", "a")
        assert told["passed"] == [{"model": "a", "reason": "not_ready"}]
        _, told, _ = await at.post("/v1/estimate", chat("b"))
        assert "passed" not in told


async def test_tasks_that_may_not_be_degraded_are_not() -> None:
    only_chat = replace(ANY, tasks=("chat",))
    async with house(launchers(), params=params(only_chat), admission=EveryLever()) as at:
        await at.stream(chat("b", tokens=1))
        for task, model in (("chat", "b"), ("completion", "a")):
            _, told, _ = await at.post("/v1/estimate", chat("any"), {"x-slalom-task": task})
            assert told["model"] == model


@pytest.mark.parametrize(("b_fim", "model"), [(True, "b"), (False, "a")])
async def test_only_a_model_that_can_fill_in_is_asked_to(b_fim: bool, model: str) -> None:
    fills = launchers(a_fim=True, b_fim=b_fim)
    async with house(fills, params=params(), admission=EveryLever()) as at:
        await at.stream(chat("b", tokens=1))
        body = {"model": "any", "prompt": "x = ", "suffix": "\n", "max_tokens": 3}
        _, told, _ = await at.post("/v1/estimate", body)
        assert told["model"] == model


async def test_the_list_of_models_has_the_name() -> None:
    async with house(launchers(), params=params()) as at:
        _, told, _ = await at.get("/v1/models")
        cards = {card["id"]: card["slalom"] for card in told["data"]}
        assert cards["any"] == {"targets": ["a", "b"], "choice": "warm-first"}
        _, card, _ = await at.get("/v1/models/any")
        assert card["slalom"]["targets"] == ["a", "b"]


def test_a_name_may_declare_a_task_and_take_one_behind_a_colon() -> None:
    models = (ServedModel("a"), ServedModel("b"))
    named = replace(ANY, id="completion")
    catalogue = Catalogue(models, ["completion", "chat"], [named, ANY])
    assert catalogue.find("completion").task == "completion"
    assert catalogue.find("completion").alias is named
    assert catalogue.find("any:chat").task == "chat"
    assert catalogue.find("any:chat").alias is ANY
    with pytest.raises(RequestError):
        catalogue.find("anything")


def test_a_name_that_a_model_has_is_refused() -> None:
    models = (ServedModel("a"), ServedModel("b", aliases=("any",)))
    with pytest.raises(ConfigError, match="'any' belongs to"):
        Catalogue(models, [], [ANY])
