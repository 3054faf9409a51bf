"""What a real engine is asked in order to learn its step times, and what is read from its answers.

Owns the experiments: one stream, more and more at a time, prompts of growing length alone and
beside running streams. Each gives observations of one engine step with what that step computed.
Fits nothing (`calibrate_fit`). Called by `calibrate`.
"""

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from slalom.bench.calibrate_streams import Stream, step_ns, watch
from slalom.clock import Clock
from slalom.engines.protocol import Engine
from slalom.units import SECOND

#: Prompt lengths that are tried, as far as the context allows.
_PREFILLS = (1, 16, 64, 128, 256, 384, 512, 768, 1024)
_SHORT = 16
#: Context of streams that write, tokens, as far as the engine's allows.
_CONTEXTS = (16, 700)
#: The experiments are repeated so often, as far as there is time.
_ROUNDS = 5
#: Output tokens of a stream that is watched: bounds, and the time it may take.
_TOKENS = (12, 256)
_WATCH_NS = SECOND


class Kind(StrEnum):
    """What an observation was made with."""

    #: Only tokens that follow others.
    DECODE = "decode"
    #: One prompt on an idle engine, from sending to its first token.
    PREFILL = "prefill"
    #: A prompt read while others decode.
    MIXED = "mixed"


@dataclass(frozen=True, slots=True)
class Observation:
    """How long one step took (or, for `PREFILL`, one request until its first token)."""

    #: Number of the experiment; its repeats have the same.
    experiment: int
    kind: Kind
    #: Sequences that got their next token.
    decode_seqs: int
    #: Tokens of context these sequences had together.
    kv_tokens: int
    #: Prompt tokens that were read.
    prefill_tokens: int
    ns: int


#: Told (experiments done, of how many).
OnProgress = Callable[[int, int], None]


class Prober:
    """Runs the experiments on one engine that does nothing else.

    Args:
        engine: To be asked.
        clock: The real one, except in tests.
        places: Streams it takes at a time.
        context_tokens: Longest prompt and answer of one stream.
        budget_ns: No repeat begins after that, and nothing at all after twice that.
    """

    def __init__(
        self, engine: Engine, clock: Clock, *, places: int, context_tokens: int, budget_ns: int
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._places = places
        self._context_tokens = context_tokens
        self._began_ns = clock.now_ns()
        self._end_ns = self._began_ns + budget_ns
        self._experiment = 0
        self._salt = 0
        self._tokens = _TOKENS[0]
        self.observations: list[Observation] = []
        #: Experiments of the first round for which there was no time.
        self.left_out = 0

    async def run(self, on_progress: OnProgress = lambda _done, _total: None) -> None:
        """Do all experiments for which there is time.

        Raises:
            EngineError: The engine refused a probe or failed.
        """
        await self._warm_up()
        plan = self._plan()
        total = _ROUNDS * len(plan)
        for number in range(total):
            # One round is done whatever it takes, unless it takes far too long.
            end_ns = self._end_ns if number >= len(plan) else 2 * self._end_ns - self._began_ns
            if self._clock.now_ns() > end_ns:
                self.left_out = max(len(plan) - number, 0)
                break
            self._experiment = number % len(plan)
            await plan[self._experiment]()
            on_progress(number + 1, total)

    def _plan(self) -> list[Callable[[], Awaitable[None]]]:
        """The experiments of one round."""
        longest = max(self._context_tokens - 64, 1)
        prefills = [size for size in _PREFILLS if size <= longest]
        plan: list[Callable[[], Awaitable[None]]] = [
            partial(self._prefill, size) for size in prefills
        ]
        for context in _CONTEXTS:
            plan += [partial(self._decode, width, context) for width in widths(self._places)]
        if self._places > 1:
            for width in widths(self._places - 1)[-2:]:
                plan += [partial(self._mixed, width, size) for size in prefills[1::2]]
        return plan

    async def _warm_up(self) -> None:
        """Touch every weight, and learn how many tokens are watched in the time there is."""
        await self._stream(_SHORT, _TOKENS[0])
        stream = await self._stream(_SHORT, _TOKENS[0])
        tokens = _WATCH_NS // max(step_ns([stream]), 1)
        self._tokens = max(_TOKENS[0], min(tokens, _TOKENS[1]))

    async def _prefill(self, prompt_tokens: int) -> None:
        stream = await self._stream(prompt_tokens, 1)
        self._note(Kind.PREFILL, 0, 0, prompt_tokens, stream.first_ns)

    async def _decode(self, width: int, prompt_tokens: int) -> None:
        """`width` streams at once; observed while all of them write."""
        room = self._context_tokens - self._tokens - 1
        prompt_tokens = max(1, min(prompt_tokens, room))
        tasks = [self._watching(Stream(prompt_tokens), self._tokens) for _ in range(width)]
        streams = await asyncio.gather(*tasks)
        ns = step_ns(streams)
        if ns:
            middle_ns = (streams[0].arrivals_ns[0] + streams[0].arrivals_ns[-1]) // 2
            self._note(Kind.DECODE, width, _context(streams, middle_ns), 0, ns)

    async def _mixed(self, width: int, prompt_tokens: int) -> None:
        """A prompt that comes while `width` streams write: the step that reads it holds them up."""
        tokens = self._context_tokens - _SHORT - 1
        background = [Stream(_SHORT) for _ in range(width)]
        tasks = [self._watching(stream, tokens) for stream in background]
        try:
            for stream in background:
                await stream.under_way.wait()
            late = await self._stream(prompt_tokens, 1)
            await background[0].next_token()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        gap = _gap_around(background, late)
        if gap is not None:
            at_ns, ns = gap
            self._note(Kind.MIXED, width, _context(background, at_ns), prompt_tokens, ns)

    # -- inside ---------------------------------------------------------------------------

    def _watching(self, stream: Stream, output_tokens: int) -> asyncio.Task[Stream]:
        self._salt += 1
        return asyncio.ensure_future(
            watch(self._engine, self._clock, stream, salt=self._salt, output_tokens=output_tokens)
        )

    async def _stream(self, prompt_tokens: int, output_tokens: int) -> Stream:
        return await self._watching(Stream(prompt_tokens), output_tokens)

    def _note(self, kind: Kind, seqs: int, kv_tokens: int, prefill_tokens: int, ns: int) -> None:
        self.observations.append(
            Observation(self._experiment, kind, seqs, kv_tokens, prefill_tokens, ns)
        )


def widths(places: int) -> list[int]:
    """Numbers of streams that are tried: every one up to 4, then some up to all places."""
    wished = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256]
    return sorted({*(width for width in wished if width < places), max(places, 1)})


def _context(streams: Sequence[Stream], at_ns: int) -> int:
    """Tokens of context of all streams at a time."""
    written = sum(sum(at <= at_ns for at in stream.arrivals_ns) for stream in streams)
    return written + sum(stream.prompt_tokens for stream in streams)


def _gap_around(background: Sequence[Stream], late: Stream) -> tuple[int, int] | None:
    """(time, length) of the pause in the background streams that reading a late prompt made."""
    first_ns = late.arrivals_ns[0]
    gaps = [
        (earlier, later - earlier)
        for stream in background
        for earlier, later in zip(stream.arrivals_ns, stream.arrivals_ns[1:], strict=False)
        if later > late.sent_ns and earlier < first_ns
    ]
    if not gaps:
        return None
    longest = sorted(gaps, key=lambda gap: gap[1])[-len(background) :]
    return longest[0][0], round(statistics.median(length for _, length in longest))
