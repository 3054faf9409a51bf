"""From a client's body to the engine's: model name, token limit, usage, fill-in-the-middle.

Owns what Slalom changes in a body, and the estimate of the prompt's size. A body that needs no
change goes upstream as the very bytes that came. Pure. Called by `inference`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from slalom.engines.protocol import Call, Engine
from slalom.errors import RequestError
from slalom.gateway import continuing, fill_in
from slalom.models.fim import FimTemplate
from slalom.runtime.sink import Terms

_encode = msgspec.json.encode

#: Bytes of source code per token, about right for code models' tokenizers. The estimate feeds
#: targets and the order of the queue, never a limit, so it may be off by a third.
BYTES_PER_TOKEN = 3.5
#: Tokens a chat template adds around one message.
TOKENS_PER_MESSAGE = 4
#: The fields in which clients and engines name the limit of an answer.
_LIMITS = ("max_tokens", "max_completion_tokens", "n_predict")


@dataclass(slots=True)
class Outgoing:
    """What is to be sent, before it is known which engine serves it."""

    path: str
    #: The client's bytes; empty where it speaks another protocol.
    raw: bytes
    #: The parsed body; never written to.
    body: Mapping[str, Any]
    #: Fields to set over the body's.
    changes: Mapping[str, Any]
    #: Headers for the engine.
    headers: Mapping[str, str]
    #: Fallback template where the engine itself names none.
    fim: FimTemplate | None = None
    #: Whether prompt and suffix become one fill-in-the-middle prompt.
    infill: bool = False
    #: Fields to set for an answer that is looked at before its client gets it.
    asking: Mapping[str, Any] = field(default_factory=dict)

    def call(self, engine: Engine, terms: Terms) -> Call:
        """The call in this engine's words, on these terms.

        Raises:
            RequestError: The body cannot be written again.
        """
        body, headers = self.body, self.headers
        if terms.attempt > 1:
            # Engines that take over the id would find the attempt before still under way.
            headers = {**headers, "x-request-id": f"{headers['x-request-id']}.{terms.attempt}"}
        priority = terms.priority if engine.capabilities.priority else body.get("priority")
        asking = self.asking if terms.judged else {}
        rewritten = bool(self.changes or asking) or body["model"] != engine.model_name
        agreed = terms.max_tokens or terms.resumed_tokens or priority != body.get("priority")
        if self.raw and not rewritten and not self.infill and not agreed:
            return Call(path=self.path, body=self.raw, headers=headers)
        fields = {**body, **self.changes, **asking, "model": engine.model_name}
        if priority is not None:
            fields["priority"] = priority
        template = engine.capabilities.fim or self.fim
        if self.infill and template is not None:
            fill_in.fill(fields, template)
        if (most := engine.capabilities.stops_max) is not None:
            _fit_stops(fields, body, most)
        if terms.max_tokens or terms.resumed_tokens:
            _limit(fields, terms)
        if terms.resumed_text:
            continuing.go_on(fields, terms.resumed_text, engine.capabilities)
        try:
            return Call(path=self.path, body=_encode(fields), headers=headers)
        except (RecursionError, UnicodeEncodeError) as problem:
            raise RequestError(
                f"The body cannot be passed on ({type(problem).__name__}).", code="invalid_json"
            ) from None


def _fit_stops(fields: dict[str, Any], body: Mapping[str, Any], most: int) -> None:
    """Leave out stop texts of ours that the engine would refuse the request for.

    More of the client's own are its own affair.
    """
    stops, own = fields.get("stop"), body.get("stop")
    if isinstance(stops, list) and len(stops) > most:
        fields["stop"] = stops[: max(most, len(own) if isinstance(own, list) else 0)]


def _limit(fields: dict[str, Any], terms: Terms) -> None:
    """Set the limit of the answer to what the scheduler grants and the client has not got yet."""
    named = [name for name in _LIMITS if fields.get(name) is not None] or [_LIMITS[0]]
    for name in named:
        asked = fields.get(name, terms.max_tokens)
        granted = max(terms.max_tokens // (fields.get("n") or 1), 1) if terms.max_tokens else asked
        fields[name] = max(min(asked, granted) - terms.resumed_tokens, 1)


@dataclass(slots=True)
class Limits:
    """How long the answer may get."""

    #: Tokens over all choices.
    max_tokens: int
    changes: Mapping[str, Any]


def limits(body: Mapping[str, Any], default_max_tokens: int) -> Limits:
    """The token limit of a request, and what to set where the client named none.

    llama.cpp would otherwise go on to the end of the context.
    """
    named = body.get("max_completion_tokens") or body.get("max_tokens")
    changes: dict[str, Any] = {}
    if named is None:
        of_llama = body.get("n_predict")
        if of_llama is not None and of_llama > 0:
            named = of_llama
        elif of_llama == 0:  # a warm-up: engines other than llama.cpp know no answer of no token
            named = 1
            changes = {"max_tokens": 1, "n_predict": 1}
        else:
            named = default_max_tokens
            changes["max_tokens"] = default_max_tokens
            if of_llama is not None:
                changes["n_predict"] = default_max_tokens
    return Limits(named * (body.get("n") or 1), changes)


def usage_changes(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """What to set so that the stream reports its usage, and whether to hide it again.

    Slalom counts tokens by the engine's own figures; a client that did not ask gets no chunk
    it does not expect.
    """
    options = body.get("stream_options") or {}
    if options.get("include_usage") is True:
        return {}, False
    return {"stream_options": {**options, "include_usage": True}}, True


def prompt_tokens(body: Mapping[str, Any], *, chat: bool) -> int:
    """Estimated tokens of a checked body's prompt, from its bytes: no tokenizer is asked."""
    if not chat:
        around = _tokens(body.get("suffix")) + sum(map(_tokens, fill_in.texts(body)))
        return _tokens(body.get("prompt", body.get("input"))) + around
    count = 0
    for message in body["messages"]:
        content = message.get("content")
        if isinstance(content, list):
            content = [part.get("text") for part in content if isinstance(part, dict)]
        count += _tokens(content) + TOKENS_PER_MESSAGE
    tools = body.get("tools")
    return count + (int(len(_encode(tools)) / BYTES_PER_TOKEN) if tools else 0)


def _tokens(text: object) -> int:
    if isinstance(text, str):
        size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        return int(size / BYTES_PER_TOKEN) + 1
    if isinstance(text, list):
        if text and isinstance(text[0], int):
            return len(text)
        return sum(_tokens(part) for part in text)
    return 0
