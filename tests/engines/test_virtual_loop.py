"""Virtual time: exact, in order, and never waiting."""

import asyncio
import time

import pytest

from slalom.testing import DeadlockError, VirtualClock, run_virtual
from slalom.units import SECOND


def test_weeks_pass_at_once_and_to_the_nanosecond() -> None:
    async def main(clock: VirtualClock) -> int:
        for _ in range(1000):
            await asyncio.sleep(1e-9)
        assert clock.now_ns() == 1000
        for _ in range(45):
            await asyncio.sleep(86_400)
        await asyncio.sleep(1e-9)
        return clock.now_ns()

    started_s = time.monotonic()
    assert run_virtual(main) == 45 * 86_400 * SECOND + 1001
    assert time.monotonic() - started_s < 60.0


def test_it_ends_before_it_becomes_inexact() -> None:
    async def main(clock: VirtualClock) -> None:
        await asyncio.sleep(49 * 86_400)

    with pytest.raises(OverflowError):
        run_virtual(main)


def test_drift_does_not_build_up() -> None:
    async def main(clock: VirtualClock) -> int:
        for _ in range(100_000):
            await asyncio.sleep(0.000_333_333)
        return clock.now_ns()

    assert run_virtual(main) == 100_000 * 333_333


def test_timers_of_one_instant_fire_in_the_order_they_were_set() -> None:
    async def main(clock: VirtualClock) -> list[int]:
        fired: list[int] = []
        loop = asyncio.get_running_loop()
        for number in range(100):
            loop.call_at(1.5, fired.append, number)
        loop.call_at(1.0, fired.append, -1)
        loop.call_at(1.5, fired.append, 100).cancel()
        await asyncio.sleep(2.0)
        return fired

    assert run_virtual(main) == [-1, *range(100)]


def test_work_that_is_ready_costs_no_time() -> None:
    async def main(clock: VirtualClock) -> None:
        loop = asyncio.get_running_loop()
        late = loop.call_later(1.0, lambda: None)
        for _ in range(1000):
            await asyncio.sleep(0)
        assert clock.now_ns() == 7
        late.cancel()

    run_virtual(main, start_ns=7)


def test_timeouts_are_virtual() -> None:
    async def main(clock: VirtualClock) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        assert clock.now_ns() == 3600 * SECOND

    run_virtual(main)


def test_threads_may_report_back_when_nothing_else_is_due() -> None:
    async def main(clock: VirtualClock) -> int:
        return await asyncio.to_thread(lambda: 42)

    assert run_virtual(main) == 42


def test_waiting_for_nothing_is_an_error_instead_of_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slalom.testing.virtual_loop._PATIENCE_S", 0.01)

    async def main(clock: VirtualClock) -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError):
        run_virtual(main)


def test_what_nobody_caught_fails_the_run() -> None:
    async def main(clock: VirtualClock) -> None:
        asyncio.get_running_loop().call_later(1.0, lambda: 1 // 0)
        await asyncio.sleep(2.0)

    with pytest.raises(ZeroDivisionError):
        run_virtual(main)
