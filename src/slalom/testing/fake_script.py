"""What a test tells a fake engine to do: lengths, times, places and what goes wrong.

Owns plain data only. Read by `fake_engine`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from slalom.engines.protocol import Capabilities
from slalom.models.fim import FimTemplate
from slalom.testing.fake_wire import Asked, token_text
from slalom.units import MIB, MS

#: Output of a request that sets no `max_tokens`.
_DEFAULT_TOKENS = 16
_CAPABILITIES = Capabilities(
    embeddings=True, sleep_levels=(1, 2), fim=FimTemplate("<PRE>", "<SUF>", "<MID>")
)


class FaultKind(StrEnum):
    """What goes wrong with one call."""

    #: The whole program dies.
    CRASH = "crash"
    #: Only this connection breaks.
    CUT = "cut"
    #: The whole program stops answering, without dying.
    HANG = "hang"
    #: Bytes that are no events, and then a proper end.
    GARBAGE = "garbage"
    #: An error status instead of an answer.
    STATUS = "status"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong with one call."""

    kind: FaultKind
    #: Tokens delivered before it happens; an error status comes before any.
    after_tokens: int = 0
    status: int = 500


@dataclass(frozen=True, slots=True)
class FakeTimings:
    """How long things take, ns."""

    prefill_ns_per_token: int = 0
    #: One output token of a request that runs alone.
    token_ns: int = MS
    #: What each other running request adds to it.
    neighbour_ns: int = 0
    sleep_ns: int = 0
    wake_ns: int = 0


def _asked_for(asked: Asked) -> int:
    return _DEFAULT_TOKENS if asked.max_tokens is None else asked.behind + asked.max_tokens


def _words(asked: Asked) -> int:
    return len(asked.prompt_text.split())


def _no_fault(_number: int, _asked: Asked) -> Fault | None:
    return None


@dataclass(frozen=True, slots=True)
class FakeScript:
    """How a fake engine behaves."""

    timings: FakeTimings = FakeTimings()
    #: Requests it works on at a time; the rest wait inside it, first come first served.
    places: int = 4
    #: Tokens of a request's whole answer, with those that a prompt brings along already;
    #: `max_tokens` still cuts it.
    output_tokens: Callable[[Asked], int] = _asked_for
    prompt_tokens: Callable[[Asked], int] = _words
    #: The text of each token, and how sure the engine says it was of every one.
    text: Callable[[int], str] = token_text
    logprob: float = -0.01
    #: Given the number of the call (from 1) and its body: what goes wrong with it.
    fault: Callable[[int, Asked], Fault | None] = _no_fault
    capabilities: Capabilities = _CAPABILITIES
    memory_bytes: int = 64 * MIB
