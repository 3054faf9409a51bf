"""The comparison itself: every way under every load, interleaved, over several repeats.

Owns the starting of the ways (each with an engine of its own, all up the whole time, idle but for
the one that is measured) and the order of the runs. Called by the command.
"""

import contextlib
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from slalom.bench.demo_server import running_server
from slalom.bench.gateway_paths import LITELLM
from slalom.bench.load_client import ClientBounds, LoadClient
from slalom.bench.scenario_compare import running
from slalom.bench.scenario_requests import Speech, planned
from slalom.bench.scenario_text import Texts
from slalom.bench.sla_live.loads import LOADS, mixed
from slalom.bench.sla_live.machine import Watch
from slalom.bench.sla_live.setting import (
    BY_LITELLM,
    DIRECT,
    PLACES,
    POLICIES,
    Sizes,
    configuration,
    engine_target,
    litellm_target,
)
from slalom.errors import SlalomError
from slalom.metrics.records import Fate, RequestRecord
from slalom.metrics.results import RunResult
from slalom.units import SECOND, seconds_to_ns
from slalom.workload.load import LoadItem
from slalom.workload.tasks import TaskSpec

_DRAIN_S = 30.0
#: Requests under way while the saturated throughput is measured, for each of the engine's places.
_DEPTH = 2
#: Requests, about, that each way gets at least before anything counts.
_WARM_MIN = 8
#: A look without any whole answer is repeated for so many times as long.
_PATIENCE = (1, 4, 16)
#: More requests than any engine answers within the look at its saturated throughput.
_PLENTY = 2_000


@dataclass(frozen=True, slots=True)
class Run:
    """One way under one load, once."""

    way: str
    load: str
    repeat: int
    result: RunResult
    records: tuple[RequestRecord, ...]
    #: The same in the twin; None where the twin was not asked.
    told: RunResult | None = None
    #: Share of the machine that other programs took.
    disturbed: float = 0.0

    def figures(self) -> dict[str, float]:
        """Everything by name."""
        return self.result.figures()


@dataclass(frozen=True, slots=True)
class Ways:
    """Addresses of what is up, and why something is not."""

    urls: Mapping[str, str]
    #: Why LiteLLM is left out; empty if it is not.
    left_out: str = ""


def say(text: str) -> None:
    """Tell whoever waits."""
    sys.stderr.write(f"{text}\n")


@contextlib.asynccontextmanager
async def ways(sizes: Sizes, folder: Path) -> AsyncIterator[Ways]:
    """All ways for the time of a block.

    Raises:
        SlalomError: An engine or a Slalom server did not start. LiteLLM may be missing.
    """
    async with contextlib.AsyncExitStack() as stack:
        target = engine_target(sizes.model)
        urls = {DIRECT: await stack.enter_async_context(running(target))}
        left_out = "a quick run leaves it out" if not sizes.litellm else ""
        if not left_out and not LITELLM.exists():
            left_out = "it is not installed (`make bench-setup` does that)"
        if not left_out:
            engine = await stack.enter_async_context(running(target))
            proxy = litellm_target(sizes.model, engine, folder)
            try:
                urls[BY_LITELLM] = await stack.enter_async_context(running(proxy))
            except SlalomError as problem:
                left_out = f"it did not start: {str(problem).splitlines()[0]}"
        for name, scheduler in POLICIES.items():
            server = running_server(server_folder(folder, name), configuration(
                sizes.model, scheduler
            ))  # fmt: skip
            urls[name] = await stack.enter_async_context(server)
        if left_out:
            say(f"LiteLLM is left out: {left_out}")
        yield Ways(urls, left_out)


def server_folder(folder: Path, name: str) -> Path:
    """Where a Slalom server of this name keeps its journal."""
    return folder / name.replace(" ", "-")


async def saturated_per_s(
    url: str, items: Sequence[LoadItem], texts: Texts, speech: Speech, seconds: float
) -> float:
    """Whole answers per second while there are always more requests than places."""
    requests = planned(items[:_PLENTY], texts, speech)
    client = LoadClient(url)
    for patience in _PATIENCE:
        duration_s = seconds * patience
        records = await client.closed_loop(requests, width=_DEPTH * PLACES, duration_s=duration_s)
        ends = [record.ended_ns for record in records if record.fate is Fate.DONE]
        if ends:
            return len(ends) * SECOND / max(ends)
    raise SlalomError("the engine gave no whole answer: is the machine that busy?")


async def measure(
    sizes: Sizes,
    up: Ways,
    tasks: Mapping[str, TaskSpec],
    *,
    saturated: float,
    seed: int,
    texts: Texts,
    speech: Speech,
) -> tuple[list[Run], dict[str, list[LoadItem]]]:
    """All runs, and the loads by the beginning of their requests' ids.

    Args:
        sizes: How much.
        up: The ways.
        tasks: Of the mix.
        saturated: The engine's throughput, requests per second.
        seed: Of the loads.
        texts: For prompts.
        speech: How the engine counts tokens.
    """
    warm_per_s = max(LOADS["knee"] * saturated, _WARM_MIN / sizes.warm_s)
    warm = mixed(sizes.model, tasks, warm_per_s, sizes.warm_s, seed=seed, name="warm")
    for name, url in up.urls.items():
        say(f"warm up: {name}")
        await _send(url, warm, texts, speech)
    loads, runs = {}, []
    for repeat in range(sizes.repeats):
        for number, load in enumerate(sizes.loads):
            key = f"{load}-{repeat}"
            loads[key] = items = mixed(
                sizes.model,
                tasks,
                LOADS[load] * saturated,
                sizes.seconds,
                seed=seed + 100 * repeat + number,
                name=key,
            )
            # Another way begins each time, so that what drifts hits all.
            names = list(up.urls)
            first = (repeat + number) % len(names)
            for name in (*names[first:], *names[:first]):
                watch = Watch()
                records = await _send(up.urls[name], items, texts, speech)
                result = RunResult.of(name, repeat, records, seconds_to_ns(sizes.seconds))
                run = Run(name, load, repeat, result, tuple(records), disturbed=watch.share())
                say(
                    f"{key}: {name}: {result.total.attainment:.0%} good, others {run.disturbed:.0%}"
                )
                runs.append(run)
    return runs, loads


async def _send(
    url: str, items: Sequence[LoadItem], texts: Texts, speech: Speech
) -> list[RequestRecord]:
    client = LoadClient(url, bounds=ClientBounds(drain_s=_DRAIN_S))
    return await client.open_loop(planned(items, texts, speech))


def with_forecasts(runs: Sequence[Run], told: Mapping[tuple[str, str], RunResult]) -> list[Run]:
    """The runs with what the twin says of each.

    Args:
        runs: As measured.
        told: (way, beginning of the ids) -> the twin's result.
    """
    return [replace(run, told=told.get((run.way, f"{run.load}-{run.repeat}"))) for run in runs]
