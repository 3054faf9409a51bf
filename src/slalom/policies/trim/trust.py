"""How far a forecast is to be believed: the chance that a job is on time.

Owns the law and what it needs to know of one job or replica. Chances follow a logistic law of the
logarithm of (time it takes / time there is): its spread comes from how wrong step times and lengths
are, its middle from how much of the time newcomers will take. Called by `planner` and `jobs`.
"""

from math import exp, log

#: Standard score of a logistic law at 90 %.
_LOGIT_90 = 2.197
_SPREAD_MIN, _SPREAD_MAX = 0.002, 0.6
#: Logarithm of the odds of a chance at which nothing needs to be weighed: 99 %.
SURE_LOGIT = log(99.0)
#: What newcomers' prompts take is uncertain by this much of it.
_SHARE_SPREAD = 0.3
#: Memory of the share of time that goes to newcomers' prompts.
_MEMORY_NS = 10_000_000_000.0
_SHARE_MAX = 0.8


def odds(margin: float, reading_share: float) -> float:
    """Steepness of a chance.

    Args:
        margin: Factor on the predicted time that covers nine of ten.
        reading_share: Share of the time that newcomers take.
    """
    spread = log(max(margin, 1.0)) / _LOGIT_90 + _SHARE_SPREAD * reading_share
    return 1.0 / min(max(spread, _SPREAD_MIN), _SPREAD_MAX)


def chance(there_ns: float, takes_ns: float, steepness: float) -> float:
    """Probability that something that takes about so long is done in the time there is."""
    if there_ns <= 0.0:
        return 0.0
    if takes_ns <= 0.0:
        return 1.0
    power = log(takes_ns / there_ns) * steepness
    if power < -20.0:
        return 1.0
    return 0.0 if power > 20.0 else 1.0 / (1.0 + exp(power))


class ReadingShare:
    """Share of a replica's time that goes to reading prompts: what newcomers take from others."""

    __slots__ = ("_ns", "_read_ns")

    def __init__(self, now_ns: int) -> None:
        self._ns = float(now_ns)
        self._read_ns = 0.0

    def add(self, reading_ns: float, now_ns: int) -> None:
        """A newcomer's prompt takes so long."""
        self._fade(now_ns)
        self._read_ns += reading_ns

    def factor(self, now_ns: int, more_ns: float = 0.0) -> float:
        """By how much everything takes longer because of newcomers.

        Args:
            now_ns: Now.
            more_ns: What further ones are allowed to take.
        """
        self._fade(now_ns)
        return 1.0 / (1.0 - min((self._read_ns + more_ns) / _MEMORY_NS, _SHARE_MAX))

    def _fade(self, now_ns: int) -> None:
        self._read_ns *= exp((self._ns - now_ns) / _MEMORY_NS)
        self._ns = float(now_ns)
