"""The command: calibrates, sends the same load in three ways in turn, writes the page.

Owns the order and the arguments.
Run it with `python -m slalom.bench.chains [--quick] [--write docs/benchmarks/chains.md]`.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slalom.bench.chains.loads import (
    WAYS,
    Mixture,
    alone_s,
    load,
    renamed,
    requests,
    requests_per_chain,
    template,
)
from slalom.bench.chains.page import Facts, Run, page
from slalom.bench.demo_server import running_server
from slalom.bench.fidelity_cores import quiet, separate_cores
from slalom.bench.load_client import ClientBounds, LoadClient
from slalom.bench.scenario_probe import token_size
from slalom.bench.scenario_requests import Speech
from slalom.bench.scenario_text import Texts
from slalom.bench.sla_live.compare import saturated_per_s, say
from slalom.bench.sla_live.loads import mixed, tasks_for
from slalom.bench.sla_live.machine import Watch
from slalom.bench.sla_live.setting import (
    HEADERS,
    calibrated,
    configuration,
    state_in,
    twin_engine,
)
from slalom.clock import MonotonicClock
from slalom.metrics.records import RequestRecord
from slalom.metrics.results import RunResult
from slalom.units import SECOND, seconds_to_ns
from slalom.workload.load import LoadItem
from slalom.workload.tasks import TaskSpec

#: Arrivals of the look at the saturated throughput, per second for one second.
_SATURATING = 2_000.0
#: Longest wait for answers after the last arrival, as a multiple of the deadline.
_DRAIN = 3.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    model: str
    repeats: int
    #: Span of the arrivals of a run, and of the load that nobody counts before, seconds.
    seconds: float
    warm_s: float
    calibrate_s: float
    saturate_s: float
    #: Chains and people together, and chains alone, as shares of what the engine writes at most.
    fill: float = 1.1
    chains: float = 0.5
    #: The deadline as a multiple of what a chain takes alone.
    deadline: float = 3.0


FULL = Sizes("slalom-small", 6, 24.0, 4.0, 12.0, 4.0)
QUICK = Sizes("slalom-mini", 1, 1.0, 0.3, 2.0, 0.5)


async def report(
    sizes: Sizes, folder: Path, command: str, *, seed: int = 0, wait_s: float = 0.0
) -> str:
    """Everything, as the page.

    Args:
        sizes: How much.
        folder: For what the server leaves.
        command: Shown on the page.
        seed: Of the loads.
        wait_s: Longest wait for other programs before it begins, seconds.

    Raises:
        SlalomError: The server or the calibration failed.
    """
    clock = MonotonicClock()
    await quiet(wait_s)
    began_ns, model, texts = clock.now_ns(), sizes.model, Texts(seed=seed)
    with state_in(folder):
        async with separate_cores() as separate:
            say("calibrate")
            engine = twin_engine(await calibrated(model, folder, sizes.calibrate_s))
            tasks, alone = tasks_for(engine), alone_s(engine)
            config = {**configuration(model), "chains": template(model)}
            async with running_server(folder / "server", config) as url:
                size = await token_size(url, model, texts, chat=False, headers={})
                speech = Speech(sizes={model: size}, headers=HEADERS)
                plenty = mixed(model, tasks, _SATURATING, 1.0, seed=seed, name="full")
                most = await saturated_per_s(url, plenty, texts, speech, sizes.saturate_s)
                deadline_s = sizes.deadline * sum(alone)
                what = Mixture(
                    chains_per_s=sizes.chains * most / requests_per_chain(engine),
                    people_per_s=(sizes.fill - sizes.chains) * most,
                    seconds=sizes.seconds,
                    deadline_s=deadline_s,
                )
                say(f"{most:.1f} requests of the mix per second at most; {what}")
                shares = [sizes.deadline * one for one in alone]
                sender = _Sender(url, texts, speech, shares, _DRAIN * deadline_s)
                runs = await _measure(sender, what, tasks, sizes, seed)
    facts = Facts(
        command=command,
        model=model,
        what=what,
        shares=shares,
        alone_s=sum(alone),
        saturated_per_s=most,
        fill=sizes.fill,
        repeats=sizes.repeats,
        took_s=(clock.now_ns() - began_ns) / SECOND,
        separate_cores=separate,
    )
    return page(facts, runs)


async def _measure(
    sender: "_Sender", what: Mixture, tasks: Mapping[str, TaskSpec], sizes: Sizes, seed: int
) -> list[Run]:
    """Every repeat in every way, after a load that nobody counts."""
    warm = Mixture(what.chains_per_s, what.people_per_s, sizes.warm_s, what.deadline_s)
    for way in WAYS:
        items = load(sizes.model, tasks, warm, seed=seed, name="warm")
        await sender.send([renamed(item, way) for item in items], way)
    runs = []
    for repeat in range(sizes.repeats):
        items = load(sizes.model, tasks, what, seed=seed + 100 * repeat, name=f"r{repeat}")
        # Another way begins each time, so that what drifts hits all.
        first = repeat % len(WAYS)
        runs += [
            await _run(sender, items, way, repeat, sizes.seconds)
            for way in (*WAYS[first:], *WAYS[:first])
        ]
    return runs


async def _run(
    sender: "_Sender", items: Sequence[LoadItem], way: str, repeat: int, seconds: float
) -> Run:
    watch, span_ns = Watch(), seconds_to_ns(seconds)
    records = await sender.send([renamed(item, way) for item in items], way)
    result = RunResult.of(way, repeat, records, span_ns)
    people = RunResult.of(way, repeat, [one for one in records if not one.chain], span_ns)
    run = Run(way, repeat, result, people, watch.share())
    chains = run.figures().get("chain_attainment", 0.0)
    say(f"{repeat}: {way}: {chains:.0%} of chains on time, others {run.disturbed:.0%}")
    return run


class _Sender:
    """Sends loads to one server."""

    def __init__(
        self, url: str, texts: Texts, speech: Speech, shares: Sequence[float], drain_s: float
    ) -> None:
        self._url = url
        self._texts, self._speech, self._shares = texts, speech, shares
        self._bounds = ClientBounds(drain_s=drain_s)

    async def send(self, items: Sequence[LoadItem], way: str) -> list[RequestRecord]:
        """Send a load in one way; returns when all has ended."""
        client = LoadClient(self._url, bounds=self._bounds)
        return await client.open_loop(requests(items, self._texts, self._speech, way, self._shares))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m slalom.bench.chains", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="a smoke test: figures mean nothing")
    parser.add_argument("--seed", type=int, default=0, help="of the loads")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the page to FILE")
    parser.add_argument(
        "--wait", type=float, default=0.0, metavar="S", help="for other programs to end, at most"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep journals and logs there")
    chosen = parser.parse_args(arguments)
    command = "python -m slalom.bench.chains" + (" --quick" if chosen.quick else "")
    command += f" --write {chosen.write}" if chosen.write else ""
    sizes = QUICK if chosen.quick else FULL
    with tempfile.TemporaryDirectory(prefix="slalom-chains-") as passing:
        folder = chosen.keep or Path(passing)
        folder.mkdir(parents=True, exist_ok=True)
        text = asyncio.run(report(sizes, folder, command, seed=chosen.seed, wait_s=chosen.wait))
    sys.stdout.write(text)
    if chosen.write:
        chosen.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
