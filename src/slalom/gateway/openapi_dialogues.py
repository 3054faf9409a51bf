"""What the bodies of agents' protocols must be: Anthropic's messages, Responses, Ollama's chat.

Owns the fields that their readers look at, as `openapi_bodies` does for the others. A message is
told by its role and a block by its type, because what either may hold depends on it. Pure data.
"""

from slalom.gateway.openapi_schemas import (
    ANYTHING,
    COUNT,
    FLAG,
    MODEL,
    NO_TEXT,
    NUMBER,
    OBJECT,
    STOP,
    TEXT,
    TEXTS,
    WHOLE,
    WORD,
    Schema,
    any_of,
    kind,
    listed,
    not_named,
    objects,
    optional,
    or_null,
)

# -- Anthropic's messages --------------------------------------------------------------------

_TEXT_BLOCK = kind("text", needed={"text": TEXT})
_TEXT_BLOCKS = any_of(TEXT, listed(_TEXT_BLOCK, 0))
_SOURCE = any_of(
    kind("base64", needed={"media_type": TEXT, "data": TEXT}), kind("url", needed={"url": TEXT})
)
_DOCUMENT = any_of(
    kind("text", needed={"data": TEXT}), kind("content", needed={"content": _TEXT_BLOCKS})
)
_SHOWN: list[Schema] = [
    _TEXT_BLOCK,
    kind("image", needed={"source": _SOURCE}),
    kind("document", needed={"source": _DOCUMENT}),
    kind("search_result", needed={"content": _TEXT_BLOCKS}),
    kind("tool_reference", needed={"tool_name": TEXT}),
]
_RESULT = kind(
    "tool_result",
    needed={"tool_use_id": TEXT},
    content=or_null(any_of(TEXT, listed(any_of(*_SHOWN), 0))),
)
_SAID = any_of(
    _TEXT_BLOCK,
    kind("thinking", needed={"thinking": TEXT}),
    kind("redacted_thinking", needed={}),
    kind("tool_use", needed={"id": TEXT, "name": TEXT}, input=OBJECT),
)


def _turn(blocks: Schema, *roles: str) -> Schema:
    content = any_of(TEXT, listed(blocks, 0))
    return kind(*roles, field="role", needed={"content": content})


_TURN = any_of(
    _turn(any_of(*_SHOWN, _RESULT), "user"), _turn(_SAID, "assistant"), _turn(_TEXT_BLOCK, "system")
)
#: What is described by its type runs at Anthropic, and is left out here.
_OFFERED = any_of(
    objects({"name": WORD}, input_schema=OBJECT, **optional(type=TEXT, description=TEXT)),
    objects({"type": not_named("custom")}) | {"not": {"required": ["input_schema"]}},
)
_CHOICE = any_of(
    kind("auto", "any", "none", needed={}),
    kind("tool", needed={"name": TEXT}),
)
MESSAGES = objects(
    {"model": MODEL, "messages": listed(_TURN)},
    system=or_null(_TEXT_BLOCKS),
    tools=or_null(listed(_OFFERED, 0)),
    tool_choice=or_null(_CHOICE),
    stop_sequences=or_null(TEXTS),
    **optional(max_tokens=COUNT, stream=FLAG, temperature=NUMBER, top_p=NUMBER, top_k=NUMBER),
    **optional(metadata=OBJECT, thinking=OBJECT, output_config=OBJECT),
)

# -- OpenAI's Responses ----------------------------------------------------------------------

