"""Two results documents side by side: what changed, by how much, and how sure that is.

Owns the pairing: runs of one policy and seed met the same load, so their differences are taken
one by one. Pure; called by `slalom twin diff`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from slalom.errors import ConfigError
from slalom.metrics.confidence import Estimate, estimate
from slalom.metrics.results import RESULTS_VERSION

#: seed -> figure -> value
Runs = Mapping[int, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of one policy, over the seeds both documents have."""

    policy: str
    figure: str
    before: float
    after: float
    difference: Estimate

    @property
    def is_sure(self) -> bool:
        """Whether the interval of the difference leaves out zero."""
        margin = self.difference.margin
        return margin is not None and abs(self.difference.mean) > margin


def changes(before: Any, after: Any, names: tuple[str, str]) -> Iterator[Change]:
    """The figures that differ, policy by policy, in the order of the first document.

    Args:
        before: A results document.
        after: Another one.
        names: What to call them where something is wrong.

    Raises:
        ConfigError: One is no results document, or they have no policy and seed in common.
    """
    one, other = _runs(before, names[0]), _runs(after, names[1])
    shared = [
        (policy, seeds)
        for policy in one
        if (seeds := [seed for seed in one[policy] if seed in other.get(policy, {})])
    ]
    if not shared:
        raise ConfigError(
            f"{names[0]} ({', '.join(one)}) and {names[1]} ({', '.join(other)}) have no policy "
            "and seed in common: run both with the same --policy and --seeds"
        )
    for policy, seeds in shared:
        pairs = [(one[policy][seed], other[policy][seed]) for seed in seeds]
        for figure in pairs[0][0]:
            found = [(a[figure], b[figure]) for a, b in pairs if figure in a and figure in b]
            if len(found) == len(pairs) and any(a != b for a, b in found):
                yield Change(
                    policy,
                    figure,
                    before=estimate([a for a, _ in found]).mean,
                    after=estimate([b for _, b in found]).mean,
                    difference=estimate([b - a for a, b in found]),
                )


def _runs(document: Any, name: str) -> dict[str, Runs]:
    try:
        version = document["slalom_results"]
        if version != RESULTS_VERSION:
            raise ConfigError(
                f"{name}: results of version {version}, but this version reads "
                f"{RESULTS_VERSION}: run the scenario again"
            )
        return {
            policy: {run["seed"]: run["figures"] for run in found["runs"]}
            for policy, found in document["policies"].items()
        }
    except (KeyError, TypeError, AttributeError):
        raise ConfigError(
            f"{name}: not what `slalom twin run --json FILE` or `slalom bench run` writes"
        ) from None
