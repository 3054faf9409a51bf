"""Mistral's protocol: fill-in-the-middle, and its list of models.

Owns the table and the reading of requests; the answers' words are `mistral_answer`'s. Its chat is
OpenAI's and needs nothing here. Built by `registry`.
"""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from slalom.errors import RequestError
from slalom.gateway.params import GatewayParams, ServedModel
from slalom.gateway.protocols.frame import Asked, Internal, SideAsk, SideRoute, WireProtocol
from slalom.gateway.protocols.mistral_answer import FillTeller, error_body
from slalom.gateway.protocols.translation import Translated
from slalom.gateway.replies import json_response
from slalom.gateway.resolution import COMPLETIONS_PATH
from slalom.gateway.shared import Shared

#: Fields that mean the same in the internal form.
_SAME = ("temperature", "top_p", "max_tokens", "min_tokens", "stop", "metadata")


def protocol(_params: GatewayParams) -> WireProtocol:
    """The table."""
    return WireProtocol(
        name="mistral",
        reads={"/v1/fim/completions": _read},
        error_body=error_body,
        side_routes=(
            SideRoute("/v1/models", _models, claims=_speaks_mistral),
            SideRoute("/v1/models/{name:path}", _model, claims=_speaks_mistral),
        ),
    )


def _read(asked: Asked) -> Internal:
    given = asked.body
    prompt, suffix, seed = given.get("prompt"), given.get("suffix"), given.get("random_seed")
    if not isinstance(prompt, str):
        raise RequestError("prompt must be the text before the cursor.", param="prompt")
    if not isinstance(suffix, str | None):
        raise RequestError("suffix must be the text behind the cursor.", param="suffix")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise RequestError("random_seed must be an integer.", param="random_seed")
    stream = given.get("stream")
    if not isinstance(stream, bool | None):
        raise RequestError("stream must be true or false.", param="stream")
    body: dict[str, Any] = {"model": given.get("model"), "prompt": prompt, "suffix": suffix or ""}
    body |= {name: given[name] for name in _SAME if given.get(name) is not None}
    if seed is not None:
        body["seed"] = seed
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    teller = FillTeller(asked.request_id, str(given.get("model")), asked.received_s)
    return Internal(COMPLETIONS_PATH, body, Translated(teller), at_cursor=True)


def _speaks_mistral(request: Request) -> bool:
    """Its clients' programs say so; to others the list of models is OpenAI's."""
    return "mistral" in request.headers.get("user-agent", "").lower()


async def _models(ask: SideAsk) -> Response:
    cards = [_card(ask.shared, model) for model in ask.shared.catalogue.models]
    return json_response({"object": "list", "data": cards})


async def _model(ask: SideAsk) -> Response:
    named = ask.shared.catalogue.find(ask.request.path_params["name"])
    return json_response(_card(ask.shared, named.model))


def _card(shared: Shared, model: ServedModel) -> dict[str, Any]:
    can, facts = shared.runtime.capabilities(model.id), model.facts
    chats = facts.chats and not can.embeddings
    card: dict[str, Any] = {
        "id": model.id,
        "object": "model",
        "created": shared.started_s,
        "owned_by": "slalom",
        "name": model.id,
        "aliases": [*model.aliases, *model.tasks],
        "type": "base",
        "capabilities": {
            "completion_chat": chats,
            "completion_fim": can.fim is not None,
            "function_calling": chats and can.tools,
            "reasoning": facts.thinks,
            "fine_tuning": False,
            "vision": False,
        },
    }
    if facts.context_tokens:
        card["max_context_length"] = facts.context_tokens
    return card
