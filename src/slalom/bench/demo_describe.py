"""What a demo's figures were measured with, in sentences: a reader must be able to judge them.

Owns the words. Used for the table's heading and for `--json`.
"""

import os
from collections import Counter
from collections.abc import Sequence

from slalom.bench.demo_result import Run
from slalom.bench.demo_setting import PASS_THROUGH, SLALOM, Fleet
from slalom.units import format_bytes
from slalom.workload.source_code import Corpus


def describe(
    fleet: Fleet, corpus: Corpus, runs: Sequence[Run], rate_per_s: float
) -> dict[str, str]:
    """Sentences by topic, in the order in which they are shown.

    Args:
        fleet: The models.
        corpus: Where prompts were cut.
        runs: At least one.
        rate_per_s: Mean rate of arrivals.
    """
    first = runs[0]
    tasks = Counter(record.task for record in first.records)
    counted = ", ".join(f"{count} {task}" for task, count in tasks.most_common())
    order = ", ".join(run.contender for run in runs)
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(run.seed for run in runs))
    return {
        "machine": f"{os.cpu_count()} cores",
        "models": _models(fleet),
        "memory": (
            f"all together need {format_bytes(fleet.needed_bytes)}, the budget is "
            f"{format_bytes(fleet.budget_bytes)}: one of the two random-weight models at a time"
        ),
        "load": (
            f"{len(first.records)} requests at {rate_per_s:.1f}/s in bursts, open loop, over HTTP "
            f"({counted}), cut from {corpus.folder}; seed {seeds}"
        ),
        PASS_THROUGH.name: PASS_THROUGH.policies,
        SLALOM.name: SLALOM.policies,
        "order": f"{order}; each on a fresh server with nothing loaded, with the same requests",
    }


def _models(fleet: Fleet) -> str:
    shown = [f"{name} ({count / 1e6:.3g} M parameters)" for name, count in fleet.parameters.items()]
    return (
        f"{', '.join(shown)}. The random-* ones have random weights and stand in for larger "
        "models: they take the memory and the time of one, what they write is noise"
    )
