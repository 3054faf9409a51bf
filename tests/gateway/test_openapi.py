"""The OpenAPI document names every route that there is, and nothing else."""

from typing import Any

from slalom.gateway import estimates
from slalom.gateway.params import GatewayParams, KeyEntry, ServedModel
from slalom.gateway.protocols.registry import Protocols
from tests.gateway.house import House, chat, house

PARAMS = GatewayParams((ServedModel("a"),))


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


async def test_references_lead_somewhere_and_models_are_named() -> None:
    async with house() as world:
        document = await told(world)
        assert references(document) == {"#/components/schemas/Model"}
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
