"""The residency policies that the benchmark compares: one table.

Owns the rows, those of the ablations, and how a row that knows the future is told. Every row runs
with the same admission, ordering and routing. Read by every part.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slalom.policies.registry import POLICIES, build
from slalom.policies.residency.penalty import Penalty


@dataclass(frozen=True, slots=True)
class Choice:
    """Who decides what gives way."""

    name: str
    kind: str
    options: tuple[tuple[str, Any], ...] = ()
    #: Knows all arrivals.
    foresees: bool = False
    #: Holds back only for requests that it knows to come and to share the swap.
    for_company: bool = False

    def policy(self) -> Any:
        """As the residency slot takes it; what foresees is told the future on top.

        Raises:
            ConfigError: There is no such policy or option.
        """
        return build("residency", self.kind, dict(self.options))

    def penalty(self) -> Penalty:
        """The options of a row that foresees."""
        return Penalty(**dict(self.options))


LRU = Choice("lru", "lru")
CACE = Choice("cace", "cace")
OURS = Choice("penalty", "penalty")
LATER = Choice("penalty, delay_s 120", "penalty", (("delay_s", 120.0),))
#: Of these the best on each load is the clairvoyant's figure.
CLAIRVOYANT: Sequence[Choice] = (
    Choice("clairvoyant", "penalty", foresees=True),
    Choice(
        "clairvoyant, for company",
        "penalty",
        (("delay_s", 10.0),),
        foresees=True,
        for_company=True,
    ),
)
_PLAIN = ("lfu", "fifo", "gdsf", "lemonade", "ollama", "exclusive")


def choices() -> list[Choice]:
    """The rows of the tables, in their order, those that foresee last."""
    return [LRU, *(Choice(kind, kind) for kind in _PLAIN), CACE, OURS, LATER, *CLAIRVOYANT]


def online() -> list[str]:
    """Names of all policies of the slot: each has a row."""
    return list(POLICIES["residency"])


def cace_without() -> Mapping[str, Choice]:
    """`cace` without each of its factors, by the factor's option."""
    weights = [one.name for one in dataclasses.fields(POLICIES["residency"]["cace"])]
    return {
        name: Choice(f"cace without {name}", "cace", ((name, 0.0),))
        for name in weights
        if name != "window_s"
    }


def penalty_without() -> Mapping[str, Choice]:
    """`penalty` without what can be turned off."""
    return {
        "holding needs back": Choice("penalty without hold", "penalty", (("hold", False),)),
        "sleepers' long memory": Choice("penalty with rest_s 300", "penalty", (("rest_s", 300.0),)),
    }
