"""What became of chains of calls: a chain is good if its last call ended before the deadline.

Owns the counting, record by record, in the order of the ends, and the figures. Pure; part of
`summaries.Tallies`.
"""

from array import array

from slalom.metrics.records import Fate, RequestRecord
from slalom.units import MS, SECOND

#: Fates that leave the denominator, as those of requests do.
_UNCOUNTED = frozenset((Fate.CANCELLED, Fate.SUPERSEDED))


class ChainTally:
    """Counts of chains. One whose first call is not among the records is left out."""

    __slots__ = ("_began_ns", "_e2e_ns", "ended", "good", "good_alone", "refused_late")

    def __init__(self) -> None:
        #: Chain -> arrival of its first call, ns, while it is under way.
        self._began_ns: dict[str, int] = {}
        self._e2e_ns = array("q")
        #: Chains that ended in a way that counts, and those that were on time.
        self.ended = 0
        self.good = 0
        #: Chains of which a later call was refused.
        self.refused_late = 0
        #: Good requests that belong to no chain.
        self.good_alone = 0

    def __repr__(self) -> str:
        return f"ChainTally({self.ended} ended, {self.good} good)"

    def add(self, row: RequestRecord) -> None:
        """Count a record."""
        if not row.chain:
            self.good_alone += row.good
            return
        if row.step == 1:
            self._began_ns[row.chain] = row.scheduled_ns
        began_ns = self._began_ns.get(row.chain)
        if began_ns is None or (row.fate is Fate.DONE and row.step != row.steps):
            return
        del self._began_ns[row.chain]
        if row.fate in _UNCOUNTED:
            return
        self.ended += 1
        self.refused_late += row.fate is Fate.REFUSED and row.step > 1
        if row.fate is Fate.DONE:
            self.good += row.good
            self._e2e_ns.append(row.ended_ns - began_ns)

    def figures(self, duration_ns: int) -> dict[str, float]:
        """By name; nothing where there were no chains.

        Args:
            duration_ns: Span of the arrivals.
        """
        if not self.ended:
            return {}
        found = {
            "chains": float(self.ended),
            "chain_attainment": self.good / self.ended,
            "chains_broken_off": float(self.refused_late),
        }
        if duration_ns:
            found["on_time_per_s"] = (self.good_alone + self.good) * SECOND / duration_ns
        times = sorted(self._e2e_ns)
        for rank, share in (("p50", 0.5), ("p95", 0.95)):
            if times:
                found[f"chain_e2e_ms.{rank}"] = times[round(share * (len(times) - 1))] / MS
        return found
