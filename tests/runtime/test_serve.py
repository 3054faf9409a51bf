"""The live runtime over fake engines, in virtual time: every way a request can go."""

import asyncio
import itertools
from pathlib import Path

import pytest

from slalom.core.actions import LoadReplica, Outcome, Reason, UnloadReplica
from slalom.core.events import FailureKind, FirstToken, RequestCancelled
from slalom.core.journal import replay
from slalom.core.params import SchedulerParams
from slalom.core.scheduler import Scheduler
from slalom.errors import OverloadedError, RequestError
from slalom.journal.codec import header_for
from slalom.journal.files import JournalParams, JournalWriter, journal_files, read_file
from slalom.runtime.params import RuntimeParams
from slalom.testing import (
    FakeLauncher,
    FakeLoad,
    FakeScript,
    FakeTimings,
    Fault,
    FaultKind,
    VirtualClock,
    run_virtual,
)
from slalom.units import MIB, MS, SECOND
from tests.runtime.world import RecordingSink, World


def slow(token_ms: int = 100, **more: object) -> FakeScript:
    return FakeScript(timings=FakeTimings(token_ns=token_ms * MS), **more)  # type: ignore[arg-type]


def failing(*kinds: FaultKind, after_tokens: int = 0, status: int = 500) -> FakeScript:
    """The first calls fail in this way, one after the other."""

    def fault(number: int, _asked: object) -> Fault | None:
        if number <= len(kinds):
            return Fault(kinds[number - 1], after_tokens=after_tokens, status=status)
        return None

    return FakeScript(fault=fault)


def count(world: World, kind: type) -> int:
    return sum(isinstance(a, kind) for entry in world.entries for a in entry.actions)


def test_a_request_loads_its_model_streams_and_ends_once() -> None:
    async def main(clock: VirtualClock) -> None:
        world = World(clock, {"a": FakeLauncher(load=FakeLoad(duration_ns=SECOND))})
        sink = RecordingSink()
        served = await world.ask("r", tokens=5, sink=sink)
        assert served.failure is None
        assert served.end is None
        assert sink.data.count(b"data: {") == 5 + sink.data.count(b'"finish_reason":"length"')
        assert sink.data.endswith(b"data: [DONE]\n\n")
        assert b'"choices":[]' not in sink.data, "the usage chunk was not asked for by the client"
        assert [wait.model_state for wait in sink.waits][:1] == ["loading"]
        await asyncio.sleep(1)
        end = world.ended["r"]
        assert (end.outcome, end.output_tokens, end.good) == (Outcome.DONE, 5, True)
        assert end.arrived_ns < end.dispatch_ns < end.first_token_ns <= end.ended_ns
        await world.runtime.close()

    run_virtual(main)


def test_a_waiting_client_is_told_when_it_is_expected_to_start() -> None:
    async def main(clock: VirtualClock) -> None:
        load = FakeLoad(duration_ns=4 * SECOND, steps=4)
        world = World(clock, {name: FakeLauncher(load=load) for name in "ab"})
        first, second = RecordingSink(), RecordingSink()
        await world.ask("1", "a", sink=first)
        told = [wait.starts_in_ns for wait in first.waits]
        assert told[0] == -1, "before any progress nothing tells"
        # Every quarter of the load is reported when it is done, so the pace is exact then.
        assert abs(told[-1]) <= SECOND
        await world.ask("2", "b")
        await world.ask("3", "a", sink=second)
        loading = [wait for wait in second.waits if wait.model_state == "loading"]
        for wait, later in itertools.pairwise(loading):
            assert wait.starts_in_ns - later.starts_in_ns == later.waited_ns - wait.waited_ns
        assert 3 * SECOND < loading[0].starts_in_ns <= 4 * SECOND, "the last load took 4 s"
        await world.runtime.close()

    run_virtual(main)


