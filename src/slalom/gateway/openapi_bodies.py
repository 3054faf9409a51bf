"""What the bodies of requests must be, by route.

Owns the fields that Slalom itself reads: what these schemas allow is taken, what they forbid is
refused. All others pass through to the engine. The bodies of agents' protocols are told in
`openapi_dialogues`. Read by `openapi`.
"""

from slalom.gateway.openapi_chains import CHAIN
from slalom.gateway.openapi_dialogues import (
    MESSAGES,
    OLLAMA_CHAT,
    OLLAMA_SETTINGS,
    RESPONSE,
    RESPONSE_INPUT,
)
from slalom.gateway.openapi_schemas import (
    COUNT,
    FLAG,
    MESSAGE,
    MODEL,
    NO_TEXT,
    NULL,
    NUMBER,
    OBJECT,
    STOP,
    TEXT,
    TEXTS,
    TOOL,
    WHOLE,
    WORD,
    Schema,
    any_of,
    listed,
    objects,
    optional,
    or_null,
)
from slalom.gateway.request_body import TOKENS_MAX

_JSON, _FORM = "application/json", "multipart/form-data"

_SAMPLED: dict[str, Schema] = {
    "stop": STOP,
    **optional(max_tokens=COUNT, temperature=NUMBER, top_p=NUMBER, metadata=OBJECT),
}
_ASKED: dict[str, Schema] = {
    **_SAMPLED,
    **optional(stream=FLAG, stream_options=OBJECT, n=COUNT, max_completion_tokens=COUNT),
}
_CHAT = objects(
    {"model": MODEL, "messages": listed(MESSAGE)},
    tools=or_null(listed(TOOL, 0)),
    functions=NULL,
    function_call=NULL,
    **_ASKED,
)
_FILES = or_null(listed(objects({"text": TEXT}, filename=or_null(TEXT)), 0))
_AROUND = {"input_extra": _FILES, **optional(filename=TEXT, repository=TEXT)}
_TOKENS = listed(WHOLE)
_PROMPT = any_of(TEXT, listed(any_of(TEXT, WHOLE, _TOKENS)))
_LIKELY = {"type": "integer", "minimum": 0, "maximum": 1000}
_BESIDE = {"echo": or_null(FLAG), "logprobs": any_of(_LIKELY, {"enum": [None, False]})}
_COMPLETION = objects({"model": MODEL, "prompt": _PROMPT}, suffix=NO_TEXT, **_BESIDE, **_ASKED)
#: Only one text can have a gap.
_FILL_IN = objects({"model": MODEL, "prompt": TEXT, "suffix": TEXT}, **_BESIDE, **_AROUND, **_ASKED)
_SNIPPETS = or_null(listed(objects({"body": TEXT}), 0))
#: Tabby's form of a completion: it is told by its segments, and names no model.
_TABBY: Schema = objects(
    {
        "segments": objects(
            {"prefix": TEXT},
            **optional(suffix=TEXT, filepath=TEXT, git_url=TEXT, clipboard=TEXT),
            declarations=_SNIPPETS,
            relevant_snippets_from_recently_opened_files=_SNIPPETS,
            relevant_snippets_from_changed_files=_SNIPPETS,
        )
    },
    **optional(model=MODEL, temperature=NUMBER),
)
_EMBEDDINGS = objects({"model": MODEL, "input": any_of(WORD, listed(any_of(TEXT, WHOLE, _TOKENS)))})

_LOADS = {"raw": or_null(FLAG), "template": NO_TEXT, **optional(prompt=TEXT, system=TEXT)}
#: Pictures are seen in chats, which a raw prompt and one with a suffix are not.
_GENERATE = any_of(
    objects(
        {"model": MODEL},
        **{**_LOADS, "raw": {"enum": [None, False]}, "suffix": NO_TEXT},
        images=or_null(TEXTS),
        **OLLAMA_SETTINGS,
    ),
    objects(
        {"model": MODEL},
        **_LOADS,
        suffix=or_null(TEXT),
        images={"enum": [None, []]},
        **OLLAMA_SETTINGS,
    ),
)
_SIZE = {"dimensions": or_null({"type": "integer", "minimum": 1})}
_EMBED = objects({"model": MODEL, "input": any_of(WORD, listed(WORD))}, **_SIZE)
_EMBED_ONE = objects({"model": MODEL, "prompt": WORD}, **_SIZE)
_NAMED = any_of(objects({"model": MODEL}), objects({"name": WORD}, model={"enum": [None, ""]}))
_PULL = {"allOf": [_NAMED, objects({}, stream=or_null(FLAG))]}

