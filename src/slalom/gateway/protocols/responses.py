"""OpenAI's Responses: one request for a turn, and what is kept for the next.

Owns the table, the ids, and the routes that read, list and delete kept responses. How requests
are read is `responses_request`'s, how answers are written `responses_answer`'s, how long they are
kept `responses_store`'s. Built by `registry`.
"""

import hashlib
import secrets
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from slalom.errors import RequestError
from slalom.gateway import request_body
from slalom.gateway.params import GatewayParams, KeyEntry
from slalom.gateway.protocols.frame import Asked, Internal, SideAsk, SideRoute, WireProtocol
from slalom.gateway.protocols.responses_answer import ResponseTeller
from slalom.gateway.protocols.responses_request import (
    listed_items,
    messages_of,
    options,
    with_instructions,
)
from slalom.gateway.protocols.responses_store import Kept, ResponseStore, encoded, messages_in
from slalom.gateway.protocols.responses_tools import Tools, choose_tools, tools_of, wrong
from slalom.gateway.protocols.translation import Translated
from slalom.gateway.replies import json_response
from slalom.gateway.resolution import CHAT_PATH
from slalom.gateway.token_count import count_chat

PATH = "/v1/responses"


def protocol(params: GatewayParams) -> WireProtocol:
    """The table, with a store of its own."""
    responses = _Responses(params)
    one = f"{PATH}/{{id}}"
    return WireProtocol(
        name="responses",
        reads={PATH: responses.read},
        side_routes=(
            SideRoute(f"{PATH}/input_tokens", responses.count_tokens, ("POST",)),
            SideRoute(f"{one}/input_items", responses.list_items),
            SideRoute(one, responses.show_or_delete, ("GET", "DELETE")),
        ),
    )


