"""The live half: every hole is completed in every way in turn, one request at a time.

Owns the order, the look at the engines' processor time, and the reading of the journal. Called by
the command.
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil

from slalom.bench.confidence.asking import complete
from slalom.bench.confidence.device_time import device_times
from slalom.bench.confidence.figures import Row, Run, runs
from slalom.bench.confidence.holes import Hole, holes
from slalom.bench.confidence.setting import (
    ALL_LARGE,
    ALL_SMALL,
    WAYS,
    Sizes,
    configuration,
    files,
)
from slalom.bench.demo_server import journal_folder, running_server
from slalom.bench.fidelity_twin import read_journal
from slalom.bench.sla_live.machine import Watch, cpu_s, engines
from slalom.clock import MonotonicClock

#: Between two requests, so that what is left of one is not counted with the next.
_REST_S = 0.02
_TOLD_EVERY = 10


@dataclass(frozen=True, slots=True)
class Measured:
    """What the live half found."""

    runs: Sequence[Run]
    #: Bytes of each model's file.
    file_bytes: Mapping[str, int]
    #: Share of the machine that other programs took.
    disturbed: float


def say(text: str) -> None:
    """Tell whoever waits."""
    sys.stderr.write(f"{text}\n")


async def measured(sizes: Sizes, folder: Path, *, seed: int) -> Measured:
    """Run it.

    Args:
        sizes: How much.
        folder: For the models and the server.
        seed: Of the holes.

    Raises:
        SlalomError: The server did not start, or a request failed.
    """
    models = files(folder, sizes.times)
    drawn = [holes(sizes.completions, seed=seed + repeat) for repeat in range(sizes.repeats)]
    async with (
        running_server(folder / "server", configuration(models)) as url,
        aiohttp.ClientSession(url) as session,
    ):
        table = _Table(session)
        await table.warm_up(drawn[0][0], models)
        watch = Watch()
        for repeat, mine in enumerate(drawn):
            await table.repeat(repeat, mine)
        disturbed = watch.share()
    _, entries = read_journal(journal_folder(folder / "server"))
    return Measured(
        runs(table.rows, device_times(entries)),
        {name: path.stat().st_size for name, path in models.items()},
        disturbed,
    )


class _Table:
    """Asks, and keeps what came back."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._clock = MonotonicClock()
        self._pids: dict[str, int] = {}
        self.rows: list[Row] = []

    async def warm_up(self, hole: Hole, models: Mapping[str, Path]) -> None:
        """Both models answer once; then their processes are known."""
        for way in (ALL_SMALL, ALL_LARGE):
            await complete(self._session, way, hole, f"warm-{way.model}", self._clock)
        for pid in engines():
            command = psutil.Process(pid).cmdline()
            self._pids |= {name: pid for name, path in models.items() if str(path) in command}

    async def repeat(self, repeat: int, drawn: Sequence[Hole]) -> None:
        """Every hole in every way; another way is the first each time."""
        for number, hole in enumerate(drawn):
            first = (repeat + number) % len(WAYS)
            for way in (*WAYS[first:], *WAYS[:first]):
                name = f"{repeat}-{number}-{WAYS.index(way)}"
                before = self._cpu_s()
                heard = await complete(self._session, way, hole, name, self._clock)
                await asyncio.sleep(_REST_S)
                spent = {model: after - before[model] for model, after in self._cpu_s().items()}
                self.rows.append(Row(way.name, repeat, hole, heard, spent))
            if number % _TOLD_EVERY == 0:
                say(f"repeat {repeat + 1}: {number + 1} of {len(drawn)} holes")

    def _cpu_s(self) -> dict[str, float]:
        return {model: cpu_s(pid) for model, pid in self._pids.items()}
