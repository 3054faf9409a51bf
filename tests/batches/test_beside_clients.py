"""Batches beside clients: they take what is idle, and give it back."""

import logging
from pathlib import Path
from typing import Any

import pytest

from slalom.core.actions import EndRequest
from slalom.testing import FakeLauncher, FakeScript, Fault, FaultKind
from slalom.testing.fake_script import FakeTimings
from slalom.testing.patience import until
from slalom.units import MS
from tests.batches.shop import CHAT, Shop, chat_line, chat_lines, shop


def paced(token_ms: int, **more: Any) -> dict[str, FakeLauncher]:
    return {"a": FakeLauncher(FakeScript(timings=FakeTimings(token_ns=token_ms * MS), **more))}


def watch(world: Shop) -> list[EndRequest]:
    ended: list[EndRequest] = []
    world.runtime.on_end.append(ended.append)
    return ended


async def ask(world: Shop, tokens: int = 1) -> None:
    body = chat_line("x", tokens=tokens)["body"]
    async with world.http.post(f"{world.url}{CHAT}", json=body) as reply:
        assert reply.status == 200


async def running(world: Shop, lines: int) -> None:
    async def there() -> bool:
        return world.runtime.snapshot().running >= lines

    await until(there, f"{lines} lines run", seconds=20)


async def test_a_client_finds_a_place_at_once(tmp_path: Path) -> None:
    async with shop(tmp_path, paced(20), places=4) as world:
        ended = watch(world)
        await world.begin(chat_lines(60, tokens=20))
        await running(world, 3)
        for _ in range(5):
            assert world.runtime.snapshot().running <= 3
            await ask(world)
        clients = [end for end in ended if end.task != "batch"]
        assert len(clients) == 5
        lines_ended_ns = [end.ended_ns for end in ended if end.task == "batch"]
        for client in clients:
            waited_for = [
                at_ns
                for at_ns in lines_ended_ns
                if client.arrived_ns < at_ns < client.first_dispatch_ns
            ]
            assert not waited_for, "it waited for a line to end"


async def test_a_line_gives_its_place_to_a_client_that_waits(tmp_path: Path) -> None:
    async with shop(tmp_path, paced(100), places=1) as world:
        ended = watch(world)
        batch = await world.begin([chat_line("long", tokens=60)])
        await running(world, 1)
        await ask(world)
        assert [end.task for end in ended if end.outcome.value == "done"] == ["generation"]
        await world.sdk.batches.cancel(batch.id)
        await world.ended(batch)


async def test_lines_have_the_loosest_targets_whatever_they_say(tmp_path: Path) -> None:
    async with shop(tmp_path) as world:
        ended = watch(world)
        seen: list[Any] = []
        serve = world.runtime.serve

        async def spy(request: Any, *rest: Any, **more: Any) -> Any:
            seen.append(request)
            return await serve(request, *rest, **more)

        world.runtime.serve = spy  # type: ignore[method-assign]
        urgent = {"slo_ttft_ms": 1, "slo_tpot_ms": 1, "slo_e2e_ms": 2, "task": "completion"}
        await world.ended(await world.begin([chat_line("x", metadata=urgent, t_max_prompt_ms=5)]))
        assert [end.task for end in ended] == ["batch"]
        day_ns = 86_400 * 1000 * MS
        sla = seen[0].sla
        for limit in (sla.ttft_ns, sla.tpot_ns, sla.e2e_ns):
            assert 0.9 * day_ns < limit <= day_ns


async def test_a_line_whose_engine_fails_once_is_answered(tmp_path: Path) -> None:
    def first(number: int, _asked: object) -> Fault | None:
        return Fault(FaultKind.STATUS, status=500) if number <= 2 else None

    async with shop(tmp_path, paced(1, fault=first)) as world:
        done = await world.ended(await world.begin(chat_lines(5)))
        assert done.request_counts is not None
        assert done.request_counts.completed == 5


async def test_logs_and_records_hold_no_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "slalom")
    lines = [*chat_lines(3), chat_line("wrong", temperature="hot")]
    async with shop(tmp_path) as world:
        await world.ended(await world.begin(lines))
        failed = await world.ended(await world.begin([*lines, b'{"oops": "say line-9']))
        assert failed.errors is not None
        assert "say " not in failed.errors.to_json()
        assert "say " not in str(world.gateway.records.latest(100))
    assert "slalom.requests" in {record.name for record in caplog.records}
    assert not [record for record in caplog.records if "say " in record.getMessage()]


async def test_while_draining_nothing_starts_and_all_is_kept(tmp_path: Path) -> None:
    async with shop(tmp_path, paced(50)) as world:
        batch = await world.begin(chat_lines(30, tokens=4))
        await running(world, 2)
        world.gateway.start_draining()
        await world.runner.stop()

        async def left_alone() -> bool:
            return world.gateway.inflight == 0

        await until(left_alone, "lines are given up", seconds=10)
        document = await world.sdk.batches.retrieve(batch.id)
        assert document.status == "in_progress"
    async with shop(tmp_path) as world:
        done = await world.ended(batch)
        assert done.request_counts is not None
        assert done.request_counts.completed == 30
        assert len(await world.read(done.output_file_id)) == 30
