"""Answers of engines with what they mean: recorded ones, and ones made to be awkward.

Owns the streams that every protocol's translation must get right. `corpus/` was recorded from
llama.cpp with the bundled model; the rest has the shapes that llama.cpp and vLLM give to tools,
reasoning and usage.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "corpus"
DONE = b"data: [DONE]\n\n"


class BrokenOffError(Exception):
    """The answer ended with an error that the client understands."""


@dataclass(frozen=True)
class Meaning:
    """What a client must have understood, whatever its protocol."""

    text: str = ""
    thought: str = ""
    #: Id, name and arguments of each call.
    tools: tuple[tuple[str, str, str], ...] = ()
    #: OpenAI's finish reason.
    finish: str = "stop"
    prompt_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True)
class Recorded:
    """One answer."""

    stream: bytes
    meaning: Meaning
    whole: bytes = field(repr=False, default=b"")


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    """One event as an engine writes it."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    document = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1795262291,
        "model": "m",
        "choices": choices,
        **more,
    }
    return b"data: " + json.dumps(document, ensure_ascii=False).encode() + b"\n\n"


def usage(prompt_tokens: int, output_tokens: int) -> dict[str, Any]:
    """A usage as every engine reports it."""
    return {
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": prompt_tokens + output_tokens,
        }
    }


def call(index: int, arguments: str = "", **first: str) -> dict[str, Any]:
    """A delta with a piece of a tool call; the first one names it."""
    function: dict[str, Any] = {"arguments": arguments}
    part: dict[str, Any] = {"index": index, "function": function}
    if first:
        function["name"] = first["name"]
        part |= {"id": first["id"], "type": "function"}
    return {"tool_calls": [part]}


def whole(meaning: Meaning) -> bytes:
    """The same answer, not streamed."""
    message: dict[str, Any] = {"role": "assistant", "content": meaning.text or None}
    if meaning.thought:
        message["reasoning_content"] = meaning.thought
    if meaning.tools:
        message["tool_calls"] = [
            {"id": name_id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for name_id, name, arguments in meaning.tools
        ]
    choice = {"index": 0, "message": message, "finish_reason": meaning.finish}
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1795262291,
            "model": "m",
            "choices": [choice],
            **usage(meaning.prompt_tokens, meaning.output_tokens),
        }
    ).encode()


def _made(events: list[bytes], meaning: Meaning) -> Recorded:
    return Recorded(b"".join([*events, DONE]), meaning, whole(meaning))


_WIDE = 'naïve – 数据 \U0001f389 \\"quoted\\"\n\tend'

CORPUS: dict[str, Recorded] = {
    "llama.cpp chat": Recorded(
        (FOLDER / "llama-chat.sse").read_bytes(),
        Meaning("```javascript", finish="length", prompt_tokens=16, output_tokens=6),
        (FOLDER / "llama-chat.json").read_bytes(),
    ),
    "llama.cpp completion": Recorded(
        (FOLDER / "llama-text.sse").read_bytes(),
        Meaning(
            "):\n    if a is NotImplemented", finish="length", prompt_tokens=6, output_tokens=6
        ),
    ),
    "wide characters": _made(
        [
            chunk({"role": "assistant", "content": ""}),
            *(chunk({"content": c}) for c in _WIDE),
            chunk({}, "stop"),
            chunk(**usage(4, 23)),
        ],
        Meaning(_WIDE, prompt_tokens=4, output_tokens=23),
    ),
    "two tools, arguments in pieces": _made(
        [
            chunk({"role": "assistant", "content": None}),
            chunk({"content": "I look."}),
            chunk(call(0, id="call_a", name="read_file")),
            chunk(call(0, '{"pa')),
            chunk(call(0, 'th": "ü')),
            chunk(call(0, '.py"}')),
            chunk(call(1, '{"a": [1', id="call_b", name="add")),
            chunk(call(1, ', {"b": null}]}')),
            chunk({}, "tool_calls"),
            chunk(**usage(50, 21)),
        ],
        Meaning(
            "I look.",
            tools=(
                ("call_a", "read_file", '{"path": "ü.py"}'),
                ("call_b", "add", '{"a": [1, {"b": null}]}'),
            ),
            finish="tool_calls",
            prompt_tokens=50,
            output_tokens=21,
        ),
    ),
    "a tool without arguments, called a stop": _made(
        [chunk(call(0, "{}", id="call_a", name="now")), chunk({}, "stop"), chunk(**usage(3, 2))],
        Meaning(tools=(("call_a", "now", "{}"),), prompt_tokens=3, output_tokens=2),
    ),
    "reasoning, then text": _made(
        [
            chunk({"role": "assistant", "reasoning_content": "Hm"}),
            chunk({"reasoning_content": "m."}),
            chunk({"content": "Yes"}),
            chunk({"content": "."}, "stop"),
            chunk(**usage(7, 4)),
        ],
        Meaning("Yes.", "Hmm.", prompt_tokens=7, output_tokens=4),
    ),
    "vLLM: usage in every event, reasoning by its new name, all at the end": _made(
        [
            b": a comment\n\n",
            chunk({"role": "assistant", "content": ""}, **usage(7, 0)),
            chunk({"reasoning": "Hm."}, **usage(7, 1)),
            chunk({"content": "Yes."}, "stop", **usage(7, 2)),
        ],
        Meaning("Yes.", "Hm.", prompt_tokens=7, output_tokens=2),
    ),
    "carriage returns": Recorded(
        b"".join([chunk({"content": "a\r\nb"}, "stop"), chunk(**usage(1, 1)), DONE]).replace(
            b"\n\n", b"\r\n\r\n"
        ),
        Meaning("a\r\nb", prompt_tokens=1, output_tokens=1),
    ),
    "no space behind the colon": Recorded(
        b"".join([chunk({"content": "a"}, "stop"), chunk(**usage(1, 1)), DONE]).replace(
            b"data: ", b"data:"
        ),
        Meaning("a", prompt_tokens=1, output_tokens=1),
    ),
    "nothing": _made(
        [chunk({"role": "assistant", "content": ""}), chunk({}, "stop"), chunk(**usage(2, 0))],
        Meaning(prompt_tokens=2),
    ),
    "another choice beside": _made(
        [
            chunk({"content": "one"}),
            b'data: {"choices":[{"index":1,"delta":{"content":"two"}}]}\n\n',
            chunk({}, "stop"),
            chunk(**usage(2, 2)),
        ],
        Meaning("one", prompt_tokens=2, output_tokens=2),
    ),
}