def test_an_answer_that_is_not_streamed_counts_its_tokens() -> None:
    async def main(clock: VirtualClock) -> None:
        world = World(clock, {"a": FakeLauncher()})
        sink = RecordingSink()
        await world.ask("r", tokens=7, sink=sink, stream=False)
        await asyncio.sleep(1)
        assert world.ended["r"].output_tokens == 7
        assert sink.data.startswith(b"{")
        await world.runtime.close()

    run_virtual(main)


def test_twenty_first_requests_cause_one_load() -> None:
    async def main(clock: VirtualClock) -> None:
        world = World(clock, {"a": FakeLauncher(load=FakeLoad(duration_ns=SECOND))})
        await asyncio.gather(*(world.ask(str(number)) for number in range(20)))
        assert world.launchers["a"].launches == ["a#0"]
        assert world.launchers["a"].engines[0].running_max <= 2
        await world.runtime.close()

    run_virtual(main)


def test_a_client_that_leaves_mid_stream_frees_the_engine() -> None:
    async def main(clock: VirtualClock) -> None:
        world = World(clock, {"a": FakeLauncher(slow())})
        task = asyncio.create_task(world.ask("r", tokens=1000))
        await asyncio.sleep(2)
        engine = world.launchers["a"].engines[0]
        assert (await engine.metrics()).running == 1  # type: ignore[union-attr]
        task.cancel()
        await asyncio.sleep(0.01)
        assert task.cancelled()
        assert (await engine.metrics()).running == 0  # type: ignore[union-attr]
        assert engine.aborted == 1
        assert world.ended["r"].outcome is Outcome.CANCELLED
        assert not world.scheduler.state.attempts
        await world.runtime.close()

    run_virtual(main)


def test_a_client_that_leaves_at_the_end_mark_has_been_served() -> None:
    """Many clients close right after `[DONE]`, before the engine's connection has ended."""

    async def main(clock: VirtualClock) -> None:
        world = World(clock, {"a": FakeLauncher(slow())})
        sink = RecordingSink()
        asked = asyncio.create_task(world.ask("r", sink=sink))

        def leave() -> None:
            if b"[DONE]" in sink.data:
                asked.cancel()

        sink.on_body = leave
        with pytest.raises(asyncio.CancelledError):
            await asked
        await asyncio.sleep(1)
        assert world.ended["r"].outcome is Outcome.DONE
        assert not world.scheduler.state.attempts
        assert world.scheduler.state.counters["stale_events"] == 0
        await world.runtime.close()

    run_virtual(main)


def test_a_load_nobody_waits_for_is_cancelled_but_not_that_of_others() -> None:
    async def main(clock: VirtualClock) -> None:
        launchers = {n: FakeLauncher(load=FakeLoad(duration_ns=10 * SECOND)) for n in "ab"}
        world = World(clock, launchers, budget=200 * MIB)
        leaving = asyncio.create_task(world.ask("1", "a"))
        staying = asyncio.create_task(world.ask("2", "b"))
        await asyncio.sleep(1)
        leaving.cancel()
        await asyncio.sleep(1)
        assert launchers["a"].cancelled == 1
        assert launchers["b"].cancelled == 0
        assert world.scheduler.state.devices["host"].booked_bytes == 64 * MIB
        assert (await staying).end is None
        await world.runtime.close()

    run_virtual(main)


def test_a_crash_mid_stream_is_an_error_and_the_next_request_gets_a_fresh_replica() -> None:
    async def main(clock: VirtualClock) -> None:
        world = World(clock, {"a": FakeLauncher(slow())})
        sink = RecordingSink()
        asked = asyncio.create_task(world.ask("1", tokens=100, sink=sink))
        await asyncio.sleep(1)
        world.launchers["a"].engines[0].crash()
        served = await asked
        assert served.failure is not None
        assert served.failure.code == FailureKind.CRASHED
        assert sink.data
        assert (await world.ask("2")).end is None
        assert len(world.launchers["a"].engines) == 2
        assert world.ended["1"].outcome is Outcome.FAILED
        await world.runtime.close()

    run_virtual(main)