class _Responses:
    """Reads requests and keeps what came of them."""

    def __init__(self, params: GatewayParams) -> None:
        self._store = ResponseStore(params.responses_bytes_max, params.responses_age_s)
        self._bytes_max = params.answer_bytes_max
        self._body_bytes_max = params.body_bytes_max
        self._salt = secrets.token_bytes(16)

    def read(self, asked: Asked) -> Internal:
        """Turn a request into a chat."""
        body, key = asked.body, _key(asked.key)
        items = listed_items(body)
        tools = tools_of(body)
        fields = options(body)
        own = messages_of(items)
        before = self._before(body, key)
        fields["messages"] = with_instructions(body.get("instructions"), messages_in(before) + own)
        fields |= choose_tools(body, tools)
        frame = self._frame(asked)

        def keep(response: dict[str, Any], message: dict[str, Any]) -> None:
            if body.get("store") is False:
                return
            previous = body.get("previous_response_id") or ""
            kept = (encoded(response), encoded(items), encoded([*own, message]))
            self._store.keep(key, Kept(response["id"], previous, *kept))

        writer = Translated(ResponseTeller(frame, tools, self._bytes_max, keep))
        return Internal(
            CHAT_PATH,
            fields,
            writer,
            notices=_notices(tools),
            more_bytes=sum(len(kept.messages) for kept in before),
        )

    def _before(self, body: Mapping[str, Any], key: str) -> list[Kept]:
        """The conversation that a request goes on behind."""
        previous = body.get("previous_response_id")
        if not previous:
            return []
        found = self._store.conversation(key, previous)
        if found is None:
            raise RequestError(
                f"previous_response_id: {previous[:80]!a} is not kept here (any more). Responses "
                "are kept unless 'store' is false, for a time and within a bound; send the whole "
                "conversation as 'input' instead.",
                code="previous_response_not_found",
                param="previous_response_id",
            )
        if sum(len(kept.messages) for kept in found) > self._body_bytes_max:
            raise RequestError(
                f"previous_response_id: the conversation is larger than {self._body_bytes_max} "
                "bytes (server.max_body_mib).",
                code="body_too_large",
                param="previous_response_id",
            )
        return found

    def _frame(self, asked: Asked) -> dict[str, Any]:
        """The response as far as the request tells it."""
        body = asked.body
        digest = hashlib.blake2b(asked.request_id.encode(), key=self._salt, digest_size=16)
        text = body.get("text") or {}
        return {
            "id": f"resp_{digest.hexdigest()}",
            "object": "response",
            "created_at": asked.received_s,
            "status": "in_progress",
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": body.get("instructions"),
            "max_output_tokens": body.get("max_output_tokens"),
            "metadata": body.get("metadata") or {},
            "model": body.get("model"),
            "output": [],
            "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
            "previous_response_id": body.get("previous_response_id"),
            "reasoning": body.get("reasoning") or {"effort": None, "summary": None},
            "store": body.get("store") is not False,
            "temperature": body.get("temperature"),
            "text": {"format": {"type": "text"}, **text},
            "tool_choice": body.get("tool_choice") or "auto",
            "tools": [_shown(tool) for tool in body.get("tools") or ()],
            "top_p": body.get("top_p"),
            "truncation": "disabled",
            "usage": None,
        }

    def _find(self, ask: SideAsk) -> Kept:
        response_id = ask.request.path_params["id"]
        kept = self._store.find(_key(ask.key), response_id)
        if kept is None:
            raise RequestError(
                f"There is no response {response_id[:80]!a} here: it was not stored, was deleted, "
                "or had to make room.",
                code="not_found",
                param="id",
            )
        return kept

    async def show_or_delete(self, ask: SideAsk) -> Response:
        """A kept response, or its end."""
        kept = self._find(ask)
        if ask.request.method == "DELETE":
            self._store.drop(_key(ask.key), kept.id)
            return json_response({"id": kept.id, "object": "response", "deleted": True})
        if ask.request.query_params.get("stream") == "true":
            raise wrong("stream", "is for answers under way: a kept one comes whole")
        return Response(kept.document, media_type="application/json")

    async def list_items(self, ask: SideAsk) -> Response:
        """What a kept response was the answer to; all on one page."""
        kept = self._find(ask)
        items = [
            {"id": f"item_{kept.id[5:]}_{index}", "status": "completed", **_listed(item)}
            for index, item in enumerate(kept.input_items())
        ]
        if ask.request.query_params.get("order") != "asc":
            items.reverse()
        ends = {"first_id": items[0]["id"], "last_id": items[-1]["id"]}
        return json_response({"object": "list", "data": items, "has_more": False, **ends})

    async def count_tokens(self, ask: SideAsk) -> Response:
        """How many tokens a request has."""
        body = await ask.document()
        own = messages_of(listed_items(body))
        before = messages_in(self._before(body, _key(ask.key)))
        chat = options(body) | choose_tools(body, tools_of(body))
        chat["messages"] = with_instructions(body.get("instructions"), before + own)
        request_body.check_fields(chat, chat=True, embeddings=False)
        model = ask.shared.catalogue.find(chat["model"]).model
        counted = await count_chat(ask.shared.runtime, model.id, chat)
        document = {"object": "response.input_tokens", "input_tokens": counted.tokens}
        return json_response(document, {"x-slalom-token-count": counted.source})


def _key(key: KeyEntry | None) -> str:
    return key.name if key is not None else ""


def _notices(tools: Tools) -> tuple[str, ...]:
    return tuple(
        f"tool type {kind!a} is not known here and was left out" for kind in tools.left_out
    )


def _shown(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool as responses show it: a function with all its fields."""
    if tool.get("type") != "function":
        return tool
    return {"parameters": None, "strict": False, **tool}


def _listed(item: dict[str, Any]) -> dict[str, Any]:
    """An item of an input as it is listed: a message with its type, its texts in parts."""
    if item.get("type", "message") != "message":
        return item
    content = item.get("content")
    if isinstance(content, str):
        kind = "output_text" if item.get("role") == "assistant" else "input_text"
        part: dict[str, Any] = {"type": kind, "text": content}
        if kind == "output_text":
            part |= {"annotations": [], "logprobs": []}
        return {**item, "type": "message", "content": [part]}
    return {**item, "type": "message"}
