"""Anthropic's protocol: messages, the count of their tokens, the list of models.

Owns the table. How requests are read is `anthropic_request`'s, how answers are written
`anthropic_answer`'s. Built by `registry`.
"""

from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from slalom.gateway import request_body
from slalom.gateway.params import GatewayParams, ServedModel
from slalom.gateway.protocols.anthropic_answer import MessageTeller, error_body
from slalom.gateway.protocols.anthropic_request import Notes, internal_body
from slalom.gateway.protocols.frame import Asked, Internal, SideAsk, SideRoute, WireProtocol
from slalom.gateway.protocols.translation import Translated
from slalom.gateway.replies import json_response
from slalom.gateway.resolution import CHAT_PATH
from slalom.gateway.shared import Shared
from slalom.gateway.token_count import count_chat

_VERSION = "anthropic-version"


def protocol(_params: GatewayParams) -> WireProtocol:
    """The table."""
    return WireProtocol(
        name="anthropic",
        reads={"/v1/messages": _read},
        error_body=error_body,
        id_header=b"request-id",
        side_routes=(
            SideRoute("/v1/messages/count_tokens", _count_tokens, ("POST",)),
            SideRoute("/v1/models", _models, claims=_speaks_anthropic),
            SideRoute("/v1/models/{name:path}", _model, claims=_speaks_anthropic),
        ),
    )


def _read(asked: Asked) -> Internal:
    notes = Notes()
    body = internal_body(asked.body, notes)
    teller = MessageTeller(asked.request_id, str(body.get("model", "")))
    return Internal(CHAT_PATH, body, Translated(teller), notices=tuple(notes.found))


async def _count_tokens(ask: SideAsk) -> Response:
    body = internal_body(await ask.document(), Notes())
    request_body.check_fields(body, chat=True, embeddings=False)
    model = ask.shared.catalogue.find(body["model"]).model
    counted = await count_chat(ask.shared.runtime, model.id, body)
    return json_response({"input_tokens": counted.tokens}, {"x-slalom-token-count": counted.source})


def _speaks_anthropic(request: Request) -> bool:
    return _VERSION in request.headers


async def _models(ask: SideAsk) -> Response:
    data = [_card(ask.shared, model) for model in ask.shared.catalogue.models]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
    return json_response({"data": data, "has_more": False, **ends})


async def _model(ask: SideAsk) -> Response:
    named = ask.shared.catalogue.find(ask.request.path_params["name"])
    return json_response(_card(ask.shared, named.model))


def _card(shared: Shared, model: ServedModel) -> dict[str, Any]:
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.id,
        "created_at": datetime.fromtimestamp(shared.started_s, UTC).isoformat(),
        "lifecycle": "active",
    }
