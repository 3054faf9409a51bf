"""When lines start, come again, give way and end; what a runner leaves, the next one finishes."""

import asyncio
from collections import Counter as Counts
from pathlib import Path
from typing import Any

import msgspec
import pytest

from slalom.batches import life
from slalom.batches.answering import Answer, LineCall
from slalom.batches.ledger import Ledger
from slalom.batches.objects import Batch, Status
from slalom.testing.patience import until
from tests.batches.counter import GOOD, Memory, counter

NAMES = [f"n{number}" for number in range(20)]
BUSY = Answer(503, "r", b'{"error": {}}', retryable=True)
BROKEN = Answer(502, "r", b'{"error": {}}', retryable=True)
WRONG = Answer(400, "r", b'{"error": {"message": "no"}}')


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Come again soon."""
    monkeypatch.setattr(life, "_PAUSE_MAX_S", 0.01)


def held(count: int, memory: Memory) -> "asyncio.Future[None]":
    async def there() -> bool:
        return len(memory.inside) >= count

    return asyncio.ensure_future(until(there, f"{count} lines run", seconds=10))


async def test_never_more_than_there_is_room_for(tmp_path: Path) -> None:
    async with counter(tmp_path, Memory(room=3)) as world:
        batch = await world.begin(NAMES)
        await held(3, world.memory)
        world.memory.gate.set()
        done = await world.ended(batch)
        assert (done.status, done.completed, done.total) == (Status.COMPLETED, 20, 20)
        assert world.memory.inside_max == 3
        assert sorted(world.memory.calls) == sorted(NAMES)
        assert done.usage.output_tokens == 40


async def test_what_is_busy_comes_again_until_it_is_answered(tmp_path: Path) -> None:
    seen: Counts[str] = Counts()

    def reply(_call: LineCall, name: str) -> Answer:
        seen[name] += 1
        return GOOD if seen[name] > 6 or name != "n3" else BUSY

    memory = Memory(reply=reply)
    memory.gate.set()
    async with counter(tmp_path, memory) as world:
        done = await world.ended(await world.begin(NAMES))
        assert (done.completed, done.failed) == (20, 0)
        assert seen["n3"] == 7


async def test_what_breaks_is_tried_three_times_and_what_is_wrong_once(tmp_path: Path) -> None:
    answers = {"n1": BROKEN, "n2": WRONG}
    memory = Memory(reply=lambda _call, name: answers.get(name, GOOD))
    memory.gate.set()
    async with counter(tmp_path, memory) as world:
        done = await world.ended(await world.begin(NAMES))
        assert (done.completed, done.failed) == (18, 2)
        assert Counts(memory.calls)["n1"] == 3
        assert Counts(memory.calls)["n2"] == 1
        errors = world.results(done.error_file)
        assert errors["n1"]["response"]["status_code"] == 502
        assert errors["n2"]["response"]["body"] == {"error": {"message": "no"}}
        assert errors["n2"]["error"] is None


async def test_a_line_that_meets_a_bug_is_not_lost(tmp_path: Path) -> None:
    seen: Counts[str] = Counts()

    def reply(_call: LineCall, name: str) -> Answer:
        seen[name] += 1
        if name == "n5" and seen[name] == 1:
            raise KeyError(name)
        return GOOD if name != "n6" else Answer(200, "r", b"not json")

    memory = Memory(reply=reply)
    memory.gate.set()
    async with counter(tmp_path, memory) as world:
        done = await world.ended(await world.begin(NAMES))
        assert (done.completed, done.failed) == (19, 1)
        assert seen["n5"] == 2
        assert world.results(done.error_file)["n6"]["error"]["code"] == "invalid_answer"


async def test_lines_that_gave_way_are_the_next(tmp_path: Path) -> None:
    memory = Memory(room=2)
    async with counter(tmp_path, memory) as world:
        batch = await world.begin(NAMES)
        await held(2, memory)
        memory.room = 1

        async def one() -> bool:
            return len(memory.inside) == 1

        await until(one, "one gives way", seconds=10)
        assert memory.inside == ["n0"], "the one that began last loses the least"
        memory.room = 2
        await held(2, memory)
        assert memory.calls == ["n0", "n1", "n1"]
        memory.gate.set()
        done = await world.ended(batch)
        assert done.completed == 20


async def test_a_line_gives_way_only_so_often(tmp_path: Path) -> None:
    memory = Memory(room=1)
    async with counter(tmp_path, memory) as world:
        await world.begin(["x"])
        for tries in range(1, 4):
            await held(1, memory)
            assert memory.calls == ["x"] * tries
            memory.room = 0

            async def none() -> bool:
                return not memory.inside

            await until(none, "it gives way", seconds=10)
            memory.room = 1
        await held(1, memory)
        memory.room = 0
        memory.gate.set()

        async def over() -> bool:
            return not memory.inside

        await until(over, "it is left to end", seconds=10)
        assert memory.calls == ["x"] * 4


async def test_keys_share_the_room_evenly(tmp_path: Path) -> None:
    memory = Memory(room=4)
    async with counter(tmp_path, memory) as world:
        await world.begin([f"one-{number}" for number in range(50)], "one")
        await held(4, memory)
        second = await world.begin([f"two-{number}" for number in range(50)], "two")

        async def checked() -> bool:
            return (await world.now(second)).status is Status.IN_PROGRESS

        await until(checked, "the other key's is checked", seconds=10)
        memory.gate.set()

        async def some() -> bool:
            return len(memory.calls) > 40

        await until(some, "lines run", seconds=10)
        later = Counts(name[:3] for name in memory.calls[10:40])
        assert later["two"] >= 10, "one key's long batch holds up the other's"


async def test_nothing_starts_while_the_server_ends(tmp_path: Path) -> None:
    memory = Memory()
    async with counter(tmp_path, memory) as world:
        batch = await world.begin(NAMES)
        await held(2, memory)
        memory.open = False
        memory.gate.set()

        async def two() -> bool:
            return (await world.now(batch)).completed == 2

        await until(two, "what runs is finished", seconds=10)
        await world.runner.stop()
        assert len(memory.calls) == 2


async def test_the_next_runner_goes_on_where_this_one_stopped(tmp_path: Path) -> None:
    async with counter(tmp_path, Memory()) as world:
        batch = await world.begin(NAMES)
    answered: set[str] = set()
    for _ in range(4):
        answered |= await _some_more(tmp_path, batch, answered)
    assert 12 <= len(answered) < 20
    memory = Memory()
    memory.gate.set()
    async with counter(tmp_path, memory) as world:
        ended = await world.ended(batch)
        assert ended.completed == 20
        assert world.results(ended.output_file).keys() == set(NAMES)
        assert set(memory.calls) == set(NAMES) - answered, "asked again though it is recorded"


async def _some_more(folder: Path, batch: Batch, before: set[str]) -> set[str]:
    """A runner that answers some lines and is stopped with others under way; the recorded ones."""
    names: set[str] = set()
    memory = Memory(room=2)

    def reply(_call: LineCall, name: str) -> Answer:
        names.add(name)
        if len(names) >= 3:
            memory.open = False
        return GOOD

    memory.reply = reply
    async with counter(folder, memory) as world:
        await held(2, memory)
        assert not set(memory.inside) & before
        memory.gate.set()

        async def three() -> bool:
            return (await world.now(batch)).completed >= len(before) + 3

        await until(three, "three more are recorded", seconds=10)
        await world.runner.stop()
        recorded = await world.desk.ask(lambda stored: stored.ledger.recorded(batch.id))
    found = {NAMES[number - 1] for number in recorded}
    assert found == before | names
    return found


async def test_a_model_that_has_gone_is_told_line_by_line(tmp_path: Path) -> None:
    memory = Memory()
    async with counter(tmp_path, memory) as world:
        batch = await world.begin(NAMES[:3])
        await held(2, memory)
    memory = Memory(unknown={"a"}, reply=lambda _call, _name: WRONG)
    memory.gate.set()
    async with counter(tmp_path, memory) as world:
        done = await world.ended(batch)
        assert (done.status, done.failed) == (Status.COMPLETED, 3)


async def test_a_batch_that_expired_while_nobody_served_ends_at_once(tmp_path: Path) -> None:
    memory = Memory()
    async with counter(tmp_path, memory) as world:
        batch = await world.begin(NAMES[:3])
        await held(2, memory)
        await world.runner.stop()

        await world.desk.ask(
            lambda stored: stored.ledger.change(
                batch.id, lambda one: msgspec.structs.replace(one, expires_s=1)
            )
        )
    memory = Memory()
    async with counter(tmp_path, memory) as world:
        done = await world.ended(batch)
        assert (done.status, done.failed) == (Status.EXPIRED, 3)
        assert memory.calls == []


async def test_a_bug_while_looking_or_recording_does_not_stop_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory()
    memory.gate.set()
    broken = {"rooms": 2, "record": 2}

    def breaking(name: str, work: Any) -> Any:
        def once(*given: Any) -> Any:
            if broken[name]:
                broken[name] -= 1
                raise KeyError(name)
            return work(*given)

        return once

    monkeypatch.setattr(memory, "rooms", breaking("rooms", memory.rooms))
    monkeypatch.setattr(Ledger, "record", breaking("record", Ledger.record))
    async with counter(tmp_path, memory) as world:
        world.runner._recorder._again_s = 0.01
        done = await world.ended(await world.begin(NAMES))
        assert done.completed == 20
        assert broken == {"rooms": 0, "record": 0}
