"""Kinds of step that one law has to explain, and what becomes of those that it cannot any more.

Owns what is known of one kind (how many sequences, with a prompt or without), and whom to believe
when kinds contradict each other. Owns no law. Called by `step_cost`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from slalom.policies.prediction.cost_terms import TERMS
from slalom.policies.prediction.least_squares import Sums
from slalom.units import MS

#: The law and a kind that was seen just now, with so much weight, are at odds if they differ by
#: more than this (a logarithm) and by more than the kind's usual noise.
_AT_ODDS, _AT_ODDS_SPREADS, _AT_ODDS_WEIGHT = 0.3, 2.0, 0.3
#: What was not seen for so long then counts so much less.
_UNSEEN_NS, _UNSEEN_SHARE = 1_000 * MS, 0.25
#: Times that this happens for one fit.
DISCOUNTS_MAX = 4


@dataclass(slots=True)
class Kind:
    """What is known of one kind of step."""

    sums: Sums = field(default_factory=lambda: Sums(TERMS))
    #: Logarithm of observed over expected time of its past, by the present fit.
    rule: float = 0.0
    #: How far spans stray from that.
    spread: float = 0.1
    #: When the last span of it was seen.
    seen_ns: int = 0


def believe_the_newer(kinds: Sequence[Kind], now_ns: int) -> bool:
    """Forget some of what cannot be true together with what is seen now; whether there is any.

    One law for all kinds of step has to bend far where some of them are from a time at which the
    engine was another one: it would say that a few sequences more take a hundred times as long, and
    nobody would ever try.
    """
    fresh_ns = now_ns - _UNSEEN_NS
    old = [kind for kind in kinds if kind.seen_ns < fresh_ns and kind.sums.weight > 0.0]
    at_odds = any(
        kind.seen_ns >= fresh_ns
        and kind.sums.weight >= _AT_ODDS_WEIGHT
        and abs(kind.rule) > max(_AT_ODDS, _AT_ODDS_SPREADS * kind.spread)
        for kind in kinds
    )
    if not (old and at_odds):
        return False
    for kind in old:
        kind.sums.scale(1.0, _UNSEEN_SHARE)
    return True


def noise_of(kinds: Sequence[Kind]) -> float:
    """Mean square of how far spans stray."""
    weight = sum(kind.sums.weight for kind in kinds)
    if weight <= 0.0:
        return 0.0
    return sum(kind.sums.weight * kind.spread * kind.spread for kind in kinds) / weight
