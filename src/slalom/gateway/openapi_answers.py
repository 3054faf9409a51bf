"""What documents and answers come as, by route: media types, schemas, and the shapes of errors.

Owns the fields that clients may rely on. Answers of engines are passed on and have more, so that
little of them is said here. Read by `openapi`.
"""

from slalom.gateway.openapi_chains import CHAIN_TOLD
from slalom.gateway.openapi_schemas import (
    ANYTHING,
    FLAG,
    NUMBER,
    OBJECT,
    TEXT,
    WHOLE,
    Schema,
    any_of,
    kind,
    listed,
    objects,
    or_null,
)

_JSON, _PLAIN = "application/json", "text/plain"
_LINES, _BYTES = "application/x-ndjson", "application/octet-stream"
_LIST = listed(OBJECT, 0)

# -- errors ----------------------------------------------------------------------------------

_PARAM = {"param": or_null(TEXT)}
_OPENAI_ERROR = objects(
    {"error": objects({"message": TEXT, "type": TEXT, "code": TEXT, **_PARAM})},
)
_ANTHROPIC_ERROR = kind(
    "error", needed={"error": objects({"type": TEXT, "message": TEXT, "code": TEXT})}
)
_LLAMA_ERROR = objects(
    {"error": objects({"code": WHOLE, "message": TEXT, "type": TEXT, "reason": TEXT, **_PARAM})}
)
_MISTRAL_ERROR = kind(
    "error", field="object", needed={"message": TEXT, "type": TEXT, "code": TEXT, **_PARAM}
)
#: By protocol, where it is not OpenAI's. What is refused before a route is known has OpenAI's.
_ERRORS: dict[str, Schema] = {
    "anthropic": any_of(_ANTHROPIC_ERROR, _OPENAI_ERROR),
    "ollama": any_of(objects({"error": TEXT, "code": TEXT}), _OPENAI_ERROR),
    "llama.cpp": any_of(_LLAMA_ERROR, _OPENAI_ERROR),
    "mistral": any_of(_MISTRAL_ERROR, _OPENAI_ERROR),
}
_NOT_READY = objects({"status": {"enum": ["draining", "starving"]}, "reason": TEXT})


def error_schema(protocol: str, path: str) -> Schema:
    """The shape of a refusal."""
    if path == "/ready":
        return any_of(_NOT_READY, _OPENAI_ERROR)
    return _ERRORS.get(protocol, _OPENAI_ERROR)


# -- answers ---------------------------------------------------------------------------------

_CHOICES = objects({"choices": _LIST})
_VECTORS = objects({"data": listed(objects({"embedding": ANYTHING}), 0)})
_MESSAGE = kind(
    "message",
    needed={"id": TEXT, "role": {"const": "assistant"}, "content": _LIST, "usage": OBJECT},
    model=TEXT,
    stop_reason=or_null(TEXT),
)
_RESPONSE = kind(
    "response",
    field="object",
    needed={"id": TEXT, "status": TEXT, "model": TEXT, "output": _LIST, "created_at": WHOLE},
)
_DONE: dict[str, Schema] = {"model": TEXT, "created_at": TEXT, "done": {"const": True}}
_CHAT_LINE = objects({**_DONE, "message": objects({"role": TEXT, "content": TEXT})})
_TEXT_LINE = objects({**_DONE, "response": TEXT})
_VECTOR = listed(NUMBER, 0)
_MS = or_null(NUMBER)
_ESTIMATE = kind(
    "estimate",
    field="object",
    needed={
        "model": TEXT,
        "task": TEXT,
        "resident": FLAG,
        "replica": or_null(TEXT),
        "would_hold": or_null(FLAG),
        "chance": or_null(NUMBER),
        "predicted_start_ms": _MS,
        "predicted_ttft_ms": _MS,
        "predicted_e2e_ms": _MS,
        "parts": objects({"queue_ms": _MS, "execution_ms": _MS, "remaining_ms": _MS}),
        "targets": objects({"ttft_ms": _MS, "tpot_ms": _MS, "e2e_ms": _MS}),
        "reason": TEXT,
    },
)
_COUNT = objects({"input_tokens": {"type": "integer", "minimum": 0}})

