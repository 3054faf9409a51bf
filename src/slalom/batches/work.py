"""A batch in memory: which lines wait, run, or come again later.

Owns the order of a batch's lines and their tries. Plain state without tasks of its own; the
runner moves it.
"""

import asyncio
import heapq
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from slalom.batches.lines import Lines
from slalom.batches.objects import Batch, Status

#: A line gives way to others so often; then it runs to its end.
_YIELDS_MAX = 3


@dataclass(eq=False, slots=True)
class Running:
    """A line under way."""

    number: int
    #: The model as the line names it.
    name: str
    task: "asyncio.Task[None]"
    #: It was told to give its place to others.
    yielding: bool = False


@dataclass(eq=False, slots=True)
class Work:
    """One batch that is being worked on."""

    batch: Batch
    lines: Lines | None = None
    #: Lines to start, by the name of the model they ask for.
    queues: dict[str, "deque[int]"] = field(default_factory=dict)
    running: dict[int, Running] = field(default_factory=dict)
    #: Lines to be tried again: (when, number, name); times of the loop's clock, seconds.
    later: list[tuple[float, int, str]] = field(default_factory=list)
    tries: "Counter[int]" = field(default_factory=Counter)
    yields: "Counter[int]" = field(default_factory=Counter)
    #: Lines without a committed result.
    left: int = 0
    #: How the batch is to end before all lines are answered.
    stopping: Status | None = None
    #: Set when no line will be started any more.
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def fill(self, lines: Lines, recorded: set[int]) -> None:
        """Take over the lines that have no result yet."""
        self.lines = lines
        self.queues = {
            name: deque(number for number in numbers if number not in recorded)
            for name, numbers in lines.numbers.items()
        }
        self.left = sum(len(queue) for queue in self.queues.values())
        if not self.left:
            self.over.set()

    def names(self) -> Iterator[str]:
        """The models that lines wait for, as the lines name them."""
        if not self.over.is_set():
            yield from (name for name, queue in self.queues.items() if queue)

    def committed(self) -> None:
        """A line's result is on the disk."""
        self.left -= 1
        if not self.left:
            self.over.set()

    def stop(self, status: Status) -> None:
        """Start nothing any more, and give up what runs."""
        if self.stopping is None and not self.over.is_set():
            self.stopping = status
        self.over.set()

    def come_again(self, number: int, name: str, at_s: float) -> None:
        """Try a line again later."""
        heapq.heappush(self.later, (at_s, number, name))

    def gave_way(self, number: int, name: str) -> None:
        """A line that was given up for others is the next one."""
        self.yields[number] += 1
        self.queues[name].appendleft(number)

    def may_yield(self, number: int) -> bool:
        """Whether a line may be asked to give way (again)."""
        return self.yields[number] < _YIELDS_MAX

    def release(self, now_s: float) -> None:
        """Put lines whose time has come to the others."""
        while self.later and self.later[0][0] <= now_s:
            _, number, name = heapq.heappop(self.later)
            self.queues[name].append(number)
