"""Links that loads share: a disk, the host's memory, a bus. The bytes of each go as fast as may be.

Owns the division of bandwidth (progressive filling: what a slower one leaves, the others get) and
how far each transfer is. Counts in bytes x ns, whole numbers. Called by `processes`.
"""

from collections.abc import Mapping, Sequence

from slalom.errors import ConfigError
from slalom.units import SECOND


class _Transfer:
    """Bytes on their way over one link or several, each of them as fast as the slowest."""

    __slots__ = ("left", "links", "per_s", "per_s_max")

    def __init__(self, byte_count: int, per_s_max: int, links: Sequence[str]) -> None:
        #: Bytes to come, times SECOND.
        self.left = byte_count * SECOND
        self.per_s_max = per_s_max
        self.links = links
        self.per_s = 0


class SharedLinks:
    """All transfers over all links.

    Args:
        capacities: Bytes per second of each link by its name.
    """

    def __init__(self, capacities: Mapping[str, int]) -> None:
        self._capacities = dict(capacities)
        self._transfers: dict[tuple[str, int], _Transfer] = {}
        self._now_ns = 0

    def __len__(self) -> int:
        return len(self._transfers)

    def __repr__(self) -> str:
        return f"SharedLinks({len(self._transfers)} transfers)"

    def add(
        self,
        name: tuple[str, int],
        byte_count: int,
        now_ns: int,
        *,
        links: Sequence[str],
        per_s_max: int,
    ) -> None:
        """Begin a transfer.

        Args:
            name: Of the transfer: a replica and its epoch.
            byte_count: Bytes to move.
            now_ns: Now.
            links: Names of the links it takes.
            per_s_max: Bytes per second that it never exceeds.

        Raises:
            ConfigError: There is no link of a name.
        """
        unknown = [link for link in links if link not in self._capacities]
        if unknown:
            raise ConfigError(
                f"replica {name[0]} takes its bytes over {unknown[0]!r}, which is no link of the "
                f"scenario; links: {', '.join(self._capacities) or 'none'}"
            )
        self._advance(now_ns)
        self._transfers[name] = _Transfer(byte_count, per_s_max, links)
        self._share()

    def remove(self, name: tuple[str, int], now_ns: int) -> bool:
        """Break a transfer off; False if there is none of that name."""
        self._advance(now_ns)
        if self._transfers.pop(name, None) is None:
            return False
        self._share()
        return True

    def next_ns(self) -> int | None:
        """When the next transfer is over if none begins or breaks off."""
        ends = [-(-transfer.left // transfer.per_s) for transfer in self._transfers.values()]
        return self._now_ns + max(min(ends), 0) if ends else None

    def take_due(self, now_ns: int) -> list[tuple[str, int]]:
        """The transfers that are over by now, in the order of their beginning."""
        self._advance(now_ns)
        over = [name for name, transfer in self._transfers.items() if transfer.left <= 0]
        for name in over:
            del self._transfers[name]
        if over:
            self._share()
        return over

    def _advance(self, now_ns: int) -> None:
        span_ns = now_ns - self._now_ns
        self._now_ns = now_ns
        for transfer in self._transfers.values():
            transfer.left -= span_ns * transfer.per_s

    def _share(self) -> None:
        """Give every transfer its rate, at least one byte a second."""
        left = dict(self._capacities)
        rest = list(self._transfers.values())
        while rest:
            users = {link: sum(link in transfer.links for transfer in rest) for link in left}
            shares = [
                min([transfer.per_s_max, *(left[link] // users[link] for link in transfer.links)])
                for transfer in rest
            ]
            slowest = min(shares)
            fixed = [
                transfer for transfer, share in zip(rest, shares, strict=True) if share == slowest
            ]
            for transfer in fixed:
                transfer.per_s = max(slowest, 1)
                for link in transfer.links:
                    left[link] -= slowest
            rest = [
                transfer for transfer, share in zip(rest, shares, strict=True) if share > slowest
            ]
