"""What a real engine is asked in order to learn its step times, and what is read from its answers.

Owns the experiments: prompts of growing length on an idle engine, more and more streams at a time,
prompts beside running streams, all places kept busy with requests of many sizes. Each gives
observations of a span with what the engine computed in it. Fits nothing (`calibrate_fit`). Called
by `calibrate`.
"""

import asyncio
import bisect
import itertools
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from slalom.bench.calibrate_streams import Asked, Stream, step_ns, watch
from slalom.bench.calibrate_work import Shape, Work, busy
from slalom.bench.scenario_text import Texts
from slalom.clock import Clock
from slalom.core.request import Sla
from slalom.units import SECOND
from slalom.workload.load import LoadItem

#: Prompt lengths that are tried, as far as the context allows.
_PREFILLS = (1, 16, 64, 128, 256, 384, 512, 768, 1024)
_SHORT = 16
#: Context of streams that write, tokens, as far as the engine's allows.
_CONTEXTS = (16, 700)
#: Requests that keep all places busy: prompts up to the first, answers up to the second, tokens;
#: so many for each place, in so many experiments.
_BUSY_TOKENS = (500, 96)
_BUSY_EACH, _BUSY = 3, 3
#: The experiments are repeated so often, as far as there is time.
_ROUNDS = 5
#: Length of the text that prompts are cut from, going round and round; and how much of the context
#: is used, because a piece of it may have more tokens than the whole says.
_TEXT_CHARS = 2_000
_CONTEXT_SHARE = 0.8
#: Output tokens of a stream that is watched: bounds, and the time it may take.
_TOKENS = (12, 256)
_WATCH_NS = SECOND
#: An engine that has had nothing to do takes a little longer to begin, and requests of a load that
#: is not heavy come to such ones.
_IDLE_S = 0.03


class Kind(StrEnum):
    """What an observation was made with."""

    #: Only tokens that follow others.
    DECODE = "decode"
    #: One prompt on an idle engine, from sending to its first token.
    PREFILL = "prefill"
    #: Prompts read while others decode.
    MIXED = "mixed"


@dataclass(frozen=True, slots=True)
class Observation:
    """How long something took."""

    #: Number of the experiment; its repeats have the same.
    experiment: int
    kind: Kind
    work: Work
    ns: int


#: Told (experiments done, of how many).
OnProgress = Callable[[int, int], None]


