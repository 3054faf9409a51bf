"""The OpenAPI document of a gateway, made from the tables of its protocols.

Owns which operations there are and what all of them have in common: keys, errors, media types.
The bodies of requests are `openapi_bodies`', answers and errors `openapi_answers`'; a route
without a row there takes any object. Called by `cold_routes` for `GET /openapi.json`.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import slalom
from slalom.gateway import chain_words, estimates
from slalom.gateway.openapi_answers import WHOLES, answer_media, error_schema
from slalom.gateway.openapi_bodies import (
    BODIES,
    BODILESS,
    NEEDED_QUERIES,
    POST_QUERIES,
    QUERIES,
)
from slalom.gateway.openapi_chains import WORDS
from slalom.gateway.openapi_schemas import (
    MODEL,
    OBJECT,
    WORD,
    Schema,
    any_of,
    or_null,
    with_field,
)
from slalom.gateway.params import GatewayParams
from slalom.gateway.protocols.frame import SideRoute, WireProtocol

_JSON = "application/json"
#: Every call may say which chain it belongs to; defined once in the document.
_CHAIN = or_null({"$ref": "#/components/schemas/ChainWords"})
#: What a streamed answer may come as.
_STREAMS = ("text/event-stream", "application/x-ndjson")
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
    # Where several answer on a path, those who claim a request by a header are not described.
    claimed: list[tuple[WireProtocol, SideRoute]] = []
    for protocol in protocols:
        for path in protocol.reads:
            _add(paths, path, "post", _inference(protocol.name, path))
            _add(paths, estimates.PATH + path, "post", _estimate(protocol.name, path))
        for side in protocol.side_routes:
            if side.claims is None:
                _add_side(paths, protocol, side)
            else:
                claimed.append((protocol, side))
    _add(paths, estimates.PATH, "post", _estimate("openai", ""))
    for method, path, summary in built_in:
        _add(paths, path, method, _operation("slalom", summary, path, _answer(method, path)))
    for protocol, side in claimed:
        _add_side(paths, protocol, side)
    for path, operations in paths.items():
        for operation in operations.values():
            _guard(operation, path, keyed=bool(params.keys))
    names = [name for model in params.models for name in (model.id, *model.aliases, *model.tasks)]
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
                    # A name may have a task behind a colon.
                    **any_of({"enum": names or [""]}, WORD),
                    "examples": [model.id for model in params.models],
                },
                "ChainWords": WORDS,
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
    plain = _plain(path)
    parameters = [_parameter("path", name, _segment(name)) for name in _PLACE.findall(path)]
    queries = {"get": QUERIES, "post": POST_QUERIES}.get(method, {})
    for name, schema in queries.get(plain, {}).items():
        needed = (plain, name) in NEEDED_QUERIES
        parameters.append(_parameter("query", name, schema, needed=needed))
    if parameters:
        operation["parameters"] = parameters
    paths.setdefault(plain, {}).setdefault(method, operation)


def _plain(path: str) -> str:
    """A path as OpenAPI writes it."""
    return _PLACE.sub(r"{\1}", path)


def _segment(name: str) -> Schema:
    return MODEL if name == "name" else WORD


def _parameter(place: str, name: str, schema: Schema, *, needed: bool = True) -> dict[str, Any]:
    return {"name": name, "in": place, "required": needed, "schema": schema}


def _add_side(paths: dict[str, dict[str, Any]], protocol: WireProtocol, side: SideRoute) -> None:
    for method in side.methods:
        _add(paths, side.path, method.lower(), _side(protocol.name, side.path, method))


def _operation(tag: str, summary: str, path: str, answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "tags": [tag],
        "summary": summary,
        "responses": {
            "2XX": answer,
            # A refusal: which are possible is a matter of the table of errors, not of the route.
            "default": {
                "description": "An error in the shape of the protocol.",
                "content": {_JSON: {"schema": error_schema(tag, path)}},
            },
        },
    }


def _inference(tag: str, path: str) -> dict[str, Any]:
    whole = WHOLES.get(path, OBJECT)
    content = {_JSON: {"schema": whole}, **{kind: {} for kind in _STREAMS}}
    answer = {"description": "The answer.", "content": content}
    operation = _operation(tag, f"{path}: an answer, whole or streamed.", path, answer)
    return {**operation, "requestBody": _call(path)}


def _estimate(tag: str, path: str) -> dict[str, Any]:
    answer = {
        "description": "The estimate.",
        "content": {_JSON: {"schema": WHOLES["estimate"]}},
    }
    summary = "What would become of a request that came now."
    operation = _operation(tag, summary, path, answer)
    return {**operation, "requestBody": _call(path or estimates.PATH)}


def _side(tag: str, path: str, method: str) -> dict[str, Any]:
    operation = _operation(tag, f"{method} {path}", path, _answer(method.lower(), path))
    if method == "POST" and path not in BODILESS:
        operation["requestBody"] = _request(path)
    return operation


def _answer(method: str, path: str) -> dict[str, Any]:
    media = answer_media(method, _plain(path))
    if not media:
        return {"description": "Nothing."}
    content = {kind: {"schema": schema} for kind, schema in media.items()}
    return {"description": "The document.", "content": content}


def _request(path: str) -> dict[str, Any]:
    media, schema = BODIES.get(path, (_JSON, OBJECT))
    return {"required": True, "content": {media: {"schema": schema}}}


def _call(path: str) -> dict[str, Any]:
    """The body of a call to a model."""
    _, schema = BODIES.get(path, (_JSON, OBJECT))
    schema = with_field(schema, chain_words.FIELD, _CHAIN)
    return {"required": True, "content": {_JSON: {"schema": schema}}}


def _guard(operation: dict[str, Any], path: str, *, keyed: bool) -> None:
    if (keyed and path not in _OPEN) or path.startswith("/admin/"):
        operation["security"] = [{"bearer": []}, {"key": []}]
