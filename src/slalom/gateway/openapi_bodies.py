"""What the bodies of requests must be, and what documents come as, by route.

Owns the fields that Slalom itself reads: with these a request is taken. All others pass through
to the engine, so every object may have more. Read by `openapi`.
"""

from typing import Any

from slalom.gateway.request_body import TOKENS_MAX

Schema = dict[str, Any]

_JSON, _FORM = "application/json", "multipart/form-data"
_TEXT: Schema = {"type": "string"}
_WORD: Schema = {"type": "string", "minLength": 1}
_FLAG: Schema = {"type": "boolean"}
_NUMBER: Schema = {"type": "number"}
_OBJECT: Schema = {"type": "object"}
_MODEL: Schema = {"$ref": "#/components/schemas/Model"}
_COUNT: Schema = {"type": "integer", "minimum": 1, "exclusiveMaximum": TOKENS_MAX}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_STOP: Schema = {"anyOf": [_TEXT, _TEXTS, {"type": "null"}]}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(needed: dict[str, Schema], **more: Schema) -> Schema:
    return {"type": "object", "properties": {**needed, **more}, "required": list(needed)}


def _list(items: Schema, least: int = 1) -> Schema:
    return {"type": "array", "items": items, "minItems": least}


def _kind(name: str, **fields: Schema) -> Schema:
    return _object({"type": {"const": name}, **fields})


_TOOL = _object(
    {
        "type": {"const": "function"},
        "function": _object({"name": _WORD}, description=_TEXT, parameters=_OBJECT),
    }
)
_PART = {
    "anyOf": [_kind("text", text=_TEXT), _kind("image_url", image_url=_object({"url": _TEXT}))]
}
_MESSAGE = _object(
    {"role": {"enum": ["user", "system", "assistant"]}, "content": {"anyOf": [_TEXT, _list(_PART)]}}
)
_OPTIONS: dict[str, Schema] = {
    "stream": _or_null(_FLAG),
    "max_tokens": _or_null(_COUNT),
    "temperature": _or_null(_NUMBER),
    "top_p": _or_null(_NUMBER),
    "stop": _STOP,
    "metadata": _or_null(_OBJECT),
}
_CHAT = _object(
    {"model": _MODEL, "messages": _list(_MESSAGE)},
    **_OPTIONS,
    tools=_or_null(_list(_TOOL)),
    max_completion_tokens=_or_null(_COUNT),
    stream_options=_or_null(_OBJECT),
)
_COMPLETION = _object(
    {"model": _MODEL, "prompt": _TEXT},
    **_OPTIONS,
    echo=_or_null(_FLAG),
    suffix=_or_null(_TEXT),
    stream_options=_or_null(_OBJECT),
)
_EMBEDDINGS = _object({"model": _MODEL, "input": {"anyOf": [_WORD, _list(_TEXT)]}})

_BLOCK = {"anyOf": [_kind("text", text=_TEXT)]}
_ANTHROPIC_TOOL = _object({"name": _WORD, "input_schema": _OBJECT}, description=_TEXT)
_COUNTED = _object(
    {
        "model": _MODEL,
        "messages": _list(
            _object(
                {
                    "role": {"enum": ["user", "assistant"]},
                    "content": {"anyOf": [_TEXT, _list(_BLOCK)]},
                }
            )
        ),
    },
    system={"anyOf": [_TEXT, _list(_BLOCK)]},
    tools=_list(_ANTHROPIC_TOOL),
    temperature=_NUMBER,
    top_p=_NUMBER,
    top_k=_NUMBER,
    stop_sequences=_TEXTS,
    metadata=_OBJECT,
)
_MESSAGES: Schema = {
    **_COUNTED,
    "properties": {**_COUNTED["properties"], "max_tokens": _COUNT, "stream": _FLAG},
}

