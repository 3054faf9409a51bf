"""What `slalom bench type` does: brings the ways up, measures, writes the page and the figures.

Owns the order, and what differs between the bundled comparison and a user's own servers. Called by
the command.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from slalom.bench.fidelity_cores import quiet, separate_cores
from slalom.bench.scenario_compare import Target
from slalom.bench.sla_live.compare import say
from slalom.bench.sla_live.setting import calibrated, state_in
from slalom.bench.typing.background import NOTHING
from slalom.bench.typing.figures import Run
from slalom.bench.typing.page import Facts
from slalom.bench.typing.runs import Sizes, measure
from slalom.bench.typing.ways import SLALOM, bundled, named
from slalom.clock import MonotonicClock
from slalom.models.fim import FimTemplate
from slalom.units import SECOND

#: The bundled model that is served by default, and time of its calibration's repeats, seconds.
MODEL = "slalom-small"
_CALIBRATE_S = 25.0
#: A smoke test: its figures mean nothing.
QUICK = Sizes(
    typists=(2,), cancels=(True, False), seconds=1.0, alone_seconds=1.0, grace_s=0.3,
    warm_s=0.3, repeats=1, background=NOTHING,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is measured."""

    sizes: Sizes
    command: str
    model: str = MODEL
    seed: int = 0
    #: Servers of the user's own; none for the bundled model in three ways.
    targets: Sequence[Target] = ()
    #: Target -> address of its engine's metrics page.
    metrics: Mapping[str, str] = field(default_factory=dict)
    fim: FimTemplate | None = None
    key: str | None = field(default=None, repr=False)
    litellm: bool = True
    #: Time for the calibration that Slalom's planner starts from; 0 for none.
    calibrate_s: float = _CALIBRATE_S
    #: Longest wait for other programs before it begins, seconds.
    wait_s: float = 0.0


async def typing_report(wanted: Wanted) -> tuple[Facts, list[Run]]:
    """Everything.

    Raises:
        SlalomError: A server or the calibration failed, or there is nothing to type.
    """
    clock = MonotonicClock()
    await quiet(wanted.wait_s)
    began_ns = clock.now_ns()
    facts, runs = await (_named(wanted) if wanted.targets else _bundled(wanted))
    return replace(facts, took_s=(clock.now_ns() - began_ns) / SECOND), runs


async def _bundled(wanted: Wanted) -> tuple[Facts, list[Run]]:
    with tempfile.TemporaryDirectory(prefix="slalom-typing-") as passing:
        folder = Path(passing)
        with state_in(folder):
            async with separate_cores() as separate:
                where = "not calibrated"
                if wanted.calibrate_s:
                    say("calibrate")
                    key = (await calibrated(wanted.model, folder, wanted.calibrate_s))["key"]
                    where = f"{key['device']}; {key['engine']}"
                async with bundled(wanted.model, folder, litellm=wanted.litellm) as up:
                    runs = await measure(wanted.sizes, up, seed=wanted.seed)
    facts = Facts(
        command=wanted.command,
        sizes=wanted.sizes,
        served=f"{where}; {wanted.model}",
        own=SLALOM,
        left_out=up.left_out,
        separate_cores=separate,
    )
    return facts, runs


async def _named(wanted: Wanted) -> tuple[Facts, list[Run]]:
    async with named(
        wanted.targets, wanted.model, metrics=wanted.metrics, fim=wanted.fim, key=wanted.key
    ) as up:
        runs = await measure(wanted.sizes, up, seed=wanted.seed)
    facts = Facts(
        command=wanted.command,
        sizes=wanted.sizes,
        served=f"{wanted.model}, as served by {', '.join(way.name for way in up.ways)}",
        own=wanted.targets[-1].name,
    )
    return facts, runs
