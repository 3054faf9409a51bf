"""`slalom chat` and `slalom complete`: a quick try from the terminal.

Owns the prompts cut from files, the streaming to the terminal and the line of figures after it.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from slalom.cli.output import print_json, stderr
from slalom.cli.server_client import Answer, ServerClient
from slalom.cli.shape import ConfigOption, JsonOption, KeyOption, UrlOption, examples
from slalom.errors import RequestError

#: Characters of context sent with a completion.
_BEFORE_MAX = 8_000
_AFTER_MAX = 2_000
_FILE_MAX = 4 << 20

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="Model to ask. Default: the fitting one.",
        show_default=False,
    ),
]
MaxTokensOption = Annotated[int, typer.Option(min=1, metavar="N", help="Longest answer, tokens.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        "chat",
        short_help="Ask a model and print its answer.",
        epilog=examples(
            "slalom chat 'Write a function that parses an ISO date'",
            "slalom chat < question.txt            the question from a file",
            "slalom chat                           a conversation; Ctrl-D ends it",
            "slalom chat -m slalom-small --system 'Answer with code only' 'Sort a dict'",
            note="Asks the running server; where none answers, starts one for the call.",
        ),
    )(chat)
    app.command(
        "complete",
        short_help="Complete code at a place of a file.",
        epilog=examples(
            "slalom complete src/app.py:42         at the end of line 42",
            "slalom complete src/app.py:42:9       before column 9 of it",
            "slalom complete src/app.py:42 --json  with usage and times",
            note="Asks the running server; where none answers, starts one for the call.",
        ),
    )(complete)


def chat(
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="PROMPT",
            help="The question. Default: standard input, or a conversation.",
            show_default=False,
        ),
    ] = None,
    *,
    model: ModelOption = None,
    system: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Instruction before the conversation.", show_default=False
        ),
    ] = None,
    max_tokens: MaxTokensOption = 256,
    config: ConfigOption = None,
    url: UrlOption = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Ask a model and print its answer as it comes."""
    from slalom.cli.spare_server import server_for_call
    from slalom.config.load import load

    if prompt is None:
        prompt = standard_input()
    if prompt is not None and not prompt.strip():
        raise typer.BadParameter("the question is empty", param_hint="PROMPT")
    messages = [{"role": "system", "content": system}] if system else []
    loaded, _ = load(config)
    with server_for_call(loaded, config, url, key) as client:
        name = _choose(client, model, "chat")
        for question in [prompt] if prompt is not None else _questions():
            messages.append({"role": "user", "content": question})
            body = {"model": name, "messages": messages, "max_tokens": max_tokens}
            text = _print_answer(client, "/v1/chat/completions", body, json=json)
            messages.append({"role": "assistant", "content": text})


