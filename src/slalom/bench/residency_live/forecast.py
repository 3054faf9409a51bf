"""What the twin says of the very same loads: engines and loads as they were timed.

Owns the scenario of a run under its live server's policies and parameters, taken from its journal's
header. Engines take turns on the one core that they have. Called by the command.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slalom.bench.residency_live.compare import Known, Run, counted, moves
from slalom.bench.residency_live.setting import Setting, Sizes
from slalom.bench.sla_live.forecast import arrival_of
from slalom.core.journal import Entry
from slalom.journal.codec import Header
from slalom.twin.meter import Meter
from slalom.twin.run import run
from slalom.twin.scenario import LoadLaw, Scenario, TwinModel
from slalom.units import SECOND

#: Time before the first arrival, ns: the live server has answered nothing by then either.
_LEAD_NS = SECOND


@dataclass(frozen=True, slots=True)
class Told:
    """What the twin says of a run."""

    policy: str
    repeat: int
    figures: Mapping[str, float]


def forecasts(
    runs: Sequence[Run],
    setting: Setting,
    sizes: Sizes,
    known: Known,
) -> list[Told]:
    """The twin's figures of each run."""
    return [Told(one.policy, one.repeat, _forecast(one, setting, sizes, known)) for one in runs]


def _forecast(
    live: Run,
    setting: Setting,
    sizes: Sizes,
    known: Known,
) -> dict[str, float]:
    header: Header = live.header
    scenario = Scenario(
        models=tuple(
            TwinModel(
                spec=spec,
                load=LoadLaw(known.load_ns[spec.id], 1 << 60),
                engine=known.engines[spec.id],
            )
            for spec in header.models
        ),
        devices=header.devices,
        arrivals=[arrival_of(item, _LEAD_NS) for item in live.load.items],
        policies=header.scheduler().policies,
        params=header.params,
        shared_devices=tuple(device.id for device in header.devices),
    )
    meter = Meter(scenario)
    entries: list[Entry] = []
    run(scenario, observer=meter, watch=entries.append)
    warm_s = sizes.warm_s + _LEAD_NS / SECOND
    return {**counted(meter.records, warm_s), **moves(entries, setting.file_bytes)}
