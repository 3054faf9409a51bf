"""The runs: every setting by every way, interleaved, over several repeats.

Owns one run from its documents to its figures, and the order of all. Another way begins each time,
so that what drifts hits all; between two runs the engine comes to rest. Called by the command.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from slalom.bench.sla_live.compare import say
from slalom.bench.sla_live.machine import Watch
from slalom.bench.typing.background import Asked, Background, Beside
from slalom.bench.typing.document import Document
from slalom.bench.typing.figures import Run, Setting, figures
from slalom.bench.typing.rhythm import Rhythm, keystrokes
from slalom.bench.typing.sources import Sources
from slalom.bench.typing.typist import Completion, Editor, type_on
from slalom.bench.typing.ways import Way, Ways
from slalom.clock import Clock, MonotonicClock
from slalom.units import MS, seconds_to_ns

#: Time to set up before the first keystroke, ns.
_LEAD_NS = 50 * MS
#: An engine may go on for so long after a run before the next one begins, seconds.
_REST_S = 20.0
#: Seed of the load that brings everything up and that nobody counts.
_WARM_SEED = -1


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    typists: Sequence[int] = (1, 8, 32)
    #: With editors that close the older request, and with such that never do.
    cancels: Sequence[bool] = (True, False)
    #: Span of the keystrokes of a run, and how long answers are waited for after it, seconds.
    seconds: float = 6.0
    grace_s: float = 1.5
    #: Span for a single typist, whose pauses are few.
    alone_seconds: float = 10.0
    warm_s: float = 3.0
    repeats: int = 3
    #: Share of pauses after which a typist goes on with what is suggested.
    follow: float = 0.3
    rhythm: Rhythm = field(default_factory=Rhythm)
    background: Background = field(default_factory=Background)
    #: Files and folders that are typed; none is Python's own library.
    files: Sequence[Path] = ()

    def span_s(self, typists: int) -> float:
        """Span of the keystrokes of a run with so many typists, seconds."""
        return self.alone_seconds if typists == 1 else self.seconds


async def measure(
    sizes: Sizes, up: Ways, *, seed: int = 0, clock: Clock | None = None
) -> list[Run]:
    """All runs.

    Args:
        sizes: How much.
        up: The ways.
        seed: Of files, keystrokes and background.
        clock: For tests.
    """
    sources = Sources(sizes.files, seed=seed)
    bench = _Bench(sizes, up, sources, clock or MonotonicClock())
    warm = Setting(min(4, max(sizes.typists)), cancels=True)
    for way in up.ways:
        say(f"warm up: {way.name}")
        await bench.once(way, warm, 0, _WARM_SEED, sizes.warm_s)
    runs = []
    settings = [Setting(typists, cancels) for cancels in sizes.cancels for typists in sizes.typists]
    for repeat in range(sizes.repeats):
        for number, setting in enumerate(settings):
            first = (repeat + number) % len(up.ways)
            for way in (*up.ways[first:], *up.ways[:first]):
                # Nothing that was typed before is typed again: it would be in the caches.
                own = seed + 1_000 * repeat + number
                span_s = sizes.span_s(setting.typists)
                run = await bench.once(way, setting, repeat, own, span_s)
                say(_line(run))
                runs.append(run)
    return runs


def _line(run: Run) -> str:
    asks = "cancels" if run.setting.cancels else "never cancels"
    seen = run.figures.get("before_pause_ends", 0.0)
    return (
        f"{run.repeat}: {run.setting.typists} typists, {asks}: {run.way}: {seen:.0%} in time, "
        f"others {run.disturbed:.0%}"
    )


@dataclass(frozen=True, slots=True)
class _Bench:
    """What all runs have in common."""

    sizes: Sizes
    up: Ways
    sources: Sources
    clock: Clock

    async def once(self, way: Way, setting: Setting, repeat: int, seed: int, seconds: float) -> Run:
        watch = Watch()
        before = await way.gauge.computed() if way.gauge else None
        typed, beside = await self._play(way, setting, seed, seconds)
        at_rest = await way.gauge.rest(_REST_S) if way.gauge else True
        after = await way.gauge.computed() if way.gauge else None
        computed = after.since(before) if before and after else None
        return Run(
            way.name,
            setting,
            repeat,
            {**figures(typed, beside, computed, seconds), "restless": float(not at_rest)},
            disturbed=watch.share(),
        )

    async def _play(
        self, way: Way, setting: Setting, seed: int, seconds: float
    ) -> tuple[list[Completion], list[Asked]]:
        up, sizes = self.up, self.sizes
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(way.url, connector=connector, timeout=timeout) as session:
            editor = Editor(
                *(session, up.model, up.fim, setting.cancels, self.clock), headers=up.headers
            )
            beside = Beside(
                *(session, up.model, self.sources, self.clock, sizes.background, seed),
                headers=up.headers,
            )
            start_ns = self.clock.now_ns() + _LEAD_NS
            grace_ns = seconds_to_ns(sizes.grace_s)
            typists = [
                type_on(
                    editor,
                    Document(self.sources.file(number), seed=seed, typist=number),
                    keystrokes(
                        sizes.rhythm, seconds, seed=seed, typist=number, follow=sizes.follow
                    ),
                    typist=number,
                    start_ns=start_ns,
                    grace_ns=grace_ns,
                )
                for number in range(setting.typists)
            ]
            end_ns = start_ns + seconds_to_ns(seconds)
            async with asyncio.TaskGroup() as group:
                asked = group.create_task(beside.play(start_ns, end_ns, grace_ns))
                lists = [group.create_task(typing) for typing in typists]
        return [one for typed in lists for one in typed.result()], asked.result()
