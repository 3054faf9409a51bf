"""What the twin says of the very same loads, with the calibrated profile.

Owns the scenario of a load under a live server's policies and parameters, taken from its journal's
header. The twin has no way between client and scheduler and knows no other proxy, so that the
engine directly, and behind LiteLLM, are first come first served on as many places. Called by the
command.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from slalom.bench.demo_server import journal_folder
from slalom.bench.fidelity_twin import read_journal
from slalom.bench.sla_live.compare import server_folder
from slalom.bench.sla_live.setting import BY_LITELLM, DIRECT, FCFS, POLICIES
from slalom.core.request import Request
from slalom.journal.codec import Header
from slalom.metrics.results import RunResult
from slalom.twin.engine_specs import LlamaCppEngine
from slalom.twin.meter import Meter
from slalom.twin.run import run
from slalom.twin.scenario import Arrival, LoadLaw, Scenario, TwinModel
from slalom.units import SECOND, seconds_to_ns
from slalom.workload.load import LoadItem

#: Way -> the one whose scheduling it has.
_ALIKE = {DIRECT: FCFS, BY_LITELLM: FCFS, **{name: name for name in POLICIES}}
#: Time before the first arrival in which the model comes up, ns.
_LEAD_NS = 10 * SECOND


def forecasts(
    folder: Path,
    loads: Mapping[str, Sequence[LoadItem]],
    engine: LlamaCppEngine,
    seconds: float,
) -> dict[tuple[str, str], RunResult]:
    """(Way, load) -> the twin's result.

    Args:
        folder: Of the servers, which have ended.
        loads: By the beginning of their requests' ids.
        engine: As calibrated.
        seconds: Span of the arrivals.

    Raises:
        SlalomError: A server left no journal.
    """
    headers = {name: read_journal(journal_folder(server_folder(folder, name)))[0]
               for name in POLICIES}  # fmt: skip
    found: dict[tuple[str, str], RunResult] = {}
    for key, items in loads.items():
        own = {name: forecast(headers[name], items, engine, seconds) for name in POLICIES}
        found |= {(way, key): own[policy] for way, policy in _ALIKE.items()}
    return found


def forecast(
    header: Header, items: Sequence[LoadItem], engine: LlamaCppEngine, seconds: float
) -> RunResult:
    """One load under one server's policies."""
    scenario = Scenario(
        models=tuple(
            TwinModel(spec=spec, load=LoadLaw(1, 1 << 60), engine=engine) for spec in header.models
        ),
        devices=header.devices,
        arrivals=[arrival_of(item, _LEAD_NS) for item in items],
        policies=header.scheduler().policies,
        params=header.params,
    )
    meter = Meter(scenario)
    run(scenario, observer=meter)
    return RunResult.of("twin", 0, meter.records, seconds_to_ns(seconds))


def arrival_of(item: LoadItem, lead_ns: int) -> Arrival:
    """As the live scheduler sees it: the length that is forced is the most it may write.

    Args:
        item: Of the load.
        lead_ns: Time before the load begins.
    """
    return Arrival(
        Request(
            item.id,
            item.model,
            item.task,
            item.sla,
            item.at_ns + lead_ns,
            item.prompt_tokens,
            item.output_tokens,
            min(item.predicted_tokens, item.output_tokens),
        ),
        item.output_tokens,
    )
