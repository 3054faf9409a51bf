"""The comparison itself: one server for each policy, one after the other, over several repeats.

Owns the first look (what loading each model takes, and how the engine counts tokens), the runs in
their order and what is read from a server's journal. Called by the command.
"""

import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slalom.bench.demo_server import journal_folder, running_server
from slalom.bench.fidelity_twin import read_journal
from slalom.bench.load_client import ClientBounds, LoadClient
from slalom.bench.residency.cells import figures
from slalom.bench.residency_live.engines import engine_of, times_of
from slalom.bench.residency_live.load import Load
from slalom.bench.residency_live.memory import Peak, watched
from slalom.bench.residency_live.setting import Setting, Sizes, configuration
from slalom.bench.scenario_probe import token_size
from slalom.bench.scenario_requests import Speech, TokenSize, planned
from slalom.bench.scenario_text import Texts
from slalom.bench.sla_live.machine import Watch
from slalom.core.actions import LoadReplica, UnloadCause, UnloadReplica
from slalom.core.events import ReplicaReady
from slalom.core.journal import Entry
from slalom.errors import SlalomError
from slalom.journal.codec import Header
from slalom.metrics.records import Fate, RequestRecord
from slalom.twin.engine_specs import LlamaCppEngine
from slalom.units import MIB, seconds_to_ns

#: llama.cpp's server ends the connection after each stream without saying so.
_HEADERS = {"connection": "close"}
_DRAIN_S = 35.0
_MEASURED = "models.sqlite"


@dataclass(frozen=True, slots=True)
class Known:
    """What the first look found."""

    #: What loading each model took, ns, and how long its engine takes.
    load_ns: Mapping[str, int]
    engines: Mapping[str, LlamaCppEngine]
    size: TokenSize
    #: File with what was measured of the models: every server begins with it.
    measured: Path


@dataclass(frozen=True, slots=True)
class Run:
    """One policy, once."""

    policy: str
    repeat: int
    #: Of the answers and of the models' moves, by name.
    figures: Mapping[str, float]
    peak: Peak
    #: Share of the machine that other programs took.
    disturbed: float
    #: Of the server's journal.
    header: Header
    load: Load


def say(text: str) -> None:
    """Tell whoever waits."""
    sys.stderr.write(f"{text}\n")


async def first_look(setting: Setting, texts: Texts, folder: Path) -> Known:
    """Ask a server for every model in turn, one request at a time.

    Raises:
        SlalomError: A model does not load.
    """
    place = folder / "first"
    engines = {}
    async with running_server(place, configuration(setting, "lru")) as url:
        first = next(iter(setting.files))
        size = await token_size(url, first, texts, chat=False, headers=_HEADERS)
        speech = Speech(sizes=dict.fromkeys(setting.files, size), headers=_HEADERS)
        for name in setting.files:
            engines[name] = engine_of(name, await times_of(url, name, texts, speech))
    _, entries = read_journal(journal_folder(place))
    took = load_times(entries)
    missing = [name for name in setting.files if name not in took]
    if missing:
        raise SlalomError(f"no load of {', '.join(missing)} was seen: {place} has the log")
    load_ns = {name: round(statistics.median(took[name])) for name in setting.files}
    return Known(load_ns, engines, size, place / _MEASURED)


def load_times(entries: Sequence[Entry]) -> dict[str, list[int]]:
    """How long each load took that succeeded, by model, ns."""
    begun: dict[tuple[str, int], tuple[str, int]] = {}
    took: dict[str, list[int]] = {}
    for entry in entries:
        for event in entry.events:
            if isinstance(event, ReplicaReady):
                model, at_ns = begun.pop((event.replica_id, event.epoch), ("", 0))
                if model:
                    took.setdefault(model, []).append(entry.now_ns - at_ns)
        for action in entry.actions:
            if isinstance(action, LoadReplica):
                begun[action.replica_id, action.epoch] = (action.model, entry.now_ns)
    return took


async def measure(
    setting: Setting,
    sizes: Sizes,
    known: Known,
    loads: Sequence[Load],
    *,
    texts: Texts,
    folder: Path,
) -> list[Run]:
    """Every policy under every repeat's load; another one begins each time."""
    runs = []
    for repeat, load in enumerate(loads):
        first = repeat % len(sizes.policies)
        for policy in (*sizes.policies[first:], *sizes.policies[:first]):
            run = await _run(
                setting, sizes, known, load, policy, repeat, texts=texts, folder=folder
            )
            say(
                f"repeat {repeat}, {policy}: {run.figures['attainment']:.0%} good, "
                f"{run.figures['evictions']:.0f} evictions, peak "
                f"{run.peak.most_bytes / setting.budget_bytes:.1%} of the budget, "
                f"others {run.disturbed:.0%}"
            )
            runs.append(run)
    return runs


async def _run(
    setting: Setting,
    sizes: Sizes,
    known: Known,
    load: Load,
    policy: str,
    repeat: int,
    *,
    texts: Texts,
    folder: Path,
) -> Run:
    place = folder / f"{policy}-{repeat}".replace(", ", "-").replace(" ", "-")
    place.mkdir()
    if known.measured.exists():
        shutil.copyfile(known.measured, place / _MEASURED)
    speech = Speech(sizes=dict.fromkeys(setting.files, known.size), headers=_HEADERS)
    requests = planned(load.items, texts, speech)
    async with (
        running_server(place, configuration(setting, policy, load.tasks)) as url,
        watched() as peak,
    ):
        watch = Watch()
        client = LoadClient(url, bounds=ClientBounds(drain_s=_DRAIN_S))
        records = await client.open_loop(requests)
        disturbed = watch.share()
    header, entries = read_journal(journal_folder(place))
    found = {**counted(records, sizes.warm_s), **moves(entries, setting.file_bytes)}
    return Run(policy, repeat, found, peak, disturbed, header, load)


def counted(records: Sequence[RequestRecord], warm_s: float) -> dict[str, float]:
    """Figures of the requests after the warm-up."""
    since_ns = seconds_to_ns(warm_s)
    rows = [record for record in records if record.scheduled_ns >= since_ns]
    done = sum(row.fate is Fate.DONE for row in rows)
    return {**figures(rows), "done": float(done)}


def moves(entries: Sequence[Entry], file_bytes: Mapping[str, int]) -> dict[str, float]:
    """What a journal says of models coming and going."""
    actions = [action for entry in entries for action in entry.actions]
    loads = [action.model for action in actions if isinstance(action, LoadReplica)]
    evicted = sum(
        isinstance(action, UnloadReplica) and action.cause is UnloadCause.EVICTED
        for action in actions
    )
    took = load_times(entries)
    return {
        "loads": float(len(loads)),
        "evictions": float(evicted),
        "swapped_mib": sum(file_bytes[name] for name in loads) / MIB,
        "cold_s": sum(sum(times) for times in took.values()) / 1e9,
    }