class Prober:
    """Runs the experiments on one engine that does nothing else.

    Args:
        engine: To be asked.
        clock: The real one, except in tests.
        shape: How the engine arranges its steps, and the streams it takes at a time.
        context_tokens: Longest prompt and answer of one stream.
        budget_ns: No repeat begins after that, and nothing at all after twice that.
    """

    def __init__(
        self, engine: Asked, clock: Clock, *, shape: Shape, context_tokens: int, budget_ns: int
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._shape = shape
        self._context_tokens = max(round(_CONTEXT_SHARE * context_tokens), 2)
        # A character is a token at most, so that the text fits.
        self._text = _text(min(_TEXT_CHARS, self._context_tokens))
        self._chars_per_token = 0.0
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
        places = self._shape.places
        longest = max(self._context_tokens - 64, 1)
        prefills = [size for size in _PREFILLS if size <= longest]
        plan: list[Callable[[], Awaitable[None]]] = [
            partial(self._prefill, size) for size in prefills
        ]
        groups = [tuple(range(width)) for width in widths(places)]
        if not self._shape.kv_unified and places > 2:
            # Streams that are no neighbours are computed apart.
            groups.append((0, 2))
        for context in _CONTEXTS:
            plan += [partial(self._decode, group, (context,)) for group in groups]
        if not self._shape.kv_unified and places > 1:
            # Short streams beside a long one, which they are computed with.
            uneven = tuple(reversed(_CONTEXTS))
            plan.append(partial(self._decode, groups[min(places, 4) - 1], uneven))
        if places > 1:
            for width in widths(places - 1)[-2:]:
                plan += [partial(self._mixed, width, size) for size in prefills[1::2]]
            plan += [partial(self._busy, number) for number in range(_BUSY)]
        return plan

    async def _warm_up(self) -> None:
        """Touch every weight, and learn how many tokens are watched in the time there is."""
        self._salt += 1
        stream = Stream(0, text=self._text)
        await watch(self._engine, self._clock, stream, salt=0, output_tokens=_TOKENS[0])
        if stream.prompt_tokens:
            # Else the engine does not count: prompts are then made of token ids.
            self._chars_per_token = len(self._text) / stream.prompt_tokens
        stream = await self._stream(_SHORT, _TOKENS[0])
        tokens = _WATCH_NS // max(step_ns([stream]), 1)
        self._tokens = max(_TOKENS[0], min(tokens, _TOKENS[1]))

    async def _prefill(self, prompt_tokens: int) -> None:
        await asyncio.sleep(_IDLE_S)
        stream = await self._stream(prompt_tokens, 1, place=0)
        pieces = self._shape.pieces((), [(0, stream.prompt_tokens)])
        pairs = stream.prompt_tokens**2 / 2
        work = Work(pieces, prefill_pairs=pairs, requests=1, from_idle=True)
        self._note(Kind.PREFILL, work, stream.first_ns)

    async def _decode(self, places: Sequence[int], prompts: Sequence[int]) -> None:
        """Streams at once; observed while all of them write.

        Args:
            places: One for each stream.
            prompts: Prompt tokens of each; the last is also that of those after it.
        """
        room = self._context_tokens - self._tokens - 1
        sizes = [max(1, min(size, room)) for size in prompts]
        sizes += sizes[-1:] * (len(places) - len(sizes))
        tasks = [
            self._watching(Stream(size), self._tokens, at)
            for size, at in zip(sizes, places, strict=True)
        ]
        streams = await asyncio.gather(*tasks)
        ns = step_ns(streams)
        if ns:
            middle_ns = (streams[0].arrivals_ns[0] + streams[0].arrivals_ns[-1]) // 2
            pieces = self._shape.pieces(places, ())
            context = _context(streams, middle_ns)
            self._note(Kind.DECODE, Work(pieces, len(places), context), ns)

    async def _mixed(self, width: int, prompt_tokens: int) -> None:
        """A prompt that comes while `width` streams write: the step that reads it holds them up."""
        tokens = self._context_tokens - _SHORT - 1
        background = [Stream(_SHORT) for _ in range(width)]
        tasks = [self._watching(stream, tokens, at) for at, stream in enumerate(background)]
        try:
            for stream in background:
                await stream.under_way.wait()
            late = await self._stream(prompt_tokens, 1, place=width)
            await background[0].next_token()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        ns = _held_up_ns(background[0], late)
        if ns:
            pieces = self._shape.pieces(range(width), [(width, late.prompt_tokens)])
            context = _context(background, late.sent_ns)
            pairs = late.prompt_tokens**2 / 2
            work = Work(pieces, width, context, prefill_pairs=pairs, requests=1)
            self._note(Kind.MIXED, work, ns)

    async def _busy(self, number: int) -> None:
        """All places kept busy with requests of many sizes: what a load is like.

        Never more requests than places, as Slalom sends them: those that wait inside an engine
        may slow it down.
        """
        prompt_max, output_max = _BUSY_TOKENS
        prompt_max = max(min(prompt_max, self._context_tokens // 2), 1)
        output_max = max(min(output_max, self._context_tokens // 2 - 1, self._tokens), 1)
        places = self._shape.places
        sizes = [
            # Far from even, and the same in every round.
            (1 + (index * 619) % prompt_max, 1 + (index * 389) % output_max)
            for index in range(100 * number + 7, 100 * number + 7 + _BUSY_EACH * places)
        ]
        await asyncio.sleep(_IDLE_S)
        unsent, streams = iter(range(len(sizes))), dict[int, Stream]()

        async def client() -> None:
            for index in unsent:
                streams[index] = await self._stream(*sizes[index])

        await asyncio.gather(*(client() for _ in range(places)))
        began_ns = min(stream.sent_ns for stream in streams.values())
        ended_ns = max(stream.arrivals_ns[-1] for stream in streams.values())
        counted = [
            (streams[index].prompt_tokens, output) for index, (_, output) in enumerate(sizes)
        ]
        self._note(Kind.MIXED, busy(self._shape, counted), ended_ns - began_ns)

    # -- inside ---------------------------------------------------------------------------

    def _watching(
        self, stream: Stream, output_tokens: int, place: int | None = None
    ) -> asyncio.Task[Stream]:
        self._salt += 1
        if self._chars_per_token:
            chars = max(round(stream.prompt_tokens * self._chars_per_token), 1)
            stream.text = _cut(self._text, self._salt, chars)
        return asyncio.ensure_future(
            watch(
                *(self._engine, self._clock, stream),
                salt=self._salt,
                output_tokens=output_tokens,
                place=place if self._shape.numbered else None,
            )
        )

    async def _stream(
        self, prompt_tokens: int, output_tokens: int, place: int | None = None
    ) -> Stream:
        return await self._watching(Stream(prompt_tokens), output_tokens, place)

    def _note(self, kind: Kind, work: Work, ns: int) -> None:
        self.observations.append(Observation(self._experiment, kind, work, ns))


def widths(places: int) -> list[int]:
    """Numbers of streams that are tried: every one up to 4, then some up to all places."""
    wished = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256]
    return sorted({*(width for width in wished if width < places), max(places, 1)})


def _text(chars: int) -> str:
    """Text of one byte a character."""
    item = LoadItem("calibrate", 0, "calibrate", "", 1, 1, 1, 1, Sla())
    found = Texts().of(item, 2 * _TEXT_CHARS, 0)
    return found.encode("ascii", "ignore").decode()[:chars]


def _cut(text: str, salt: int, chars: int) -> str:
    """A piece that begins elsewhere for each `salt`: what is remembered is not to be measured."""
    start = salt * 619 % len(text)
    return (text[start:] + text * (chars // len(text) + 1))[:chars]


def _context(streams: Sequence[Stream], at_ns: int) -> int:
    """Tokens of context of all streams at a time."""
    written = sum(sum(at <= at_ns for at in stream.arrivals_ns) for stream in streams)
    return written + sum(stream.prompt_tokens for stream in streams)


def _held_up_ns(running: Stream, late: Stream) -> int:
    """The step of a running stream that read a late prompt; 0 if it was not seen.

    From the token before the prompt was sent to the one that came with the prompt's first, less
    the usual steps in between: the work of taking it in is part of them.
    """
    arrivals = running.arrivals_ns
    before = bisect.bisect_right(arrivals, late.sent_ns) - 1
    if before < 2:
        return 0
    gaps = [later - earlier for earlier, later in itertools.pairwise(arrivals[: before + 1])]
    usual_ns = round(statistics.median(gaps))
    after = bisect.bisect_left(arrivals, late.arrivals_ns[0] - usual_ns // 2)
    if after == len(arrivals) or after <= before:
        return 0
    return arrivals[after] - arrivals[before] - (after - before - 1) * usual_ns
