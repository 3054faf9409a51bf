"""What a fake engine says: answers shaped like those of llama.cpp and the OpenAI API.

Owns the bytes: server-sent events, whole bodies, errors. Owns no time and no state. Called by
`fake_engine`.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
DONE = b"data: [DONE]\n\n"
#: The beginning of an answer of ours, at the end of a prompt.
_ANSWER = re.compile(r"(?: w\d+)* w(\d+)$")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request body as far as a fake engine cares."""

    path: str
    model: str
    prompt_text: str
    max_tokens: int | None
    stream: bool
    include_usage: bool
    stop: tuple[str, ...]
    document: dict[str, Any] = field(repr=False)
    #: Tokens of the answer that stand in the prompt already: it goes on behind them.
    behind: int = 0

    @classmethod
    def read(cls, path: str, body: bytes) -> "Asked":
        """Read a body.

        Raises:
            ValueError: It is not a JSON object.
        """
        document = json.loads(body)
        if not isinstance(document, dict):
            raise ValueError("the body is not a JSON object")  # noqa: TRY004 - as json's own
        stop = document.get("stop") or ()
        limit = document.get("max_tokens", document.get("max_completion_tokens"))
        prompt = _prompt_text(document)
        begun = _ANSWER.search(prompt)
        return cls(
            path=path,
            model=str(document.get("model", "")),
            prompt_text=prompt,
            max_tokens=None if limit is None else int(limit),
            stream=bool(document.get("stream", False)),
            include_usage=bool((document.get("stream_options") or {}).get("include_usage")),
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            document=document,
            behind=int(begun[1]) + 1 if begun else 0,
        )


def _prompt_text(document: dict[str, Any]) -> str:
    messages = document.get("messages")
    if isinstance(messages, list):
        return "\n".join(str(m.get("content", "")) for m in messages if isinstance(m, dict))
    prompt = document.get("prompt", document.get("input", ""))
    return prompt if isinstance(prompt, str) else json.dumps(prompt)


def token_text(index: int) -> str:
    """The text of output token `index`: words that name their place."""
    return f" w{index}"


def _logprobs(asked: Asked, values: list[float]) -> dict[str, Any] | None:
    """How sure the engine says it was of tokens, if it was asked: in llama.cpp's form."""
    if not asked.document.get("logprobs"):
        return None
    return {"content": [{"token": "w", "logprob": value} for value in values]}


def event(asked: Asked, call_id: str, text: str, finish: str | None, logprob: float = 0.0) -> bytes:
    """One server-sent event with a piece of the answer."""
    told = _logprobs(asked, [logprob]) if text else None
    if asked.path == CHAT:
        delta = {"content": text} if text else {}
        choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": finish}
        if told is not None:
            choice["logprobs"] = told
        kind = "chat.completion.chunk"
    else:
        choice = {"index": 0, "text": text, "logprobs": told, "finish_reason": finish}
        kind = "text_completion"
    return sse({**_frame(asked, call_id, kind), "choices": [choice]})


def usage_event(asked: Asked, call_id: str, prompt_tokens: int, output_tokens: int) -> bytes:
    """The event after the last piece where `stream_options.include_usage` asks for it."""
    kind = "chat.completion.chunk" if asked.path == CHAT else "text_completion"
    frame = _frame(asked, call_id, kind)
    return sse({**frame, "choices": [], "usage": _usage(prompt_tokens, output_tokens)})


def whole(
    asked: Asked, call_id: str, text: str, finish: str, counts: tuple[int, int], logprob: float
) -> bytes:
    """The body of an answer that is not streamed; counts are prompt and output tokens."""
    told = _logprobs(asked, [logprob] * counts[1])
    if asked.path == CHAT:
        message = {"role": "assistant", "content": text}
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": finish}
        if told is not None:
            choice["logprobs"] = told
        kind = "chat.completion"
    else:
        choice = {"index": 0, "text": text, "logprobs": told, "finish_reason": finish}
        kind = "text_completion"
    return json.dumps(
        {
            **_frame(asked, call_id, kind),
            "choices": [choice],
            "usage": _usage(*counts),
        }
    ).encode()


def embeddings(asked: Asked, prompt_tokens: int, width: int = 8) -> bytes:
    """The body of an embeddings answer: one vector per input, a function of its length."""
    given = asked.document.get("input", "")
    inputs = given if isinstance(given, list) else [given]
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": [((len(str(text)) + i) % 7 - 3) / 8 for i in range(width)],
        }
        for index, text in enumerate(inputs)
    ]
    usage = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    return json.dumps(
        {"object": "list", "model": asked.model, "data": data, "usage": usage}
    ).encode()


def error(status: int, message: str, kind: str = "server_error") -> bytes:
    """An error body as OpenAI's API has it."""
    return json.dumps({"error": {"code": status, "message": message, "type": kind}}).encode()


def sse(document: dict[str, Any]) -> bytes:
    """A server-sent event with this document."""
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


def _frame(asked: Asked, call_id: str, kind: str) -> dict[str, Any]:
    return {"id": call_id, "object": kind, "created": 0, "model": asked.model}


def _usage(prompt_tokens: int, output_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": prompt_tokens + output_tokens,
    }