@pytest.mark.parametrize("kind", [FaultKind.CRASH, FaultKind.CUT, FaultKind.STATUS])
def test_a_failure_before_the_first_byte_is_tried_again(kind: FaultKind) -> None:
    async def main(clock: VirtualClock) -> None:
        scripts = [failing(kind), FakeScript()]
        launcher = FakeLauncher(lambda number: scripts[min(number, 2) - 1])
        world = World(clock, {"a": launcher})
        served = await world.ask("r")
        assert served.failure is None
        assert served.end is None
        await asyncio.sleep(1)
        assert world.ended["r"].outcome is Outcome.DONE
        assert world.ended["r"].attempts == 2
        await world.runtime.close()

    run_virtual(main)


def test_an_engine_that_always_fails_ends_the_request_after_the_last_attempt() -> None:
    async def main(clock: VirtualClock) -> None:
        world = World(clock, {"a": FakeLauncher(failing(*[FaultKind.STATUS] * 9))})
        served = await world.ask("r")
        assert served.end is not None
        assert served.end.outcome is Outcome.FAILED
        assert served.end.reason == FailureKind.ENGINE_ERROR
        assert served.end.attempts == 3
        await world.runtime.close()

    run_virtual(main)


def test_the_engines_own_refusal_reaches_the_client_and_is_not_repeated() -> None:
    async def main(clock: VirtualClock) -> None:
        world = World(clock, {"a": FakeLauncher(failing(FaultKind.STATUS, status=422))})
        sink = RecordingSink()
        served = await world.ask("r", sink=sink)
        assert sink.status == 422
        assert served.failure is not None
        await asyncio.sleep(1)
        assert world.ended["r"].reason == FailureKind.REFUSED
        assert world.ended["r"].attempts == 1
        await world.runtime.close()

    run_virtual(main)


def test_a_load_that_fails_for_good_fails_those_who_wait_and_backs_off() -> None:
    async def main(clock: VirtualClock) -> None:
        load = FakeLoad(duration_ns=SECOND, failure=FailureKind.MODEL_UNUSABLE)
        world = World(clock, {"a": FakeLauncher(load=load)})
        both = await asyncio.gather(world.ask("1"), world.ask("2"))
        for served in both:
            assert served.end is not None
            assert served.end.reason == FailureKind.MODEL_UNUSABLE
            assert "told to fail" in served.end.detail
        later = await world.ask("3")
        assert later.end is not None
        assert later.end.reason == Reason.LOAD_BACKOFF
        assert later.end.retry_after_ns > 0
        assert len(world.launchers["a"].launches) == 1
        await world.runtime.close()

    run_virtual(main)


def test_a_load_that_fails_once_is_tried_again_for_those_who_wait() -> None:
    async def main(clock: VirtualClock) -> None:
        loads = [FakeLoad(failure=FailureKind.START_FAILED), FakeLoad()]
        world = World(clock, {"a": FakeLauncher(load=lambda number: loads[number - 1])})
        assert (await world.ask("r")).end is None
        assert len(world.launchers["a"].launches) == 2
        await world.runtime.close()

    run_virtual(main)


def test_overlapping_traffic_on_one_model_does_not_starve_another() -> None:
    async def main(clock: VirtualClock) -> None:
        launchers = {n: FakeLauncher(slow(), load=FakeLoad(duration_ns=SECOND)) for n in "ab"}
        world = World(clock, launchers, params=SchedulerParams(swap_patience_ns=2 * SECOND))

        async def keep_busy(name: str) -> None:
            for number in range(40):
                await world.ask(f"{name}{number}", "a", tokens=10)

        busy = [asyncio.create_task(keep_busy(name)) for name in "xyz"]
        await asyncio.sleep(5)
        began = clock.now_ns()
        served = await world.ask("b", "b")
        waited = clock.now_ns() - began
        assert served.end is None
        # Patience, the longest answer of A, the load of B, B's own four tokens.
        assert waited <= (2 + 1 + 1 + 0.5) * SECOND
        assert not all(task.done() for task in busy)
        await asyncio.gather(*busy)
        await world.runtime.close()

    run_virtual(main)


