"""Keys, admin routes, and where a server may listen."""

import hashlib
import logging
import socket

import pytest

from slalom.errors import ConfigError
from slalom.gateway.app import app
from slalom.gateway.auth import check_exposure, is_loopback, key_digest
from slalom.gateway.params import GatewayParams, KeyEntry, ServedModel, TaskRule
from slalom.gateway.server import GatewayServer
from tests.gateway.house import chat, house

CHAT = "/v1/chat/completions"
USER = KeyEntry("alice", key_digest("user-secret"), task="summarisation")
ADMIN = KeyEntry("root", key_digest("admin-secret"), admin=True)
MODELS = (ServedModel("a"),)


def params(*keys: KeyEntry) -> GatewayParams:
    return GatewayParams(MODELS, keys=keys)


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


async def test_keys_open_the_api_and_give_their_task() -> None:
    async with house(params=params(USER, ADMIN)) as world:
        for headers, expected in [
            ({}, 401),
            (bearer("wrong"), 401),
            ({"authorization": "Basic user-secret"}, 401),
            ({"x-api-key": "user-secret "}, 200),  # the header's value is trimmed by HTTP itself
            ({"x-api-key": "user-secret"}, 200),
            (bearer("user-secret"), 200),
            (bearer("admin-secret"), 200),
        ]:
            status, document, reply = await world.post(CHAT, chat(), headers)
            assert status == expected, headers
            if status == 401:
                assert document["error"]["type"] == "authentication_error"
                assert reply["www-authenticate"] == "Bearer"
            assert (await world.get("/v1/models", headers))[0] == expected
        status, _, reply = await world.post(CHAT, chat(), bearer("user-secret"))
        assert reply["x-slalom-task"] == "summarisation"
        await world.until(lambda: len(world.ended) == 5)
        assert {end.key for end in world.ended} == {"alice", "root"}
        assert (await world.get("/health"))[0] == 200
        assert (await world.get("/ready"))[0] == 200


async def test_admin_routes_need_an_admin_key() -> None:
    async with house(params=params(USER, ADMIN)) as world:
        for path in ("/admin/snapshot", "/admin/status", "/admin/requests", "/admin/requests/x"):
            assert (await world.get(path))[0] == 401
            assert (await world.get(path, bearer("user-secret")))[0] == 403
        status, document, _ = await world.get("/admin/snapshot", bearer("admin-secret"))
        assert (status, document["models"][0]["id"]) == (200, "a")
        status, document, _ = await world.get("/admin/requests/nope", bearer("admin-secret"))
        assert (status, document["error"]["code"]) == (404, "not_found")


async def test_without_an_admin_key_nobody_administrates() -> None:
    async with house() as world:
        status, document, _ = await world.get("/admin/snapshot")
        assert (status, document["error"]["code"]) == (403, "admin_key_needed")
        assert "admin: true" in document["error"]["message"]


async def test_keys_are_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with house(params=params(USER, ADMIN)) as world:
        await world.post(CHAT, chat(), bearer("user-secret"))
        await world.post(CHAT, chat(), bearer("almost-secret"))
        await world.until(lambda: len(world.gateway.records.latest(9)) == 2)
        _, document, _ = await world.get("/admin/requests", bearer("admin-secret"))
        shown = f"{caplog.text}{document}{world.gateway.params!r}{world.gateway!r}"
    for secret in ("user-secret", "almost-secret", "admin-secret"):
        assert secret not in shown
        assert hashlib.sha256(secret.encode()).hexdigest() not in shown
        assert repr(key_digest(secret)) not in shown


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.3.2.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.7", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_off_loopback_needs_keys(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    check_exposure(host, has_keys=True, insecure=False)
    check_exposure(host, has_keys=False, insecure=True)
    if loopback:
        check_exposure(host, has_keys=False, insecure=False)
    else:
        with pytest.raises(ConfigError, match="keys"):
            check_exposure(host, has_keys=False, insecure=False)


async def test_the_server_refuses_what_it_must() -> None:
    async with house() as world:
        with pytest.raises(ConfigError, match="insecure"):
            GatewayServer(world.gateway, host="0.0.0.0")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            server = GatewayServer(world.gateway, port=taken.getsockname()[1])
            with pytest.raises(ConfigError, match="another port"):
                await server.start()
        with pytest.raises(ConfigError, match="cannot listen"):
            await GatewayServer(world.gateway, host="no.such.host.invalid", insecure=True).start()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (GatewayParams((ServedModel("a", aliases=("b",)), ServedModel("b"))), "belongs to"),
        (GatewayParams(MODELS, rules=(TaskRule("nap", path="/"),)), "unknown task 'nap'"),
        (GatewayParams(MODELS, keys=(KeyEntry("k", b"", task="nap"),)), "key 'k'"),
        (GatewayParams((ServedModel("a", default_task="nap"),)), "model 'a'"),
        (GatewayParams(MODELS, default_task="nap"), "default task"),
    ],
)
async def test_contradicting_parameters_are_refused(wrong: GatewayParams, says: str) -> None:
    async with house() as world:
        with pytest.raises(ConfigError, match=says):
            app(world.runtime, wrong)
