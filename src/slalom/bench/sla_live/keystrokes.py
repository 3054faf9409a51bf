"""A typist whose editor never cancels: what the engine does for nobody, with and without replacing.

Owns the runs with supersession on and off, and the share of device time that went to requests of
which nobody read the answer: requests that run side by side share their device evenly. Called by
the command.
"""

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from slalom.bench.demo_server import journal_folder, running_server
from slalom.bench.fidelity_twin import read_journal
from slalom.bench.load_client import ClientBounds, LoadClient
from slalom.bench.scenario_probe import token_size
from slalom.bench.scenario_requests import Speech, planned
from slalom.bench.scenario_text import Texts
from slalom.bench.sla_live.compare import saturated_per_s, say, server_folder
from slalom.bench.sla_live.loads import TYPING_SHARE, typed
from slalom.bench.sla_live.machine import Watch, cpu_s, engines
from slalom.bench.sla_live.setting import HEADERS, SUPERSESSION, Sizes, configuration
from slalom.core.actions import Dispatch
from slalom.core.events import AttemptFailed, AttemptFinished, RequestArrived
from slalom.core.journal import Entry
from slalom.metrics.records import Fate
from slalom.metrics.results import RunResult
from slalom.twin.engine_specs import LlamaCppEngine
from slalom.units import SECOND, seconds_to_ns
from slalom.workload.plan import PlannedRequest

_DRAIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Spent:
    """Device time by the journal, seconds: what ran side by side shares it evenly."""

    all_s: float
    #: Of requests of which nobody read the answer, and the part of it after the newer one came.
    stale_s: float
    after_s: float


@dataclass(frozen=True, slots=True)
class Typing:
    """One run of the typist."""

    way: str
    repeat: int
    result: RunResult
    #: Requests that a newer one followed before their answer was whole, and all.
    stale: int
    sent: int
    #: Processor time of the engine during the run, seconds.
    engine_s: float
    spent: "Spent | None" = None
    disturbed: float = 0.0


@dataclass(frozen=True, slots=True)
class _Server:
    name: str
    url: str
    engine_pid: int


async def typing(
    sizes: Sizes, folder: Path, engine: LlamaCppEngine, *, seed: int, texts: Texts
) -> list[Typing]:
    """All runs, interleaved.

    Args:
        sizes: How much.
        folder: For what the servers leave.
        engine: As calibrated.
        seed: Of the keystrokes.
        texts: For prompts.
    """
    stale_ns: dict[str, int] = {}
    async with contextlib.AsyncExitStack() as stack:
        servers, speech = [], Speech()
        for name, section in SUPERSESSION.items():
            before = engines()
            own = running_server(
                server_folder(folder, name), configuration(sizes.model, server=section)
            )
            url = await stack.enter_async_context(own)
            size = await token_size(url, sizes.model, texts, chat=False, headers={})
            speech = Speech(sizes={sizes.model: size}, headers=HEADERS)
            (pid,) = engines() - before
            servers.append(_Server(name, url, pid))
        drawn = typed(sizes.model, engine, 1_000.0, 1.0, seed=seed, name="full")
        plenty = [replace(item, stale_after_ns=-1, supersedes="") for item in drawn]
        rate = TYPING_SHARE * await saturated_per_s(
            servers[0].url, plenty, texts, speech, sizes.saturate_s
        )
        found: list[tuple[Typing, set[str]]] = []
        for repeat in range(sizes.repeats):
            items = typed(
                *(sizes.model, engine, rate, sizes.seconds),
                seed=seed + repeat,
                name=f"typist-{repeat}",
            )
            stale_ns |= {item.id: item.stale_after_ns for item in items if item.stale_after_ns >= 0}
            requests = planned(items, texts, speech)
            found += [
                await _once(server, repeat, requests, sizes.seconds)
                for server in (servers if repeat % 2 == 0 else reversed(servers))
            ]
    books = {
        name: device_s(read_journal(journal_folder(server_folder(folder, name)))[1], stale_ns)
        for name in SUPERSESSION
    }
    return [replace(run, spent=spent(books[run.way], run.repeat, stale)) for run, stale in found]


async def _once(
    server: _Server, repeat: int, requests: Sequence[PlannedRequest], seconds: float
) -> tuple[Typing, set[str]]:
    """One run, and the requests of it that nobody waited for to their end."""
    watch, began_s = Watch(), cpu_s(server.engine_pid)
    client = LoadClient(server.url, bounds=ClientBounds(drain_s=_DRAIN_S))
    records = await client.open_loop(requests)
    stale = {one.request_id for one in records if one.fate is Fate.SUPERSEDED}
    result = RunResult.of(server.name, repeat, records, seconds_to_ns(seconds))
    spent_s = cpu_s(server.engine_pid) - began_s
    say(f"typist-{repeat}: {server.name}: engine {spent_s:.2f} s")
    run = Typing(
        *(server.name, repeat, result, len(stale), len(records), spent_s), disturbed=watch.share()
    )
    return run, stale


def spent(book: Mapping[str, tuple[float, float]], repeat: int, stale: Collection[str]) -> Spent:
    """What the requests of one run took of the device.

    Args:
        book: Request -> its device time, and the part of it after it was stale, seconds.
        repeat: Of the run.
        stale: Requests of it that nobody waited for to their end.
    """
    own = {name: times for name, times in book.items() if name.startswith(f"typist-{repeat}-")}
    return Spent(
        all_s=sum(whole_s for whole_s, _ in own.values()),
        stale_s=sum(whole_s for name, (whole_s, _) in own.items() if name in stale),
        after_s=sum(after_s for name, (_, after_s) in own.items() if name in stale),
    )


def device_s(
    entries: Iterable[Entry], stale_ns: Mapping[str, int]
) -> dict[str, tuple[float, float]]:
    """Device time of each request of a server with one engine, and that after it was stale, s.

    Args:
        entries: Of the server's journal.
        stale_ns: How long after its arrival a request is stale; absent for never.
    """
    found: dict[str, tuple[float, float]] = {}
    running: set[tuple[str, int]] = set()
    stale_at_ns: dict[str, int] = {}
    since_ns = 0
    for entry in entries:
        for request_id, _ in running:
            whole_s, after_s = found.get(request_id, (0.0, 0.0))
            fresh_ns = max(stale_at_ns.get(request_id, entry.now_ns), since_ns)
            whole_s += (entry.now_ns - since_ns) / SECOND / len(running)
            after_s += max(entry.now_ns - fresh_ns, 0) / SECOND / len(running)
            found[request_id] = (whole_s, after_s)
        since_ns = entry.now_ns
        for event in entry.events:
            if isinstance(event, AttemptFinished | AttemptFailed):
                running.discard((event.request_id, event.attempt))
            elif isinstance(event, RequestArrived) and event.request.id in stale_ns:
                request = event.request
                stale_at_ns[request.id] = request.arrived_ns + stale_ns[request.id]
        running |= {
            (action.request_id, action.attempt)
            for action in entry.actions
            if isinstance(action, Dispatch)
        }
    return found