_PART = any_of(
    kind("input_text", "output_text", "text", needed={"text": TEXT}),
    kind("refusal", needed={"refusal": TEXT}),
    kind("input_image", needed={"image_url": TEXT}),
)
_CONTENT = any_of(TEXT, listed(_PART, 0))
_MESSAGE_ITEM = objects(
    {"role": {"enum": ["user", "assistant", "system", "developer"]}, "content": _CONTENT},
    type={"enum": ["message", None]},
)
_CALL: dict[str, Schema] = {"call_id": TEXT, "name": TEXT}
_TOLD = any_of(
    _MESSAGE_ITEM,
    kind("function_call", needed={**_CALL, "arguments": TEXT}),
    kind("custom_tool_call", needed={**_CALL, "input": TEXT}),
    kind(
        *("function_call_output", "custom_tool_call_output"),
        needed={"call_id": TEXT, "output": _CONTENT},
    ),
)
#: Thoughts go before what was said; what tools of OpenAI's did is left out.
_BESIDE = kind(
    *("reasoning", "web_search_call", "file_search_call", "code_interpreter_call"),
    *("image_generation_call", "mcp_list_tools", "mcp_call", "compaction"),
    needed={},
)
_INPUT = any_of(TEXT, {**listed(any_of(_TOLD, _BESIDE)), "contains": _TOLD})
_KNOWN = (
    kind("function", needed={"name": WORD}, parameters=or_null(OBJECT)),
    kind("custom", needed={"name": WORD}),
)
_INSIDE = any_of(*_KNOWN, objects({"type": not_named("function", "custom")}))
_TOOL = any_of(
    *_KNOWN,
    kind("namespace", needed={"name": TEXT, "tools": listed(_INSIDE, 0)}),
    objects({"type": not_named("function", "custom", "namespace")}),
)
_SETTINGS: dict[str, Schema] = {
    "background": {"enum": [None, False]},
    **optional(instructions=TEXT, temperature=NUMBER, top_p=NUMBER, parallel_tool_calls=FLAG),
    **optional(max_output_tokens=COUNT, stream=FLAG, store=FLAG),
    **optional(metadata=OBJECT, reasoning=OBJECT, text=OBJECT, tools=listed(_TOOL, 0)),
    "stop": STOP,
}
RESPONSE = objects({"model": MODEL, "input": _INPUT}, **_SETTINGS)
RESPONSE_INPUT = RESPONSE

# -- Ollama's chat ---------------------------------------------------------------------------

_FAR = 1 << 63
_NUMBERS: Schema = {"type": "number", "exclusiveMinimum": -_FAR, "exclusiveMaximum": _FAR}
_WHOLES: Schema = {**WHOLE, "exclusiveMinimum": -_FAR, "exclusiveMaximum": _FAR}
_OPTIONS = objects(
    {},
    **optional(
        **dict.fromkeys(("temperature", "top_p", "min_p", "typical_p", "repeat_penalty"), _NUMBERS),
        **dict.fromkeys(("presence_penalty", "frequency_penalty"), _NUMBERS),
        **dict.fromkeys(("mirostat_tau", "mirostat_eta"), _NUMBERS),
        **dict.fromkeys(("top_k", "repeat_last_n", "seed", "num_keep", "num_ctx"), _WHOLES),
        mirostat=_WHOLES,
        num_predict={**_WHOLES, "exclusiveMaximum": 1 << 31},
    ),
    stop=STOP,
)
OLLAMA_SETTINGS: dict[str, Schema] = {
    **optional(options=_OPTIONS, stream=FLAG, logprobs=FLAG),
    "top_logprobs": or_null({"type": "integer", "minimum": 0, "maximum": 20}),
    "format": any_of(NO_TEXT, {"const": "json"}, OBJECT),
    "think": or_null(any_of(FLAG, TEXT)),
}
_OLLAMA_CALL = objects(
    {"function": objects({"name": WORD}, arguments=or_null(OBJECT))}, id=or_null(TEXT)
)
_OLLAMA_MESSAGE = any_of(
    kind("user", field="role", needed={}, content=or_null(TEXT), images=or_null(TEXTS)),
    kind("system", "developer", field="role", needed={}, content=or_null(TEXT)),
    kind(
        "assistant",
        field="role",
        needed={},
        **optional(content=TEXT, thinking=TEXT, tool_calls=listed(_OLLAMA_CALL, 0)),
    ),
    kind(
        "tool",
        field="role",
        needed={},
        **optional(content=TEXT, tool_name=TEXT, tool_call_id=TEXT),
    ),
)
_OLLAMA_TOOL = objects(
    {"function": objects({"name": WORD}, parameters=or_null(OBJECT))}, type=ANYTHING
)
OLLAMA_CHAT = objects(
    {"model": MODEL},
    messages=listed(_OLLAMA_MESSAGE, 0),
    tools=or_null(listed(_OLLAMA_TOOL, 0)),
    **OLLAMA_SETTINGS,
)
