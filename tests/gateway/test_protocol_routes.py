"""Paths that protocols share: the request says which one it means, and so do its errors."""

import json
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from slalom.errors import RequestError
from slalom.gateway.auth import key_digest
from slalom.gateway.error_table import Failure
from slalom.gateway.params import GatewayParams, KeyEntry, ServedModel
from slalom.gateway.protocols import registry
from slalom.gateway.protocols.frame import Asked, Internal, SideAsk, SideRoute, WireProtocol
from slalom.gateway.protocols.openai import PassThrough
from slalom.gateway.replies import json_response
from slalom.gateway.resolution import COMPLETIONS_PATH
from tests.gateway.house import house

LANGUAGES = {"pieces": {"prefix": "def f("}}


def _read(asked: Asked) -> Internal:
    pieces = asked.body["pieces"]
    if not isinstance(pieces.get("prefix"), str):
        raise RequestError("pieces.prefix must be a text.", param="pieces.prefix")
    body = {"model": "a", "prompt": pieces["prefix"], "max_tokens": 2}
    return Internal(COMPLETIONS_PATH, body, PassThrough(), notices=("read by a rival",))


def _error(failure: Failure, request_id: str) -> bytes:
    return json.dumps({"rival": failure.message, "id": request_id}).encode()


async def _hello(ask: SideAsk) -> Response:
    return json_response({"hello": ask.key.name if ask.key else ""})


async def _echo(ask: SideAsk) -> Response:
    return json_response(await ask.document())


def _means_rival(request: Request) -> bool:
    return "x-rival" in request.headers


def rival(_params: GatewayParams) -> WireProtocol:
    return WireProtocol(
        "rival",
        {COMPLETIONS_PATH: _read},
        error_body=_error,
        side_routes=(
            SideRoute("/health", _hello, claims=_means_rival),
            SideRoute("/rival/hello", _hello),
            SideRoute("/rival/admin", _hello, admin=True),
            SideRoute("/rival/echo", _echo, ("POST",)),
        ),
        claims=lambda asked: "pieces" in asked.body,
    )


@pytest.fixture(autouse=True)
def _one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "PROTOCOLS", (*registry.PROTOCOLS, rival))


async def test_a_request_is_read_by_the_protocol_that_claims_it() -> None:
    async with house() as world:
        _, plain, headers = await world.post(COMPLETIONS_PATH, {"model": "a", "prompt": "x"})
        assert plain["choices"]
        assert "x-slalom-notice" not in headers
        status, claimed, headers = await world.post(COMPLETIONS_PATH, LANGUAGES)
        assert status == 200
        assert claimed["choices"][0]["text"] == " w0 w1"
        assert headers["x-slalom-notice"] == "read by a rival"


async def test_errors_are_in_the_shape_of_the_protocol_that_claimed_the_request() -> None:
    async with house() as world:
        status, document, headers = await world.post(COMPLETIONS_PATH, {"pieces": {"prefix": 1}})
        assert status == 400
        assert document == {
            "rival": "pieces.prefix must be a text.",
            "id": headers["x-request-id"],
        }
        _, document, _ = await world.post(COMPLETIONS_PATH, {"model": "a", "prompt": 1})
        assert document["error"]["param"] == "prompt"


async def test_a_side_route_is_shared_by_what_the_request_says() -> None:
    async with house() as world:
        assert (await world.get("/health"))[1] == {"status": "ok"}
        assert (await world.get("/health", {"x-rival": "1"}))[1] == {"hello": ""}
        assert (await world.post("/rival/hello", {}))[0] == 405


async def test_side_routes_are_behind_keys() -> None:
    keys = (KeyEntry("k", key_digest("right")), KeyEntry("root", key_digest("top"), admin=True))
    params = GatewayParams((ServedModel("a"),), keys=keys)
    async with house(params=params) as world:
        status, document, headers = await world.get("/rival/hello")
        assert status == 401
        assert document.keys() == {"rival", "id"}
        assert headers["www-authenticate"] == "Bearer"
        assert (await world.get("/rival/hello", {"x-api-key": "right"}))[1] == {"hello": "k"}
        assert (await world.get("/rival/admin", {"x-api-key": "right"}))[0] == 403
        assert (await world.get("/rival/admin", {"x-api-key": "top"}))[1] == {"hello": "root"}


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"[]", 400), (b"{", 400), (b"{}", 200), (b'{"a": "%s"}' % (b"x" * 200), 413)],
)
async def test_the_body_of_a_side_route_is_bounded_and_given_back(body: bytes, status: int) -> None:
    params = GatewayParams((ServedModel("a"),), body_bytes_max=100)
    headers = {"content-type": "application/json"}
    async with house(params=params) as world:
        url = f"{world.url}/rival/echo"
        async with world.http.post(url, data=body, headers=headers) as reply:
            assert reply.status == status
            document: Any = await reply.json()
        assert ("rival" in document) is (status != 200)
        async with world.http.post(url, data=body) as reply:
            assert reply.status == 415
        assert world.gateway._shared.bytes_inside == 0


async def test_bodies_of_side_routes_count_with_all_others() -> None:
    params = GatewayParams((ServedModel("a"),), bodies_bytes_max=10)
    async with house(params=params) as world:
        status, _, headers = await world.post("/rival/echo", {"a": "x" * 50})
        assert status == 503
        assert headers["retry-after"] == "1"
        assert world.gateway._shared.bytes_inside == 0