_LLAMA: dict[str, Schema] = {
    **_SAMPLED,
    "model": or_null(MODEL),
    "stream": or_null(FLAG),
    "n_predict": or_null({"type": "integer", "exclusiveMaximum": TOKENS_MAX}),
    "n_probs": or_null({"type": "integer", "minimum": 0, "maximum": 1000}),
    "response_fields": or_null(TEXTS),
}
_MIXED: Schema = {**listed(any_of(TEXT, WHOLE)), "contains": WHOLE}
_STRING = objects({"prompt_string": TEXT}, multimodal_data={"enum": [None, []]})
_COMPLETE = objects(
    {"prompt": any_of(TEXT, {**listed(TEXT), "maxItems": 1}, _MIXED, _STRING)}, **_LLAMA
)
_INFILL = objects(
    {"input_prefix": TEXT, "input_suffix": TEXT}, prompt=or_null(TEXT), input_extra=_FILES, **_LLAMA
)
_FIM = objects(
    {"model": MODEL, "prompt": TEXT},
    **optional(suffix=TEXT, random_seed=WHOLE, stream=FLAG),
    **_SAMPLED,
)

_METADATA: Schema = {
    "type": "object",
    "maxProperties": 16,
    "propertyNames": {"maxLength": 64},
    "additionalProperties": {"type": "string", "maxLength": 512},
}
_FILE = objects({"file": {"type": "string", "format": "binary"}, "purpose": {"const": "batch"}})
_BATCH = objects(
    {
        "input_file_id": WORD,
        "endpoint": {
            "enum": ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
        },
        "completion_window": {"const": "24h"},
    },
    metadata=or_null(_METADATA),
)

#: Media type and schema by path. A path that is not here takes any JSON object.
BODIES: dict[str, tuple[str, Schema]] = {
    "/v1/chat/completions": (_JSON, _CHAT),
    "/v1/completions": (_JSON, any_of(_COMPLETION, _FILL_IN, _TABBY)),
    "/v1/embeddings": (_JSON, _EMBEDDINGS),
    "/v1/messages": (_JSON, MESSAGES),
    "/v1/messages/count_tokens": (_JSON, MESSAGES),
    "/v1/responses": (_JSON, RESPONSE),
    "/v1/responses/input_tokens": (_JSON, RESPONSE_INPUT),
    "/v1/estimate": (_JSON, any_of(_CHAT, _COMPLETION, _FILL_IN, _EMBEDDINGS)),
    "/api/chat": (_JSON, OLLAMA_CHAT),
    "/api/generate": (_JSON, _GENERATE),
    "/api/embed": (_JSON, _EMBED),
    "/api/embeddings": (_JSON, _EMBED_ONE),
    "/api/show": (_JSON, _NAMED),
    "/api/pull": (_JSON, _PULL),
    "/completion": (_JSON, _COMPLETE),
    "/completions": (_JSON, _COMPLETE),
    "/infill": (_JSON, _INFILL),
    "/tokenize": (_JSON, objects({"content": TEXT}, model=or_null(MODEL))),
    "/detokenize": (_JSON, objects({"tokens": listed(WHOLE, 0)}, model=or_null(MODEL))),
    "/apply-template": (_JSON, objects({"messages": listed(MESSAGE)}, model=or_null(MODEL))),
    "/v1/fim/completions": (_JSON, _FIM),
    "/v1/events": (_JSON, objects({"type": TEXT})),
    "/v1/files": (_FORM, _FILE),
    "/v1/batches": (_JSON, _BATCH),
    "/v1/chains": (_JSON, CHAIN),
}


#: Routes that are asked with POST and read no body.
BODILESS = frozenset(("/v1/health", "/v1/batches/{id}/cancel", "/api/blobs/{digest}"))


def _page(most: int, **more: Schema) -> dict[str, Schema]:
    return {
        "after": TEXT,
        "limit": {"type": "integer", "minimum": 1, "maximum": most},
        "order": {"enum": ["asc", "desc"]},
        **more,
    }


#: Parameters in the query of documents that are read with GET.
QUERIES: dict[str, dict[str, Schema]] = {
    "/v1/files": _page(10_000, purpose=TEXT),
    "/v1/batches": _page(100),
    "/props": {"model": MODEL},
    "/slots": {"model": MODEL, "fail_on_no_slot": TEXT},
    "/admin/plan": {"model": MODEL},
}
#: The same of documents that are read with POST.
POST_QUERIES: dict[str, dict[str, Schema]] = {"/admin/reload": {"dry_run": FLAG}}
#: Those of them that must be there.
NEEDED_QUERIES = frozenset((("/admin/plan", "model"),))
