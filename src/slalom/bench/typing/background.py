"""What goes on beside the typists: people who chat, and a batch that fills the rest.

Owns both loads. The batch always has the same number of requests under way, which is what makes it
fill whatever is idle. Called by the runs.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import aiohttp

from slalom.bench.typing.asking import Heard, ask
from slalom.bench.typing.sources import Sources
from slalom.bench.typing.typist import until
from slalom.clock import Clock
from slalom.units import SECOND
from slalom.workload.plan import TASK_HEADER
from slalom.workload.prompts import CHAT_PATH, COMPLETIONS_PATH
from slalom.workload.streams import stream


@dataclass(frozen=True, slots=True)
class Background:
    """How much of it there is."""

    #: Chats begun per second, as a Poisson process, and tokens of their answers.
    chats_per_s: float = 0.5
    chat_tokens: int = 48
    #: Requests of the batch under way, and tokens of their answers.
    batch_width: int = 2
    batch_tokens: int = 64
    #: Text of a prompt, characters.
    prompt_chars: int = 800


NOTHING = Background(chats_per_s=0.0, batch_width=0)


@dataclass(slots=True)
class Asked:
    """One request of the background."""

    task: str
    #: When it was to be sent, ns of the clock.
    at_ns: int
    heard: Heard = field(default_factory=Heard)


@dataclass(frozen=True, slots=True)
class Beside:
    """The background of one run.

    Args of the two loads that it has: who is asked, what, and when it ends.
    """

    session: aiohttp.ClientSession
    model: str
    sources: Sources
    clock: Clock
    rule: Background
    seed: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    async def play(self, start_ns: int, end_ns: int, grace_ns: int) -> list[Asked]:
        """Both loads from a start to an end, and the records of all their requests.

        Args:
            start_ns: By the clock.
            end_ns: Nothing is sent after this.
            grace_ns: How long answers are waited for after that.
        """
        found: list[Asked] = []
        loads = [self._chats(found, start_ns, end_ns)]
        loads += [self._batch(found, line, end_ns) for line in range(self.rule.batch_width)]
        tasks = [asyncio.ensure_future(load) for load in loads]
        try:
            left_ns = end_ns + grace_ns - self.clock.now_ns()
            await asyncio.wait(tasks, timeout=max(left_ns, 0) / SECOND)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return found

    async def _chats(self, found: list[Asked], start_ns: int, end_ns: int) -> None:
        """Each at its time, whatever became of those before it."""
        async with asyncio.TaskGroup() as group:
            async for number in self._times(start_ns, end_ns):
                question = f"What does this do?\n\n{self._text('chat', number)}"
                fields = {
                    "messages": [{"role": "user", "content": question}],
                    "max_tokens": self.rule.chat_tokens,
                }
                group.create_task(self._one(found, "chat", CHAT_PATH, fields))

    async def _times(self, start_ns: int, end_ns: int) -> AsyncIterator[int]:
        """The number of each chat, when its time has come."""
        if self.rule.chats_per_s <= 0:
            return
        rng = stream(self.seed, "chats")
        at_ns = start_ns
        for number in count():
            at_ns += round(rng.expovariate(self.rule.chats_per_s) * SECOND)
            if at_ns >= end_ns:
                return
            await until(self.clock, at_ns)
            yield number

    async def _batch(self, found: list[Asked], line: int, end_ns: int) -> None:
        """One after the other."""
        number = 0
        while self.clock.now_ns() < end_ns:
            fields = {
                "prompt": self._text(f"batch-{line}", number),
                "max_tokens": self.rule.batch_tokens,
            }
            before = len(found)
            await self._one(found, "batch", COMPLETIONS_PATH, fields)
            number += 1
            if found[before].heard.failed:  # a server that refuses is not asked in a tight loop
                await until(self.clock, self.clock.now_ns() + SECOND // 5)

    async def _one(self, found: list[Asked], task: str, path: str, fields: dict[str, Any]) -> None:
        asked = Asked(task, self.clock.now_ns())
        found.append(asked)
        whole = {"model": self.model, "temperature": 0, "ignore_eos": True, **fields}
        headers = {TASK_HEADER: task, "user-agent": f"slalom-{task}", **self.headers}
        await ask(self.session, path, whole, asked.heard, clock=self.clock, headers=headers)

    def _text(self, name: str, number: int) -> str:
        """Text from a place of its own, so that no prompt is another's beginning."""
        rng = stream(self.seed, name, number)
        text = self.sources.file(rng.randrange(1 << 16)).text
        start = rng.randrange(max(len(text) - self.rule.prompt_chars, 1))
        return text[start : start + self.rule.prompt_chars]