#: Of inference routes, where they are not streamed.
WHOLES: dict[str, Schema] = {
    "/v1/chat/completions": _CHOICES,
    "/v1/completions": _CHOICES,
    "/v1/fim/completions": _CHOICES,
    "/v1/embeddings": _VECTORS,
    "/v1/messages": _MESSAGE,
    "/v1/responses": _RESPONSE,
    "/api/chat": _CHAT_LINE,
    "/api/generate": _TEXT_LINE,
    "/api/embed": objects({"model": TEXT, "embeddings": listed(_VECTOR, 0)}),
    "/api/embeddings": objects({"embedding": _VECTOR}),
    "estimate": _ESTIMATE,
}


def _of(name: str, **needed: Schema) -> Schema:
    return kind(name, field="object", needed=needed)


_FILE = _of("file", id=TEXT, bytes=WHOLE, created_at=WHOLE, filename=TEXT, purpose=TEXT)
_BATCH = _of(
    "batch", id=TEXT, endpoint=TEXT, status=TEXT, input_file_id=TEXT, request_counts=OBJECT
)
_MODELS = objects({"data": listed(objects({"id": TEXT}), 0)})
_ASKED = objects({"model": TEXT, "asked": TEXT, "state": TEXT})
_DELETED = objects({"id": TEXT, "deleted": {"const": True}})


def _page_of(item: Schema) -> Schema:
    return _of("list", data=listed(item, 0), has_more=FLAG)


#: Of documents, by method and path.
_DOCUMENTS: dict[tuple[str, str], dict[str, Schema]] = {
    ("get", "/metrics"): {_PLAIN: TEXT},
    ("get", "/"): {_PLAIN: TEXT},
    ("get", "/v1/files/{id}/content"): {_BYTES: {}},
    ("get", "/admin/events"): {"text/event-stream": {}},
    ("post", "/api/pull"): {_JSON: objects({"status": TEXT}), _LINES: {}},
    ("post", "/v1/events"): {},
    **{
        row: {_JSON: schema}
        for row, schema in {
            ("get", "/slots"): _LIST,
            ("get", "/v1/models"): _MODELS,
            ("get", "/v1/models/{name}"): objects({"id": TEXT}),
            ("get", "/health"): objects({"status": {"const": "ok"}}),
            ("get", "/ready"): objects({"status": {"const": "ready"}}),
            ("get", "/api/version"): objects({"version": TEXT}),
            ("get", "/api/tags"): objects({"models": _LIST}),
            ("get", "/api/ps"): objects({"models": _LIST}),
            ("post", "/api/show"): objects({"details": OBJECT, "model_info": OBJECT}),
            ("get", "/props"): objects({"total_slots": WHOLE, "model_alias": TEXT}),
            ("post", "/tokenize"): objects({"tokens": listed(ANYTHING, 0)}),
            ("post", "/detokenize"): objects({"content": TEXT}),
            ("post", "/apply-template"): objects({"prompt": TEXT}),
            ("post", "/v1/messages/count_tokens"): _COUNT,
            ("post", "/v1/responses/input_tokens"): _COUNT,
            ("get", "/v1/responses/{id}"): _RESPONSE,
            ("delete", "/v1/responses/{id}"): _DELETED,
            ("get", "/v1/responses/{id}/input_items"): _page_of(OBJECT),
            ("post", "/v1/files"): _FILE,
            ("get", "/v1/files"): _page_of(_FILE),
            ("get", "/v1/files/{id}"): _FILE,
            ("delete", "/v1/files/{id}"): _DELETED,
            ("post", "/v1/batches"): _BATCH,
            ("get", "/v1/batches"): _page_of(_BATCH),
            ("get", "/v1/batches/{id}"): _BATCH,
            ("post", "/v1/batches/{id}/cancel"): _BATCH,
            ("post", "/v1/chains"): CHAIN_TOLD,
            ("get", "/v1/chains/{id}"): CHAIN_TOLD,
            ("delete", "/v1/chains/{id}"): CHAIN_TOLD,
            ("post", "/admin/reload"): objects({"dry_run": FLAG, "models": _LIST}),
            ("get", "/admin/evictions"): _of("list", data=_LIST),
            ("get", "/admin/requests"): _of("list", data=_LIST),
        }.items()
    },
}


def answer_media(method: str, path: str) -> dict[str, Schema]:
    """What a document comes as: media types with their schemas.

    Args:
        method: In lower case.
        path: As OpenAPI writes it.
    """
    if path.startswith("/admin/models/"):
        return {_JSON: _ASKED}
    return _DOCUMENTS.get((method, path), {_JSON: OBJECT})
