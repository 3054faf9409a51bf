"""What a schedule with full knowledge reaches: the bar that the rows are measured by.

Owns two ways to know: every answer's length is told, and of several ways to hand the machines out
the one that turns out best is taken; and the proven bound of `slalom.twin.bound_api`. Called by
`cells`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from slalom.policies.registry import policies
from slalom.policies.scaling.by_count import Fixed
from slalom.policies.trim.plan_and_trim import PlanAndTrim
from slalom.twin.meter import Meter
from slalom.twin.run import run
from slalom.twin.scenario import Arrival, Scenario

#: By the number of models: replicas of each, on eight machines.
_SPLITS: Mapping[int, Sequence[tuple[int, ...]]] = MappingProxyType(
    {
        2: ((4, 4), (3, 5), (5, 3), (2, 6)),
        4: ((2, 2, 2, 2), (1, 2, 2, 3), (1, 2, 1, 4), (1, 3, 1, 3), (2, 2, 1, 3), (1, 3, 2, 2)),
    }
)


def best_in_hindsight(scenario: Scenario, warm_up_ns: int) -> float:
    """The largest share of good answers over all ways to hand the machines out.

    Args:
        scenario: What is played; its policies are replaced.
        warm_up_ns: What arrives before is not counted.
    """
    found = []
    for split in _SPLITS[len(scenario.models)]:
        models = tuple(
            replace(model, spec=replace(model.spec, replicas=count))
            for model, count in zip(scenario.models, split, strict=True)
        )
        chosen = replace(
            policies(ordering="edf"),
            admission=PlanAndTrim(learn_lengths=False),
            scaling=Fixed(),
        )
        known = replace(
            scenario, models=models, policies=chosen, arrivals=_Told(tuple(scenario.arrivals))
        )
        meter = Meter(known, warm_up_ns)
        run(known, observer=meter, keep=False)
        rows = meter.records
        found.append(sum(row.good for row in rows) / max(len(rows), 1))
    return max(found)


@dataclass(frozen=True, slots=True)
class _Told:
    """Arrivals whose lengths are told."""

    arrivals: tuple[Arrival, ...]

    def __iter__(self) -> Iterator[Arrival]:
        for one in self.arrivals:
            told = replace(one.request, predicted_tokens=one.output_tokens)
            yield replace(one, request=told)
