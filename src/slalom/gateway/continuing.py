"""Which answers can be broken off and continued, and the body of a call that continues one.

Owns the list of body fields under which a prompt and the text so far stand for the whole
generation. What is not on it (seeds, penalties, grammars, log probabilities, tools …) depends on
tokens that a second call does not see, so such a request runs to its end. Pure. Called by
`preparation` and `upstream_call`.
"""

from collections.abc import Mapping
from typing import Any

from slalom.engines.protocol import Capabilities

#: Longest answer that may be continued, tokens: the runtime keeps its text that long.
TOKENS_MAX = 32_768

_ANY = frozenset(
    {
        *("model", "stream", "stream_options", "user", "metadata", "service_tier", "priority"),
        *("max_tokens", "max_completion_tokens", "n_predict", "session_id", "store"),
        *("temperature", "top_p", "top_k", "min_p", "typical_p", "stop", "logit_bias"),
        *("cache_prompt", "id_slot", "t_max_prompt_ms", "ignore_eos"),
    }
)
_FIELDS = {
    False: _ANY | {"prompt", "suffix", "input_extra", "filename", "repository"},
    True: _ANY | {"messages"},
}
#: Fields that change nothing at these values; `logprobs: 0` does.
_HARMLESS: Mapping[str, object] = {
    "n": 1,
    "best_of": 1,
    "echo": False,
    "logprobs": False,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repeat_penalty": 1.0,
    "repetition_penalty": 1.0,
    "response_format": {"type": "text"},
}


def resumable(
    body: Mapping[str, Any], *, chat: bool, capabilities: Capabilities, max_tokens: int
) -> bool:
    """Whether a streamed answer to a checked body can be continued behind any of its tokens.

    Args:
        body: The parsed body.
        chat: Whether it is a chat; else a text completion.
        capabilities: Of the model's engine.
        max_tokens: Limit of the answer, tokens.
    """
    if body.get("stream") is not True or max_tokens > TOKENS_MAX:
        return False
    if chat:
        last = body["messages"][-1]
        if capabilities.continue_chat is None or last["role"] == "assistant":
            return False
    else:
        if not isinstance(body.get("prompt"), str):
            return False
        if body.get("suffix") and capabilities.fim is None:
            return False
    fields = _FIELDS[chat]
    return all(
        name in fields or value is None or _is_harmless(name, value) for name, value in body.items()
    )


def _is_harmless(name: str, value: object) -> bool:
    harmless = _HARMLESS.get(name)
    if isinstance(harmless, bool):
        return value is harmless
    return harmless is not None and not isinstance(value, bool) and value == harmless


def go_on(fields: dict[str, Any], text: str, capabilities: Capabilities) -> None:
    """Let a body ask for what comes behind `text`; in place."""
    if "messages" in fields:
        fields["messages"] = [*fields["messages"], {"role": "assistant", "content": text}]
        fields.update(dict(capabilities.continue_chat or ()))
    else:
        fields["prompt"] += text
