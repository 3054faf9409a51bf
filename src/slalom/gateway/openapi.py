"""The OpenAPI document of a gateway, made from the tables of its protocols.

Owns which operations there are and what all of them have in common: keys, errors, media types.
The bodies of requests are `openapi_bodies`'; a route without a row there takes any object. Called
by `cold_routes` for `GET /openapi.json`.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import slalom
from slalom.gateway import estimates
from slalom.gateway.openapi_bodies import BODIES, Schema, answer_media
from slalom.gateway.params import GatewayParams
from slalom.gateway.protocols.frame import WireProtocol

_JSON = "application/json"
#: What a streamed answer may come as.
_STREAMS = ("text/event-stream", "application/x-ndjson")
_OBJECT: Schema = {"type": "object"}
_ANYTHING: Schema = {}
_PLACE = re.compile(r"{(\w+)(?::\w+)?}")
#: Routes that answer without a key, also where keys are configured.
_OPEN = frozenset(("/health", "/ready", "/openapi.json"))


def document(
    params: GatewayParams,
    protocols: Sequence[WireProtocol],
    built_in: Iterable[tuple[str, str, str]],
) -> dict[str, Any]:
    """The document.

    Args:
        params: Whether keys are needed, and which models there are.
        protocols: All that are spoken here.
        built_in: Method, path and summary of the documents that belong to no protocol.
    """
    paths: dict[str, dict[str, Any]] = {}
    for protocol in protocols:
        for path in protocol.reads:
            _add(paths, path, "post", _inference(protocol.name, path))
            _add(paths, estimates.PATH + path, "post", _estimate(protocol.name, path))
        for side in protocol.side_routes:
            for method in side.methods:
                _add(paths, side.path, method.lower(), _side(protocol.name, side.path, method))
    _add(paths, estimates.PATH, "post", _estimate("openai", ""))
    for method, path, summary in built_in:
        _add(paths, path, method, _operation("slalom", summary, _answer(path)))
    for path, operations in paths.items():
        for operation in operations.values():
            _guard(operation, path, keyed=bool(params.keys))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Slalom",
            "version": slalom.__version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": {
                "Model": {
                    "type": "string",
                    "minLength": 1,
                    "examples": [model.id for model in params.models],
                }
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _add(
    paths: dict[str, dict[str, Any]], path: str, method: str, operation: dict[str, Any]
) -> None:
    """The first protocol with a path describes it."""
    names = _PLACE.findall(path)
    if names:
        operation["parameters"] = [
            {
                "name": name,
                "in": "path",
                "required": True,
                "schema": {"type": "string", "minLength": 1},
            }
            for name in names
        ]
    paths.setdefault(_PLACE.sub(r"{\1}", path), {}).setdefault(method, operation)


def _operation(tag: str, summary: str, answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "tags": [tag],
        "summary": summary,
        "responses": {
            "2XX": answer,
            # A refusal: which are possible is a matter of the table of errors, not of the route.
            "default": {
                "description": "An error in the shape of the protocol.",
                "content": {_JSON: {"schema": _ANYTHING}},
            },
        },
    }


def _inference(tag: str, path: str) -> dict[str, Any]:
    content = {_JSON: {"schema": _OBJECT}, **{kind: {} for kind in _STREAMS}}
    operation = _operation(
        tag,
        f"{path}: an answer, whole or streamed.",
        {"description": "The answer.", "content": content},
    )
    return {**operation, "requestBody": _request(path)}


def _estimate(tag: str, path: str) -> dict[str, Any]:
    operation = _operation(
        tag,
        "What would become of a request that came now.",
        {"description": "The estimate.", "content": {_JSON: {"schema": _OBJECT}}},
    )
    return {**operation, "requestBody": _request(path)}


def _side(tag: str, path: str, method: str) -> dict[str, Any]:
    operation = _operation(tag, f"{method} {path}", _answer(path))
    if method == "POST" and not path.endswith("/cancel"):
        operation["requestBody"] = _request(path)
    return operation


def _answer(path: str) -> dict[str, Any]:
    content = {kind: {"schema": schema} for kind, schema in answer_media(path).items()}
    return {"description": "The document.", "content": content}


def _request(path: str) -> dict[str, Any]:
    kind, schema = BODIES.get(path, (_JSON, _OBJECT))
    return {"required": True, "content": {kind: {"schema": schema}}}


def _guard(operation: dict[str, Any], path: str, *, keyed: bool) -> None:
    if (keyed and path not in _OPEN) or path.startswith("/admin/"):
        operation["security"] = [{"bearer": []}, {"key": []}]
