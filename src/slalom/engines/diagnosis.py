"""Why an engine's process did not come up, read from how it ended and what it printed.

Owns the signs, as one ordered table. Pure: no process, no file. Called by the launchers.
"""

import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slalom.core.events import FailureKind


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was wrong, in the words of somebody who knows the program."""

    kind: FailureKind
    #: One or two sentences: what happened and what to do.
    advice: str


#: From the last lines of a program to what they mean; None where they mean nothing known.
Explain = Callable[[Sequence[str]], Diagnosis | None]

#: First match wins: a model that does not fit is also reported as "failed to load".
_SIGNS: tuple[tuple[FailureKind, re.Pattern[str]], ...] = (
    (
        FailureKind.OUT_OF_MEMORY,
        re.compile(
            r"out of memory|outofmemory|cannot allocate memory|failed to allocate|bad_alloc"
            r"|memoryerror|no available memory for the cache blocks|failed to reserve"
            # What starting a thread without memory for its stack looks like in C++.
            r"|resource temporarily unavailable",
            re.IGNORECASE,
        ),
    ),
    (
        FailureKind.START_FAILED,
        re.compile(
            r"couldn't bind|could not bind|address already in use|eaddrinuse|errno 98",
            re.IGNORECASE,
        ),
    ),
    (
        FailureKind.MODEL_UNUSABLE,
        re.compile(
            r"error loading model|failed to load model|failed to open gguf|gguf_init_from"
            r"|no such file or directory: '[^']*\.(gguf|safetensors)|not a valid (gguf|model)"
            r"|repository not found|does not appear to have a file named",
            re.IGNORECASE,
        ),
    ),
)

_PORT = _SIGNS[1][1]


def diagnose(lines: Sequence[str], returncode: int | None) -> FailureKind:
    """Why a program that was starting ended.

    Args:
        lines: What it printed last.
        returncode: Its exit status; a negative signal number; None if it still runs.
    """
    text = "\n".join(lines)
    for kind, sign in _SIGNS:
        if sign.search(text):
            return kind
    if returncode == -signal.SIGKILL:
        # Nobody here kills a loading engine without saying so: it was the kernel, for memory.
        return FailureKind.OUT_OF_MEMORY
    return FailureKind.START_FAILED


def is_port_taken(lines: Sequence[str]) -> bool:
    """Whether the program said that its port belongs to somebody else."""
    return _PORT.search("\n".join(lines)) is not None
