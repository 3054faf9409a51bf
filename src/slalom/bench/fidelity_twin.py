"""A live run played again in the twin: same scheduler, policies and arrivals, engine by its law.

Owns the way from a live journal to a scenario: header, arrivals and the time of the load come from
the journal, the lengths that the scheduler never knew from the load that was sent. Called by
`fidelity`.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from slalom.core.actions import EndRequest, LoadReplica
from slalom.core.events import AttemptFinished, ReplicaReady, RequestArrived
from slalom.core.journal import Entry
from slalom.errors import SlalomError
from slalom.journal.codec import Header
from slalom.journal.files import journal_files, read_file
from slalom.metrics.records import Fate, RequestRecord
from slalom.twin.engine_specs import LlamaCppEngine
from slalom.twin.meter import Meter
from slalom.twin.run import run
from slalom.twin.scenario import Arrival, LoadLaw, Scenario, TwinModel
from slalom.workload.load import LoadItem


def read_journal(folder: Path) -> tuple[Header, list[Entry]]:
    """The header and all entries of a server that ran once.

    Raises:
        SlalomError: There is no journal.
    """
    files = journal_files(folder)
    if not files:
        raise SlalomError(f"the server left no journal in {folder}")
    header, _ = read_file(files[0])
    return header, [entry for path in files for entry in read_file(path)[1]]


def replayed(
    header: Header,
    entries: Sequence[Entry],
    items: Mapping[str, LoadItem],
    engine: LlamaCppEngine,
) -> list[RequestRecord]:
    """What the twin says became of the load's requests, in the order of their ends.

    Args:
        header: Of the live journal.
        entries: Of the live journal.
        items: The load by request id; other requests of the journal (probes) are played too, but
            leave no record.
        engine: Stands for every model's engine.
    """
    scenario = scenario_of(header, entries, items, engine)
    meter = Meter(scenario)
    run(scenario, observer=meter)
    return [record for record in meter.records if record.request_id in items]


def from_sending(record: RequestRecord, item: LoadItem) -> RequestRecord:
    """A live record that counts from the request's sending.

    The client's timers are up to a millisecond or two late; the twin gets requests when they came.
    """
    good = record.fate is Fate.DONE and item.sla.held(
        arrived_ns=record.sent_ns,
        first_token_ns=record.first_token_ns,
        ended_ns=record.ended_ns,
        output_tokens=record.output_tokens,
    )
    return replace(record, scheduled_ns=record.sent_ns, good=good)


def way_ns(live: Iterable[RequestRecord], entries: Iterable[Entry]) -> int:
    """What requests take between the client and the scheduler's clock, both ways, ns; a median."""
    inside = {
        action.request_id: action.ended_ns - action.arrived_ns
        for entry in entries
        for action in entry.actions
        if isinstance(action, EndRequest)
    }
    found = [
        record.e2e_ns - inside[record.request_id]
        for record in live
        if record.fate is Fate.DONE and record.request_id in inside
    ]
    return round(statistics.median(found)) if found else 0


def scenario_of(
    header: Header,
    entries: Sequence[Entry],
    items: Mapping[str, LoadItem],
    engine: LlamaCppEngine,
) -> Scenario:
    """The scenario of a live journal."""
    scheduler = header.scheduler()
    began_ns = entries[0].now_ns
    load = LoadLaw(fixed_ns=_load_ns(entries), bytes_per_s=1 << 60)
    return Scenario(
        models=tuple(TwinModel(spec=spec, load=load, engine=engine) for spec in header.models),
        devices=header.devices,
        arrivals=_arrivals(entries, items, began_ns),
        policies=scheduler.policies,
        params=header.params,
    )


def _arrivals(
    entries: Sequence[Entry], items: Mapping[str, LoadItem], began_ns: int
) -> list[Arrival]:
    counted = {
        event.request_id: event.prompt_tokens
        for entry in entries
        for event in entry.events
        if isinstance(event, AttemptFinished) and event.prompt_tokens >= 0
    }
    found = []
    for entry in entries:
        for event in entry.events:
            if not isinstance(event, RequestArrived):
                continue
            request = event.request
            item = items.get(request.id)
            # The engine's count, else what the text was cut to.
            prompt_tokens = counted.get(
                request.id, item.prompt_tokens if item else request.prompt_tokens
            )
            moved = replace(
                request, arrived_ns=request.arrived_ns - began_ns, prompt_tokens=prompt_tokens
            )
            output_tokens = item.output_tokens if item else request.max_tokens
            found.append(Arrival(moved, max(output_tokens, 1)))
    return sorted(found, key=lambda arrival: (arrival.request.arrived_ns, arrival.request.id))


def _load_ns(entries: Sequence[Entry]) -> int:
    """How long the first replica took to come up."""
    asked_ns = ready_ns = entries[0].now_ns
    for entry in entries:
        if any(isinstance(action, LoadReplica) for action in entry.actions):
            asked_ns = entry.now_ns
        if any(isinstance(event, ReplicaReady) for event in entry.events):
            ready_ns = entry.now_ns
            break
    return max(ready_ns - asked_ns, 1)
