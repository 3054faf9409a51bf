"""A runner without HTTP: lines are answered in memory, as a test says."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slalom.batches.answering import Answer, LineCall
from slalom.batches.desk import Desk, new_id
from slalom.batches.files import create_private
from slalom.batches.objects import Batch, StoredFile
from slalom.batches.params import BatchParams
from slalom.batches.runner import Runner
from slalom.errors import RequestError
from slalom.testing.patience import until

ENDPOINT = "/v1/completions"
GOOD = Answer(200, "req-1", b'{"usage": {"prompt_tokens": 3, "completion_tokens": 2}}')


@dataclass
class Memory:
    """Answers lines; `reply` may wait."""

    room: int = 2
    calls: list[str] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)
    inside_max: int = 0
    open: bool = True
    unknown: set[str] = field(default_factory=set)
    reply: Callable[[LineCall, str], Answer] = lambda _call, _name: GOOD
    #: Lines wait for this before they are answered.
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, call: LineCall) -> Answer:
        name = json.loads(call.body)["prompt"]
        self.calls.append(name)
        self.inside.append(name)
        self.inside_max = max(self.inside_max, len(self.inside))
        try:
            await self.gate.wait()
            return self.reply(call, name)
        finally:
            self.inside.remove(name)

    def model_of(self, name: str) -> str:
        if name in self.unknown:
            raise RequestError(f"There is no model {name!r}.", code="model_not_found")
        return name

    def rooms(self, ours: Mapping[str, int]) -> Mapping[str, int]:
        return {model: self.room - count for model, count in ours.items()}

    def accepting(self) -> bool:
        return self.open


@dataclass
class Counter:
    """What a test can reach."""

    desk: Desk
    runner: Runner
    memory: Memory

    async def begin(self, names: list[str], owner: str = "") -> Batch:
        """Begin a batch with a line for each name."""
        lines = [
            {
                "custom_id": name,
                "method": "POST",
                "url": ENDPOINT,
                "body": {"model": "a", "prompt": name},
            }
            for name in names
        ]
        text = "\n".join(json.dumps(line) for line in lines).encode()
        now_s, file_id = self.desk.now_s(), new_id("file-")
        file = StoredFile(
            id=file_id,
            owner=owner,
            purpose="batch",
            filename="x",
            size_bytes=len(text),
            created_s=now_s,
            expires_s=now_s + 1000,
        )
        batch = Batch(
            id=new_id("batch_"),
            owner=owner,
            endpoint=ENDPOINT,
            input_file=file_id,
            window="24h",
            output_file=new_id("file-"),
            error_file=new_id("file-"),
            created_s=now_s,
            expires_s=now_s + 1000,
            keep_s=1000,
        )

        def store(stored: Any) -> None:
            descriptor = create_private(stored.files.new_path(file_id))
            with open(descriptor, "wb") as writing:  # noqa: PTH123 - a descriptor
                writing.write(text)
            stored.files.take_upload(file)
            stored.ledger.add(batch)

        await self.desk.ask(store)
        self.desk.changed()
        return batch

    async def now(self, batch: Batch) -> Batch:
        return await self.desk.ask(lambda stored: stored.ledger.find(batch.owner, batch.id))

    async def ended(self, batch: Batch) -> Batch:
        async def over() -> bool:
            return (await self.now(batch)).ended

        await until(over, "the batch ends", seconds=20)
        return await self.now(batch)

    def results(self, file_id: str) -> dict[str, Any]:
        path = self.desk.content(file_id)
        if not path.exists():
            return {}
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert len({line["custom_id"] for line in lines}) == len(lines)
        return {line["custom_id"]: line for line in lines}


@asynccontextmanager
async def counter(folder: Path, memory: Memory | None = None) -> AsyncIterator[Counter]:
    """Start a runner, and end it again."""
    desk = Desk(BatchParams(folder, free_bytes_min=0))
    memory = memory or Memory()
    runner = Runner(desk, memory)
    runner.start()
    try:
        yield Counter(desk, runner, memory)
    finally:
        await runner.close()
