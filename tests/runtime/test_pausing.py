"""Answers that give way and go on: every token once, in one stream, for a client that sees nothing.

Also what gives way for good: the older of two requests that replace each other.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from slalom.core.actions import Dispatch, Outcome
from slalom.core.planning import Plan, PlanView, Start
from slalom.core.request import Sla
from slalom.testing import FakeEngine, FakeLauncher, FakeScript, FakeTimings, VirtualClock
from slalom.testing.fake_wire import token_text
from slalom.testing.scripted_planner import Scripted, start_all
from slalom.testing.virtual_loop import run_virtual
from slalom.units import MS, SECOND
from tests.runtime.world import RecordingSink, World

LOOSE: dict[str, Any] = {"sla": Sla(e2e_ns=60 * SECOND), "resumable": True}


def urgent_first(view: PlanView, _now_ns: int) -> Plan:
    """Who has a TTFT objective runs before the others, in their place if need be."""
    waiting = view.waiting(9)
    urgent = [w for w in waiting if w.request.sla.ttft_ns is not None]
    if not urgent:
        return Plan(starts=start_all(view))
    (replica,) = view.ready()
    free = replica.free_places
    starts = [Start(w.request.id, replica.id) for w in urgent[:free]]
    loose = [a.request.id for a in replica.active() if a.request.resumable and not a.leaving]
    return Plan(starts=starts, pauses=loose[: len(urgent) - free])


def clamping(view: PlanView, _now_ns: int) -> Plan:
    return Plan(starts=[Start(s.request_id, s.replica_id, 5, 3) for s in start_all(view)])


def world(clock: VirtualClock, script: FakeScript | None = None, **more: Any) -> World:
    """One model with one place, of 10 ms a token."""
    fake = script or FakeScript(timings=FakeTimings(token_ns=10 * MS, prefill_ns_per_token=MS))
    options: dict[str, Any] = {"places": 1, "admission": Scripted(urgent_first), **more}
    return World(clock, {"a": FakeLauncher(fake)}, **options)


def engine(built: World) -> FakeEngine:
    return built.launchers["a"].engines[0]


def events(data: bytes) -> list[dict[str, Any]]:
    """The documents of a stream, which must end with the one end mark."""
    parts = data.split(b"\n\n")
    assert parts[-2:] == [b"data: [DONE]", b""]
    assert data.count(b"[DONE]") == 1
    return [json.loads(part.removeprefix(b"data: ")) for part in parts[:-2]]


def text(documents: Sequence[dict[str, Any]]) -> str:
    return "".join(choice["text"] for event in documents for choice in event["choices"])


def whole(tokens: int) -> str:
    return "".join(map(token_text, range(tokens)))


@pytest.mark.parametrize("after_ms", [0, 1, 9, 13, 14, 55, 200, 392, 402, 404])
def test_a_paused_answer_is_the_answer_that_was_not_paused(after_ms: int) -> None:
    async def main(clock: VirtualClock) -> None:
        built, sink = world(clock), RecordingSink()
        loose = asyncio.create_task(
            built.ask("loose", tokens=40, sink=sink, strip_usage=False, **LOOSE)
        )
        await asyncio.sleep(after_ms / 1000)
        await built.ask("urgent", tokens=3)
        served = await loose
        assert (served.failure, served.end) == (None, None)
        found = events(sink.data)
        assert text(found) == whole(40)
        assert len({event["id"] for event in found}) == 1
        assert [e["usage"] for e in found if "usage" in e] == [
            {"prompt_tokens": 3, "completion_tokens": 40, "total_tokens": 43}
        ]
        finishes = [c["finish_reason"] for e in found for c in e["choices"] if c["finish_reason"]]
        assert finishes == ["length"]
        await asyncio.sleep(1)
        end = built.ended["loose"]
        assert (end.outcome, end.output_tokens) == (Outcome.DONE, 40)
        assert end.pauses == (0 < after_ms <= 403), "paused once it runs, until it ends"
        assert built.ended["urgent"].ended_ns < end.ended_ns or not end.pauses
        assert not built.scheduler.state.attempts
        assert built.scheduler.state.counters["stale_events"] == 0
        await built.runtime.close()

    run_virtual(main)


def test_twice_paused_and_still_every_token_once() -> None:
    async def main(clock: VirtualClock) -> None:
        built, sink = world(clock), RecordingSink()
        loose = asyncio.create_task(built.ask("loose", tokens=40, sink=sink, **LOOSE))
        for number, pause_s in enumerate((0.1, 0.15)):
            await asyncio.sleep(pause_s)
            await built.ask(f"urgent {number}", tokens=3)
        await loose
        assert text(events(sink.data)) == whole(40)
        assert built.ended["loose"].pauses == 2
        bodies = [json.loads(call.body) for call in engine(built).calls]
        assert [body["max_tokens"] for body in bodies if body["max_tokens"] != 3] == [40, 31, 18]
        await built.runtime.close()

    run_virtual(main)


def test_an_answer_that_would_have_ended_by_itself_ends_there() -> None:
    async def main(clock: VirtualClock) -> None:
        timings = FakeTimings(token_ns=10 * MS)
        script = FakeScript(timings=timings, output_tokens=lambda asked: min(25, asked.behind + 99))
        built, sink = world(clock, script), RecordingSink()
        loose = asyncio.create_task(built.ask("loose", tokens=40, sink=sink, **LOOSE))
        await asyncio.sleep(0.1)
        await built.ask("urgent", tokens=3)
        await loose
        found = events(sink.data)
        assert text(found) == whole(25)
        assert found[-1]["choices"][0]["finish_reason"] == "stop"
        await built.runtime.close()

    run_virtual(main)


def test_a_slow_client_gets_all_of_it_and_holds_no_place_meanwhile() -> None:
    async def main(clock: VirtualClock) -> None:
        built, gate = world(clock), asyncio.Event()

        class Slow(RecordingSink):
            async def body(self, data: bytes) -> None:
                if self.data.count(b"data:") == 4:
                    await gate.wait()
                await super().body(data)

        sink = Slow()
        loose = asyncio.create_task(built.ask("loose", tokens=40, sink=sink, **LOOSE))
        await asyncio.sleep(0.2)
        assert sink.data.count(b"data:") == 4, "the fifth write hangs"
        await built.ask("urgent", tokens=3)
        assert engine(built).aborted == 1
        gate.set()
        await loose
        assert text(events(sink.data)) == whole(40)
        await asyncio.sleep(1)
        assert built.scheduler.state.counters["stale_events"] == 0
        await built.runtime.close()

    run_virtual(main)


def test_what_cannot_go_on_runs_to_its_end() -> None:
    async def main(clock: VirtualClock) -> None:
        built, sink = world(clock), RecordingSink()
        asked = asyncio.create_task(built.ask("loose", tokens=40, sink=sink, stream=False, **LOOSE))
        await asyncio.sleep(0.1)
        urgent = asyncio.create_task(built.ask("urgent", tokens=3))
        await asked
        assert json.loads(sink.data)["choices"][0]["text"] == whole(40)
        assert (await urgent).end is None
        assert (built.ended["loose"].pauses, built.ended["loose"].attempts) == (0, 1)
        await built.runtime.close()

    run_virtual(main)


def test_a_client_that_leaves_while_its_request_is_paused_has_left() -> None:
    async def main(clock: VirtualClock) -> None:
        built = world(clock)
        loose = asyncio.create_task(built.ask("loose", tokens=40, **LOOSE))
        await asyncio.sleep(0.1)
        urgent = asyncio.create_task(built.ask("urgent", tokens=30))
        await asyncio.sleep(0.1)
        assert built.scheduler.state.requests["loose"].in_queue
        loose.cancel()
        await urgent
        await asyncio.sleep(1)
        assert built.ended["loose"].outcome is Outcome.CANCELLED
        assert not built.scheduler.state.attempts
        await built.runtime.close()

    run_virtual(main)


def test_an_engine_that_dies_under_a_paused_request_costs_nothing_of_its_answer() -> None:
    async def main(clock: VirtualClock) -> None:
        built, sink = world(clock), RecordingSink()
        loose = asyncio.create_task(built.ask("loose", tokens=40, sink=sink, **LOOSE))
        await asyncio.sleep(0.1)
        urgent = asyncio.create_task(built.ask("urgent", tokens=30))
        await asyncio.sleep(0.1)
        engine(built).crash()
        await asyncio.gather(urgent, loose)
        assert text(events(sink.data)) == whole(40)
        await built.runtime.close()

    run_virtual(main)


def test_a_clamp_and_a_priority_reach_the_call() -> None:
    async def main(clock: VirtualClock) -> None:
        built, sink = world(clock, admission=Scripted(clamping)), RecordingSink()
        await built.ask("r", tokens=9, sink=sink)
        assert text(events(sink.data)) == whole(3)
        (given,) = sink.assignments[:1]
        assert (given.max_tokens, given.priority) == (3, 5)
        await asyncio.sleep(1)
        assert built.ended["r"].clamped_tokens == 3
        await built.runtime.close()

    run_virtual(main)


@pytest.mark.parametrize("wait_s", [0.0, 0.005, 0.1])
def test_the_newer_request_replaces_the_older_one_that_runs(wait_s: float) -> None:
    async def main(clock: VirtualClock) -> None:
        built, sink = world(clock), RecordingSink()
        older = asyncio.create_task(built.ask("1", tokens=40, sink=sink, supersedes="doc"))
        await asyncio.sleep(wait_s)
        newer = asyncio.create_task(built.ask("2", tokens=4, supersedes="doc"))
        served = await older
        assert served.failure is None
        assert served.end is not None
        assert served.end.outcome is Outcome.SUPERSEDED
        assert (await newer).end is None
        assert clock.now_ns() < 400 * MS, "the newer one waited for nothing"
        await asyncio.sleep(1)
        assert not built.scheduler.state.attempts
        await built.runtime.close()

    run_virtual(main)


def test_a_request_replaced_between_its_dispatch_and_its_call_frees_its_place() -> None:
    async def main(clock: VirtualClock) -> None:
        built = world(clock)
        await built.ask("warm", tokens=1)
        first = asyncio.create_task(built.ask("blocks", tokens=4))
        await asyncio.sleep(0.001)
        older = asyncio.create_task(built.ask("1", tokens=40, supersedes="doc"))
        await asyncio.sleep(0.001)

        def replace(entry: Any) -> None:
            """As soon as `1` is dispatched, and before its task has run."""
            if any(isinstance(a, Dispatch) and a.request_id == "1" for a in entry.actions):
                tasks.append(asyncio.create_task(built.ask("2", tokens=4, supersedes="doc")))
                built.runtime.post()

        tasks: list[asyncio.Task[Any]] = []
        built.runtime.on_step.append(replace)
        await asyncio.gather(first, older)
        assert older.result().end is not None
        assert (await tasks[0]).end is None
        await asyncio.sleep(1)
        assert not built.scheduler.state.attempts
        await built.runtime.close()

    run_virtual(main)
