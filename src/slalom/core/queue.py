"""A priority queue with removal, logarithmic and bounded.

Owns one heap with lazy deletion: a removed entry stays as a tombstone until it surfaces or
tombstones outnumber the living. Used for the requests waiting for one model.
"""

import heapq
from typing import Generic, Protocol, TypeVar


class Queued(Protocol):
    """What can wait in a `LazyQueue`; the queue owns `in_queue`."""

    in_queue: bool


T = TypeVar("T", bound=Queued)

#: Key of an entry: unique, because it ends in (arrival, request id).
Key = tuple[int, int, str]

#: Tombstones below this number are never worth a rebuild.
_COMPACT_MIN = 64


class LazyQueue(Generic[T]):
    """Smallest key first."""

    __slots__ = ("_dead", "_heap", "_pushes")

    def __init__(self) -> None:
        #: The number of the push keeps a tombstone apart from a new entry of the same key.
        self._heap: list[tuple[Key, int, T]] = []
        self._pushes = 0
        self._dead = 0

    def __len__(self) -> int:
        return len(self._heap) - self._dead

    def __repr__(self) -> str:
        return f"LazyQueue(live={len(self)}, tombstones={self._dead})"

    def push(self, key: Key, entry: T) -> None:
        """Queue an entry that is not queued and was not removed before."""
        entry.in_queue = True
        self._pushes += 1
        heapq.heappush(self._heap, (key, self._pushes, entry))

    def peek(self) -> tuple[Key, T] | None:
        """The first entry with its key, or None."""
        heap = self._heap
        while heap and not heap[0][2].in_queue:
            heapq.heappop(heap)
            self._dead -= 1
        return (heap[0][0], heap[0][2]) if heap else None

    def pop(self) -> T:
        """Take the first entry out.

        Raises:
            IndexError: The queue is empty.
        """
        if self.peek() is None:
            raise IndexError("pop from an empty queue")
        entry = heapq.heappop(self._heap)[2]
        entry.in_queue = False
        return entry

    def remove(self, entry: T) -> None:
        """Take a queued entry out, wherever it stands."""
        entry.in_queue = False
        self._dead += 1
        if self._dead > _COMPACT_MIN and self._dead * 2 > len(self._heap):
            self._heap = [item for item in self._heap if item[2].in_queue]
            heapq.heapify(self._heap)
            self._dead = 0

    def entries(self) -> list[T]:
        """All living entries in no particular but deterministic order."""
        return [entry for _, _, entry in self._heap if entry.in_queue]
