"""One person who types: a keystroke at its time, and a completion asked for at each.

Owns the loop over keystrokes, the cancelling of what an editor no longer wants, and the record of
each completion. Called by the runs, once for each typist.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from slalom.bench.typing.asking import Heard, ask
from slalom.bench.typing.document import Document
from slalom.bench.typing.rhythm import Keystroke
from slalom.clock import Clock
from slalom.metrics.records import NEVER
from slalom.models.fim import FimTemplate
from slalom.units import SECOND
from slalom.workload.prompts import COMPLETIONS_PATH

#: Longest suggestion, tokens; the end of the line ends it, too.
TOKENS_MAX = 32


@dataclass(slots=True)
class Completion:
    """What became of one keystroke's completion. All times: ns of the clock."""

    typist: int
    stroke: Keystroke
    #: When the key was to be hit, and when the next one is.
    at_ns: int
    next_ns: int
    heard: Heard

    @property
    def in_time(self) -> bool:
        """Whether the whole answer was there before the next key was hit."""
        return NEVER < self.heard.whole_ns <= self.next_ns


@dataclass(frozen=True, slots=True)
class Editor:
    """How requests are made."""

    session: aiohttp.ClientSession
    model: str
    #: How the model marks a gap; None sends the suffix in a field of its own.
    fim: FimTemplate | None
    #: Whether the editor closes the older request when a key is hit.
    cancels: bool
    clock: Clock
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: Further fields of each body.
    extra: Mapping[str, Any] = field(default_factory=dict)

    def fields(self, document: Document) -> dict[str, Any]:
        """The body for a cursor's place."""
        return {
            "model": self.model,
            **document.prompt(self.fim),
            "max_tokens": TOKENS_MAX,
            "temperature": 0,
            "stop": ["\n"],
            **self.extra,
        }


async def type_on(
    editor: Editor,
    document: Document,
    strokes: Iterable[Keystroke],
    *,
    typist: int,
    start_ns: int,
    grace_ns: int,
) -> list[Completion]:
    """Type, and ask at each keystroke.

    Args:
        editor: Who asks.
        document: What is typed.
        strokes: When.
        typist: Which one.
        start_ns: Of the run, by the clock.
        grace_ns: How long answers are waited for after the last keystroke.

    Returns:
        One record for each keystroke; what is under way at the end is cut and never whole.
    """
    found: list[Completion] = []
    tasks: set[asyncio.Task[None]] = set()
    newest: asyncio.Task[None] | None = None
    headers = {**editor.headers, "user-agent": f"slalom-typist/{typist}"}
    try:
        for stroke in strokes:
            at_ns = start_ns + stroke.at_ns
            await until(editor.clock, at_ns)
            _look(document, found, stroke)
            document.type()
            if editor.cancels and newest is not None:
                newest.cancel()
            heard = Heard()
            found.append(Completion(typist, stroke, at_ns, start_ns + stroke.next_ns, heard))
            fields = editor.fields(document)
            newest = asyncio.create_task(
                ask(
                    *(editor.session, COMPLETIONS_PATH, fields, heard),
                    clock=editor.clock,
                    headers=headers,
                )
            )
            tasks.add(newest)
            newest.add_done_callback(tasks.discard)
        if tasks:
            await asyncio.wait(tasks, timeout=grace_ns / SECOND)
    finally:
        left = list(tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
    return found


def _look(document: Document, found: list[Completion], stroke: Keystroke) -> None:
    """After a pause, see what is suggested, and go on with it or not."""
    last = found[-1] if found else None
    if last is None or not last.stroke.pause or not stroke.follows:
        return
    if last.in_time and last.heard.text.strip():
        document.follow(last.heard.text)


async def until(clock: Clock, at_ns: int) -> None:
    """Wait for a time of the clock."""
    wait_ns = at_ns - clock.now_ns()
    if wait_ns > 0:
        await asyncio.sleep(wait_ns / SECOND)