_ITEM = _object(
    {
        "role": {"enum": ["user", "assistant", "system", "developer"]},
        "content": {"anyOf": [_TEXT, _list(_kind("input_text", text=_TEXT))]},
    },
    type={"const": "message"},
)
_RESPONSE_INPUT = _object(
    {"model": _MODEL, "input": {"anyOf": [_TEXT, _list(_ITEM)]}},
    instructions=_or_null(_TEXT),
    temperature=_or_null(_NUMBER),
    top_p=_or_null(_NUMBER),
    parallel_tool_calls=_or_null(_FLAG),
)
_RESPONSE: Schema = {
    **_RESPONSE_INPUT,
    "properties": {
        **_RESPONSE_INPUT["properties"],
        "max_output_tokens": _or_null(_COUNT),
        "stream": _or_null(_FLAG),
        "store": _or_null(_FLAG),
        "metadata": _or_null(_OBJECT),
    },
}

_FILE = _object(
    {"file": {"type": "string", "format": "binary"}, "purpose": {"const": "batch"}},
)
_BATCH = _object(
    {
        "input_file_id": _WORD,
        "endpoint": {
            "enum": ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
        },
        "completion_window": {"const": "24h"},
    }
)

#: Ollama's clients and llama.cpp's say little, and in words of their own.
_OLLAMA_CHAT = _object(
    {"model": _MODEL},
    messages={
        "type": "array",
        "items": _object({"role": {"enum": ["user", "system", "assistant"]}, "content": _TEXT}),
    },
    stream=_FLAG,
    options=_OBJECT,
)
_GENERATE = _object({"model": _MODEL, "prompt": _WORD}, system=_TEXT, stream=_FLAG, options=_OBJECT)
_EMBED = _object({"model": _MODEL, "input": {"anyOf": [_WORD, _list(_WORD)]}})
_EMBED_ONE = _object({"model": _MODEL, "prompt": _WORD})
_BY_MODEL = _object({"model": _MODEL})
_COMPLETE = _object({"prompt": _TEXT}, model=_MODEL, stream=_FLAG, n_predict=_COUNT)
_INFILL = _object(
    {"input_prefix": _TEXT, "input_suffix": _TEXT},
    model=_MODEL,
    prompt=_TEXT,
    stream=_FLAG,
    n_predict=_COUNT,
)

#: Media type and schema by path. A path that is not here takes any JSON object.
BODIES: dict[str, tuple[str, Schema]] = {
    "/v1/chat/completions": (_JSON, _CHAT),
    "/v1/completions": (_JSON, _COMPLETION),
    "/v1/embeddings": (_JSON, _EMBEDDINGS),
    "/v1/messages": (_JSON, _MESSAGES),
    "/v1/messages/count_tokens": (_JSON, _COUNTED),
    "/v1/responses": (_JSON, _RESPONSE),
    "/v1/responses/input_tokens": (_JSON, _RESPONSE_INPUT),
    "/v1/estimate": (_JSON, {"anyOf": [_CHAT, _COMPLETION, _EMBEDDINGS]}),
    "/api/chat": (_JSON, _OLLAMA_CHAT),
    "/api/generate": (_JSON, _GENERATE),
    "/api/embed": (_JSON, _EMBED),
    "/api/embeddings": (_JSON, _EMBED_ONE),
    "/api/show": (_JSON, _BY_MODEL),
    "/api/pull": (_JSON, _BY_MODEL),
    "/completion": (_JSON, _COMPLETE),
    "/completions": (_JSON, _COMPLETE),
    "/infill": (_JSON, _INFILL),
    "/tokenize": (_JSON, _object({"content": _TEXT}, model=_MODEL)),
    "/detokenize": (_JSON, _object({"tokens": _list(_COUNT, 0)}, model=_MODEL)),
    "/apply-template": (_JSON, _object({"messages": _list(_MESSAGE)}, model=_MODEL)),
    "/v1/files": (_FORM, _FILE),
    "/v1/batches": (_JSON, _BATCH),
}

_PLAIN = "text/plain"
_MEDIA: dict[str, dict[str, Schema]] = {
    "/metrics": {_PLAIN: _TEXT},
    "/": {_PLAIN: _TEXT},
    "/v1/files/{id}/content": {"application/octet-stream": {}},
    "/api/pull": {_JSON: {}, "application/x-ndjson": {}},
    "/slots": {_JSON: {"type": "array"}},
}


def answer_media(path: str) -> dict[str, Schema]:
    """What a document comes as: media types with their schemas."""
    return _MEDIA.get(path, {_JSON: _OBJECT})
