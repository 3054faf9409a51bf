"""A priority queue whose first entries can be read in order, and any entry removed.

Owns one sorted list. Finding a place costs a bisection; moving pointers up costs a copy of memory
that is a microsecond or two at the queue's bound. Used for the requests waiting for one model.
"""

from bisect import bisect_left, insort
from operator import itemgetter
from typing import Generic, Protocol, TypeVar

#: Key of an entry: unique, because it ends in (arrival, request id).
Key = tuple[int, int, str]


class Queued(Protocol):
    """What can wait in a `SortedQueue`; the queue owns `in_queue`, and `key` stays while queued."""

    key: Key
    in_queue: bool


T = TypeVar("T", bound=Queued)

_KEY = itemgetter(0)
#: Spent places at the front below this number are never worth a move of the rest.
_COMPACT_MIN = 64


class SortedQueue(Generic[T]):
    """Smallest key first."""

    __slots__ = ("_items", "_start")

    def __init__(self) -> None:
        self._items: list[tuple[Key, T]] = []
        #: Places at the front whose entries were popped: popping moves nothing.
        self._start = 0

    def __len__(self) -> int:
        return len(self._items) - self._start

    def __repr__(self) -> str:
        return f"SortedQueue({len(self)})"

    def push(self, entry: T) -> None:
        """Queue an entry that is not queued, under its key."""
        entry.in_queue = True
        insort(self._items, (entry.key, entry), lo=self._start, key=_KEY)

    def peek(self) -> T | None:
        """The first entry, or None."""
        return self._items[self._start][1] if self else None

    def remove(self, entry: T) -> None:
        """Take a queued entry out, wherever it stands.

        Raises:
            IndexError: It is not queued.
        """
        index = bisect_left(self._items, entry.key, lo=self._start, key=_KEY)
        if self._items[index][1] is not entry:
            raise IndexError(f"{entry!r} is not queued")
        entry.in_queue = False
        if index > self._start:
            del self._items[index]
            return
        self._start += 1
        if self._start > _COMPACT_MIN and self._start * 2 > len(self._items):
            del self._items[: self._start]
            self._start = 0

    def first(self, limit: int) -> list[T]:
        """Up to `limit` entries, in order."""
        return [entry for _, entry in self._items[self._start : self._start + limit]]

    def entries(self) -> list[T]:
        """All entries, in order."""
        return self.first(len(self))