def test_a_drain_that_takes_too_long_interrupts_but_tells_the_client() -> None:
    async def main(clock: VirtualClock) -> None:
        launchers = {n: FakeLauncher(slow()) for n in "ab"}
        params = SchedulerParams(swap_patience_ns=SECOND, swap_drain_timeout_ns=3 * SECOND)
        world = World(clock, launchers, params=params)
        endless = asyncio.create_task(world.ask("1", "a", tokens=10_000))
        await asyncio.sleep(2)
        assert (await world.ask("2", "b")).end is None
        served = await endless
        assert served.failure is not None
        assert served.failure.code == FailureKind.ABORTED
        assert launchers["a"].engines[0].aborted == 1
        await world.runtime.close()

    run_virtual(main)


def test_a_hanging_engine_is_replaced() -> None:
    async def main(clock: VirtualClock) -> None:
        world = World(clock, {"a": FakeLauncher(slow())})
        assert (await world.ask("1")).end is None
        world.launchers["a"].engines[0].freeze()
        await asyncio.sleep(60)
        assert (await world.ask("2")).end is None
        assert len(world.launchers["a"].engines) == 2
        await world.runtime.close()

    run_virtual(main)


def test_drain_finishes_what_is_here_and_refuses_what_comes() -> None:
    async def main(clock: VirtualClock) -> None:
        world = World(clock, {"a": FakeLauncher(slow())})
        running = asyncio.create_task(world.ask("1", tokens=20))
        await asyncio.sleep(0.5)
        draining = asyncio.create_task(world.runtime.drain(30))
        await asyncio.sleep(0.1)
        refused = await world.ask("2")
        assert refused.end is not None
        assert refused.end.reason == Reason.DRAINING
        assert (await running).failure is None
        assert await draining == 0
        assert await world.launchers["a"].engines[0].memory_bytes() == 0
        assert count(world, UnloadReplica) == 1
        await world.runtime.close()

    run_virtual(main)


def test_drain_ends_at_its_deadline_whatever_runs() -> None:
    async def main(clock: VirtualClock) -> None:
        world = World(clock, {"a": FakeLauncher(slow())})
        running = asyncio.create_task(world.ask("1", tokens=100_000))
        await asyncio.sleep(0.5)
        began = clock.now_ns()
        assert await world.runtime.drain(2) == 1
        assert clock.now_ns() - began <= 3 * SECOND
        assert (await running).failure is not None
        await world.runtime.close()

    run_virtual(main)


def test_too_many_requests_and_a_taken_id_are_refused_at_the_door() -> None:
    async def main(clock: VirtualClock) -> None:
        world = World(clock, {"a": FakeLauncher(slow())})
        world.runtime._params = RuntimeParams(in_flight_max=2)
        first = asyncio.create_task(world.ask("1"))
        await asyncio.sleep(0)
        with pytest.raises(RequestError, match="'1'"):
            await world.ask("1")
        second = asyncio.create_task(world.ask("2"))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await world.ask("3")
        await asyncio.gather(first, second)
        await world.runtime.close()

    run_virtual(main)


def test_the_journal_of_a_live_run_replays_to_the_same_actions(tmp_path: Path) -> None:
    def journal(scheduler: Scheduler) -> JournalWriter:
        return JournalWriter(JournalParams(tmp_path), header_for(scheduler))

    async def main(clock: VirtualClock) -> None:
        launchers = {n: FakeLauncher(slow(), load=FakeLoad(duration_ns=SECOND)) for n in "abc"}
        world = World(clock, launchers, journal=journal)
        tasks = []
        for number in range(30):
            tasks.append(asyncio.create_task(world.ask(str(number), "abc"[number % 3])))
            await asyncio.sleep(0.3)
        tasks[-1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await world.runtime.close()
        (file,) = journal_files(tmp_path)
        header, entries = read_file(file)
        assert replay(header.scheduler(), entries) is None
        assert count(world, LoadReplica) > 3
        told = [event for entry in world.entries for event in entry.events]
        assert any(isinstance(event, FirstToken) for event in told)
        assert any(isinstance(event, RequestCancelled) for event in told)

    run_virtual(main)
