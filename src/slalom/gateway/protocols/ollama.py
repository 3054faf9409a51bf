"""Ollama's protocol: generate, chat, embed, and the documents about models.

Owns the table and which internal request each route becomes. How fields are read is
`ollama_request`'s, how answers are written `ollama_answer`'s, the documents are
`ollama_models`'s. Built by `registry`.
"""

from typing import Any

from slalom.gateway.params import GatewayParams, ModelFacts
from slalom.gateway.protocols import ollama_models, ollama_request
from slalom.gateway.protocols.frame import Asked, Internal, WireProtocol
from slalom.gateway.protocols.ollama_answer import EmbedTeller, OllamaTeller, error_body
from slalom.gateway.protocols.ollama_request import wrong
from slalom.gateway.protocols.translation import Translated
from slalom.gateway.resolution import CHAT_PATH, COMPLETIONS_PATH, EMBEDDINGS_PATH

#: The prompt of requests that only load: engines answer none that is empty.
_ANY_PROMPT = " "


def protocol(params: GatewayParams) -> WireProtocol:
    """The table."""
    reads = _Reads(params)
    return WireProtocol(
        name="ollama",
        reads={
            "/api/generate": reads.generate,
            "/api/chat": reads.chat,
            "/api/embed": reads.embed,
            "/api/embeddings": reads.embeddings,
        },
        error_body=error_body,
        side_routes=ollama_models.SIDE_ROUTES,
        reload=reads.reload,
    )


class _Reads:
    """Reads bodies, knowing which models there are.

    Args:
        params: What the gateway was told.
    """

    def __init__(self, params: GatewayParams) -> None:
        self._facts: dict[str, ModelFacts] = {}
        self.reload(params)

    def reload(self, params: GatewayParams) -> None:
        """These models are there."""
        self._facts = {
            name: model.facts
            for model in params.models
            for name in (model.id, *model.aliases, *model.tasks)
        }

    def generate(self, asked: Asked) -> Internal:
        """A text: a chat of one message, unless it is raw or has something behind the cursor."""
        body, notices = asked.body, list[str]()
        name, facts = self._model(body)
        prompt = ollama_request.text_of(body, "prompt")
        suffix = ollama_request.text_of(body, "suffix")
        system = ollama_request.text_of(body, "system")
        raw = ollama_request.flag_of(body, "raw", default=False)
        if ollama_request.text_of(body, "template"):
            raise wrong("template", "cannot be set here: send the whole prompt with raw: true")
        fields = {"model": name, **ollama_request.settings(body, facts, notices)}
        if body.get("context"):
            notices.append("context ignored: send the conversation to /api/chat")
        first = [{"role": "system", "content": system}] if system else []
        asks = [*first, ollama_request.user_message(prompt, body.get("images"))]
        of_chats = ollama_request.chat_fields(body)
        if not prompt and not suffix and not body.get("images"):
            return _load(asked, fields, notices, chat=False)
        teller = OllamaTeller(name, asked.received_s)
        if raw or suffix or not facts.chats:
            if body.get("images"):
                raise wrong("images", "are seen in chats only, not by raw prompts or suffixes")
            fields |= ollama_request.text_fields(body)
            fields["prompt"] = f"{system}\n\n{prompt}" if system and not suffix else prompt
            if suffix:
                fields["suffix"] = suffix
            return Internal(COMPLETIONS_PATH, fields, Translated(teller), notices=tuple(notices))
        fields |= {**of_chats, "messages": asks}
        return Internal(CHAT_PATH, fields, Translated(teller), notices=tuple(notices))

    def chat(self, asked: Asked) -> Internal:
        """A conversation."""
        body, notices = asked.body, list[str]()
        name, facts = self._model(body)
        fields = {"model": name, **ollama_request.settings(body, facts, notices)}
        messages = ollama_request.messages_of(body.get("messages", []))
        of_chats, tools = ollama_request.chat_fields(body), ollama_request.tools_of(body)
        if not messages:
            return _load(asked, fields, notices, chat=True)
        fields |= {**of_chats, "messages": messages}
        if tools:
            fields["tools"] = tools
        teller = OllamaTeller(name, asked.received_s, chat=True)
        return Internal(CHAT_PATH, fields, Translated(teller), notices=tuple(notices))

    def embed(self, asked: Asked) -> Internal:
        """Vectors of one or more texts."""
        return self._vectors(asked, asked.body.get("input"), "input", single=False)

    def embeddings(self, asked: Asked) -> Internal:
        """The vector of one text, as older clients ask for it."""
        return self._vectors(asked, asked.body.get("prompt"), "prompt", single=True)

    def _vectors(self, asked: Asked, texts: object, where: str, *, single: bool) -> Internal:
        name, _ = self._model(asked.body)
        listed = texts if isinstance(texts, list) and not single else [texts]
        if not listed or not all(isinstance(text, str) and text for text in listed):
            raise wrong(where, "must be a text" if single else "must be a text or a list of texts")
        fields: dict[str, Any] = {"model": name, "input": listed, "encoding_format": "float"}
        if ollama_request.keep_alive_s(asked.body) is not None:
            fields["keep_alive"] = asked.body["keep_alive"]
        size = asked.body.get("dimensions")
        if size is not None:
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise wrong("dimensions", "must be a whole number above 0")
            fields["dimensions"] = size
        return Internal(EMBEDDINGS_PATH, fields, Translated(EmbedTeller(name, single=single)))

    def _model(self, body: dict[str, Any]) -> tuple[str, ModelFacts]:
        """The model's name without the tag that Ollama's clients add, and what is known of it."""
        name = body.get("model")
        if not isinstance(name, str) or not name:
            raise wrong("model", "is needed: the name of a model (GET /api/tags lists them)")
        known = next((one for one in ollama_models.spellings(name) if one in self._facts), name)
        return known, self._facts.get(known) or ModelFacts()


def _load(asked: Asked, fields: dict[str, Any], notices: list[str], *, chat: bool) -> Internal:
    """A request without a prompt: the model is to be there, or to go, and nothing is to be said."""
    lets_go = ollama_request.keep_alive_s(asked.body) == 0
    kept: dict[str, Any] = {
        name: fields[name]
        for name in ("model", "stream", "stream_options", "keep_alive")
        if name in fields
    }
    body = {**kept, "prompt": _ANY_PROMPT, "max_tokens": 1}
    reason = "unload" if lets_go else "load"
    teller = OllamaTeller(fields["model"], asked.received_s, chat=chat, done_reason=reason)
    writer = Translated(teller)
    return Internal(COMPLETIONS_PATH, body, writer, notices=tuple(notices), lets_go=lets_go)
