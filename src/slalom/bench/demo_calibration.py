"""How fast this machine is: the demo probes each model, and chooses a load from what it finds.

Owns the probe and the estimate of the knee, the rate above which queues grow without bound. The
probe is short and the estimate rough: it only has to bring every machine near the same point.
Called by `demo_run`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from slalom.bench.load_client import LoadClient
from slalom.metrics.records import Fate
from slalom.units import SECOND
from slalom.workload.arrivals import poisson
from slalom.workload.mix import MixEntry
from slalom.workload.plan import LoadSpec, plan
from slalom.workload.source_code import Corpus

#: Requests under way at a time while a model is probed.
_WIDTH = 4
#: Requests planned for a probe, at most.
_PLANNED = 150
#: A probe that takes so many times what was planned is cut: the machine is busy.
_PATIENCE = 3.0
#: Engines that compute at full speed side by side: each has half of the cores as threads.
_SIDE_BY_SIDE = 2
#: Share of the machine that is left to engines beside the gateway and the load client.
_ENGINES_SHARE = 0.75
#: Share of its time that one replica, or one that is swapped with another, can be busy.
_BUSY_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the probe found."""

    #: Requests per second of each model alone, in the demo's proportions of tasks.
    alone_per_s: Mapping[str, float]
    #: Estimated rate above which queues grow without bound, requests per second.
    knee_per_s: float


async def calibrate(
    base_url: str,
    corpus: Corpus,
    mix: Sequence[MixEntry],
    swapped: Sequence[str],
    *,
    probe_s: float,
    seed: int,
) -> Calibration:
    """Probe each model of the mix for a moment.

    Args:
        base_url: A server with these models.
        corpus: For prompts.
        mix: What will be asked.
        swapped: Models of which only one is loaded at a time.
        probe_s: How long each is probed, seconds.
        seed: Of the probe's prompts.
    """
    alone: dict[str, float] = {}
    for model in dict.fromkeys(entry.model for entry in mix):
        entries = [entry for entry in mix if entry.model == model]
        spec = LoadSpec(entries, poisson(1.0), _PLANNED, seed=seed, name=f"probe-{model}")
        alone[model] = await _probe(base_url, spec, corpus, probe_s)
    return Calibration(alone, knee(alone, mix, swapped))


def knee(
    alone_per_s: Mapping[str, float], mix: Sequence[MixEntry], swapped: Sequence[str]
) -> float:
    """The rate at which something saturates: all engines together, one of them, the swapped ones.

    Args:
        alone_per_s: Requests per second of each model alone.
        mix: Shares of the models.
        swapped: Models of which only one is loaded at a time.
    """
    weight = sum(entry.weight for entry in mix)
    #: Seconds of each model's engine for one average request of the mix.
    work_s = dict.fromkeys(alone_per_s, 0.0)
    for entry in mix:
        work_s[entry.model] += entry.weight / weight / alone_per_s[entry.model]
    single = [seconds for model, seconds in work_s.items() if model not in swapped]
    together = sum(work_s[model] for model in swapped)
    return min(
        _ENGINES_SHARE * _SIDE_BY_SIDE / sum(work_s.values()),
        _BUSY_SHARE / max([*single, together]),
    )


async def _probe(base_url: str, spec: LoadSpec, corpus: Corpus, probe_s: float) -> float:
    """Whole answers per second at full load, the model being loaded before."""
    planned = plan(spec, corpus)
    client = LoadClient(base_url)
    # The first loads the model; the second shows how long one takes alone.
    await client.open_loop([replace(planned[0], at_ns=0)])
    (alone,) = await client.open_loop([replace(planned[1], at_ns=0)])
    alone_s = max(alone.e2e_ns / SECOND, 1e-3)
    count = max(_WIDTH, min(round(probe_s / alone_s), len(planned) - 2))
    records = await client.closed_loop(
        planned[2 : 2 + count], width=_WIDTH, duration_s=_PATIENCE * probe_s
    )
    ends = [record.ended_ns for record in records if record.fate is Fate.DONE]
    return len(ends) * SECOND / max(ends) if ends else 1 / alone_s
