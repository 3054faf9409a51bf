"""Coding prompts cut from real Python files, as fields of OpenAI requests.

Owns where a prompt is cut and what is asked for: a completion at a cursor (the rest of a line, or
a block), a body for a signature, a summary, a translation. Deterministic in the stream it is given.
Owns no models, rates or limits of time (`mix`). Prompts are never logged: their `repr` hides them.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from slalom.workload.source_code import Corpus, SourceFile, SourceFunction

CHAT_PATH = "/v1/chat/completions"
COMPLETIONS_PATH = "/v1/completions"

#: Most text above and below a cursor, characters; about 3.5 are a token.
PREFIX_CHARS_MAX = 1_400
SUFFIX_CHARS_MAX = 500
#: Where in a line a cursor may stand: not before this many characters of code …
_TYPED_MIN = 3
#: … and with at least this many still to be written.
_MISSING_MIN = 4
_TRIES = 40
_LANGUAGES = ("TypeScript", "Java", "Go", "Rust", "C++", "Kotlin")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked, without model and options."""

    path: str
    #: `prompt` and `suffix`, or `messages`; `stop` where the task has a natural end.
    fields: Mapping[str, Any] = field(repr=False)
    #: Where it was cut: file and function.
    origin: str
    #: What really stands there, where something does: a reference for judging answers.
    reference: str = field(default="", repr=False)


def completion(rng: random.Random, corpus: Corpus, number: int) -> Prompt:
    """The rest of a line, at a cursor between two tokens of a real function."""
    for attempt in range(_TRIES):
        file, function = corpus.pick(rng, number + attempt)
        cursors = _cursors(file, function)
        if cursors:
            line, column = rng.choice(cursors)
            text = file.lines[line - 1]
            missing = text[column:].rstrip("\n")
            return _infill(file, function, (line, column), (line, len(text.rstrip("\n"))), missing)
    return _whole_body(*corpus.pick(rng, number))


def multiline_completion(rng: random.Random, corpus: Corpus, number: int) -> Prompt:
    """A block of several lines, at a cursor where it begins."""
    for attempt in range(_TRIES):
        file, function = corpus.pick(rng, number + attempt)
        if function.blocks:
            first, last = rng.choice(function.blocks)
            return _block(file, function, first, last)
    return _whole_body(*corpus.pick(rng, number))


def generation(rng: random.Random, corpus: Corpus, number: int) -> Prompt:
    """A function's body for its signature and docstring."""
    file, function = corpus.pick(rng, number)
    question = f"Complete this Python function.\n\n```python\n{function.head}\n```"
    return _chat(file, function, question, reference=function.text)


def summarisation(rng: random.Random, corpus: Corpus, number: int) -> Prompt:
    """What a function does, in a sentence."""
    file, function = corpus.pick(rng, number)
    question = f"Summarise in one sentence what this does.\n\n```python\n{function.text}\n```"
    return _chat(file, function, question)


def translation(rng: random.Random, corpus: Corpus, number: int) -> Prompt:
    """A function in another language."""
    file, function = corpus.pick(rng, number)
    language = rng.choice(_LANGUAGES)
    question = f"Translate this function to {language}.\n\n```python\n{function.text}\n```"
    return _chat(file, function, question)


#: Task -> what cuts its prompts.
CUTTERS: Mapping[str, Callable[[random.Random, Corpus, int], Prompt]] = MappingProxyType(
    {
        "completion": completion,
        "completion-multiline": multiline_completion,
        "generation": generation,
        "summarisation": summarisation,
        "translation": translation,
    }
)


def _cursors(file: SourceFile, function: SourceFunction) -> list[tuple[int, int]]:
    """Places (line, column) in a function's body with code on both sides."""
    first, last = function.body_lines
    found = []
    for number in range(first, last + 1):
        text = file.lines[number - 1].rstrip()
        indent = len(text) - len(text.lstrip())
        found += [
            (number, column)
            for column in file.token_ends.get(number, ())
            if indent + _TYPED_MIN <= column <= len(text) - _MISSING_MIN
        ]
    return found


def _block(file: SourceFile, function: SourceFunction, first: int, last: int) -> Prompt:
    text = file.lines[first - 1]
    indent = len(text) - len(text.lstrip())
    missing = "".join(file.lines[first - 1 : last])[indent:]
    end = (last, len(file.lines[last - 1].rstrip("\n")))
    return _infill(file, function, (first, indent), end, missing)


def _whole_body(file: SourceFile, function: SourceFunction) -> Prompt:
    """What is left to ask where a folder's functions hold no better place."""
    return _block(file, function, *function.body_lines)


def _infill(
    file: SourceFile,
    function: SourceFunction,
    cursor: tuple[int, int],
    end: tuple[int, int],
    missing: str,
) -> Prompt:
    lines = file.lines
    above = "".join(lines[: cursor[0] - 1]) + lines[cursor[0] - 1][: cursor[1]]
    below = lines[end[0] - 1][end[1] :] + "".join(lines[end[0] :])
    single = cursor[0] == end[0]
    fields: dict[str, Any] = {
        "prompt": _tail(above, PREFIX_CHARS_MAX),
        # An empty suffix would make it an ordinary completion.
        "suffix": _start(below, SUFFIX_CHARS_MAX) or "\n",
    }
    if single:
        fields["stop"] = ["\n"]
    return Prompt(COMPLETIONS_PATH, fields, f"{file.name}:{cursor[0]} {function.name}", missing)


def _chat(
    file: SourceFile, function: SourceFunction, question: str, *, reference: str = ""
) -> Prompt:
    fields = {"messages": [{"role": "user", "content": question}]}
    return Prompt(CHAT_PATH, fields, f"{file.name} {function.name}", reference)


def _tail(text: str, chars_max: int) -> str:
    """The end of a text, from the start of a line."""
    if len(text) <= chars_max:
        return text
    cut = text[-chars_max:]
    newline = cut.find("\n")
    return cut[newline + 1 :] if 0 <= newline < len(cut) - 1 else cut


def _start(text: str, chars_max: int) -> str:
    """The beginning of a text, to the end of a line."""
    if len(text) <= chars_max:
        return text
    cut = text[:chars_max]
    newline = cut.rfind("\n")
    return cut[: newline + 1] if newline > 0 else cut