def complete(
    place: Annotated[str, typer.Argument(metavar="FILE:LINE[:COL]", help="Where the cursor is.")],
    *,
    model: ModelOption = None,
    max_tokens: MaxTokensOption = 48,
    config: ConfigOption = None,
    url: UrlOption = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Complete code at a place of a file, as an editor would, and print what to insert."""
    from slalom.cli.spare_server import server_for_call
    from slalom.config.load import load

    cursor = read_cursor(place)
    loaded, _ = load(config)
    with server_for_call(loaded, config, url, key) as client:
        body = {
            "model": _choose(client, model, "completion"),
            "prompt": cursor.before,
            "suffix": cursor.after,
            "max_tokens": max_tokens,
            "temperature": 0,
        }
        _print_answer(client, "/v1/completions", body, json=json)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The text before and after a place in a file."""

    before: str
    after: str


def read_cursor(place: str) -> Cursor:
    """Cut a file at ``FILE:LINE`` (the line's end) or ``FILE:LINE:COL`` (before the column).

    Raises:
        RequestError: The place is misspelt, not in the file, or the file is not text.
    """
    name, *numbers = _split_place(place)
    path = Path(name)
    try:
        if path.stat().st_size > _FILE_MAX:
            raise RequestError(f"{path} is larger than {_FILE_MAX >> 20} MiB: not source code")
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except UnicodeDecodeError:
        raise RequestError(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}") from None
    line = int(numbers[0])
    if not 1 <= line <= max(len(lines), 1):
        raise RequestError(f"{path} ends with line {len(lines)}; there is no line {line}")
    current = lines[line - 1] if lines else ""
    end = len(current.rstrip("\r\n"))
    column = int(numbers[1]) - 1 if len(numbers) > 1 else end
    if not 0 <= column <= end:
        raise RequestError(f"line {line} of {path} has columns 1 to {end + 1}, not {column + 1}")
    before = "".join(lines[: line - 1]) + current[:column]
    after = current[column:] + "".join(lines[line:])
    return Cursor(before[-_BEFORE_MAX:], after[:_AFTER_MAX])


def _split_place(place: str) -> list[str]:
    parts = place.rsplit(":", 2)
    if len(parts) == 3 and parts[1].isdecimal() and parts[2].isdecimal():
        return parts
    parts = place.rsplit(":", 1)
    if len(parts) == 2 and parts[1].isdecimal() and parts[0]:
        return parts
    raise RequestError(f"{place!r} is no place in a file: write FILE:LINE or FILE:LINE:COL")


def standard_input() -> str | None:
    """What is piped in; None at a terminal."""
    return None if sys.stdin.isatty() else sys.stdin.read()


def _questions() -> Iterator[str]:
    """What the user types, until the end of input."""
    while True:
        try:
            question = input("> ")
        except EOFError:
            sys.stdout.write("\n")
            return
        if question.strip():
            yield question


def _choose(client: ServerClient, model: str | None, task: str) -> str:
    """The model that was named, else the one that serves the task, else the first."""
    if model is not None:
        return model
    models = client.models()
    if not models:
        raise RequestError(f"{client.url} serves no model; configure one and try again")
    for card in models:
        if task in (card.get("slalom") or {}).get("aliases", ()):
            return task
    return str(models[0]["id"])


def _print_answer(client: ServerClient, path: str, body: dict[str, Any], *, json: bool) -> str:
    """Stream an answer to stdout, its figures to stderr."""
    console = stderr()
    with console.status(f"waiting for {body['model']} …"):
        answer = client.stream(path, body)
        first = next(answer.pieces, "")
    text = first
    if not json:
        _write(first)
    for piece in answer.pieces:
        text += piece
        if not json:
            _write(piece)
    if json:
        print_json({"text": text} | _figures(answer))
        return text
    _write("" if text.endswith("\n") else "\n")
    console.print(_remark(answer), style="dim", markup=False)
    return text


def _write(piece: str) -> None:
    sys.stdout.write(piece)
    sys.stdout.flush()


def _figures(answer: Answer) -> dict[str, Any]:
    headers = answer.headers
    predicted = headers.get("x-slalom-predicted-e2e-ms")
    told = {"predicted_e2e_ms": float(predicted)} if predicted else {}
    return told | {
        "request_id": headers.get("x-request-id"),
        "task": headers.get("x-slalom-task"),
        "replica": headers.get("x-slalom-replica"),
        "queue_ms": float(headers.get("x-slalom-queue-ms") or 0),
        "ttft_ms": round(answer.first_token_s * 1000, 1),
        "e2e_ms": round(answer.seconds * 1000, 1),
        "usage": answer.usage,
    }


def _remark(answer: Answer) -> str:
    """Who answered, how long it took, and how to learn more."""
    found = _figures(answer)
    tokens = answer.usage.get("completion_tokens")
    took = f"{tokens} tokens in {found['e2e_ms']:.0f} ms" if tokens else ""
    first = f"first token after {found['ttft_ms']:.0f} ms"
    line = " · ".join(part for part in (str(found["replica"] or ""), first, took) if part)
    if found["request_id"] and found["replica"]:
        line += f"\nmore: slalom explain {found['request_id']}"
    return line
