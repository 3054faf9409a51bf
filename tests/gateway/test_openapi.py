"""The OpenAPI document names every route that there is, and nothing else."""

from typing import Any

from starlette.responses import Response

from slalom.gateway import estimates
from slalom.gateway.app import Gateway
from slalom.gateway.params import GatewayParams, KeyEntry, ServedModel
from slalom.gateway.protocols.frame import SideAsk, SideRoute, WireProtocol
from slalom.gateway.protocols.registry import Protocols
from slalom.gateway.replies import Message, Scope
from tests.gateway.house import House, chat, house

PARAMS = GatewayParams((ServedModel("a"),))


async def _nothing(_ask: SideAsk) -> Response:
    return Response()


class _Transport:
    """One request without a socket."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}

    def scope(self, method: str, path: str) -> Scope:
        return {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [],
            "query_string": b"",
        }

    async def receive(self) -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])


async def told(world: House) -> dict[str, Any]:
    status, document, _ = await world.get("/openapi.json")
    assert status == 200
    assert document["openapi"] == "3.1.0"
    return document


def references(document: Any) -> set[str]:
    """Every reference of a document."""
    if isinstance(document, dict):
        own = {document["$ref"]} if isinstance(document.get("$ref"), str) else set()
        return own.union(*(references(value) for value in document.values()))
    if isinstance(document, list):
        return set().union(*(references(value) for value in document))
    return set()


async def test_every_route_of_every_protocol_is_there() -> None:
    async with house() as world:
        paths = (await told(world))["paths"]
        for protocol in Protocols(PARAMS).all:
            for path in protocol.reads:
                assert "requestBody" in paths[path]["post"]
                assert "post" in paths[estimates.PATH + path]
            for side in protocol.side_routes:
                methods = paths[side.path.replace(":path}", "}")]
                assert {method.lower() for method in side.methods} <= methods.keys()
        assert {"/health", "/metrics", "/openapi.json", "/v1/models/{name}"} <= paths.keys()


async def test_every_route_that_is_told_answers() -> None:
    async with house() as world:
        for path, methods in (await told(world))["paths"].items():
            for method in methods:
                url = world.url + path.replace("{", "").replace("}", "")
                async with world.http.request(
                    method, url, json={} if method == "post" else None
                ) as reply:
                    text = await reply.text()
                assert reply.status != 405, f"{method} {path}"
                assert "Routes:" not in text, f"{method} {path}"


async def test_a_wrong_method_is_told_the_right_ones() -> None:
    two = (SideRoute("/two", _nothing), SideRoute("/two", _nothing, ("PUT",)))
    table = WireProtocol("two rows of one path", {}, side_routes=two)
    async with house() as world:
        gateway = Gateway(world.runtime, PARAMS, (table,))
        transport = _Transport()
        await gateway(transport.scope("DELETE", "/two"), transport.receive, transport.send)
        assert transport.status == 405
        assert transport.headers[b"allow"] == b"GET, HEAD, PUT"


async def test_references_lead_somewhere_and_models_are_named() -> None:
    async with house() as world:
        document = await told(world)
        names = {"Model", "ChainWords"}
        assert references(document) == {f"#/components/schemas/{name}" for name in names}
        assert document["components"]["schemas"]["Model"]["examples"] == ["a"]


async def test_keys_are_asked_for_where_they_are_needed() -> None:
    async with house() as world:
        paths = (await told(world))["paths"]
        assert "security" not in paths["/v1/models"]["get"]
        assert "security" in paths["/admin/status"]["get"]
    keyed = GatewayParams((ServedModel("a"),), keys=(KeyEntry("k", b"0" * 32),))
    async with house(params=keyed) as world:
        paths = (await told(world))["paths"]
        for path, methods in paths.items():
            for method, operation in methods.items():
                url = world.url + path.replace("{", "").replace("}", "")
                async with world.http.request(method, url, json=chat()) as reply:
                    locked = reply.status in {401, 403}
                assert locked == ("security" in operation), f"{method} {path}"
