"""The conformance kit catches engines that break a promise: one broken engine per check."""

import dataclasses
import sys
from collections.abc import Callable

import pytest

from slalom.core.events import FailureKind
from slalom.engines.process import EngineProcess
from slalom.engines.protocol import Call, EngineMetrics
from slalom.engines.upstream_connection import UpstreamReply
from slalom.errors import EngineError
from slalom.testing import (
    CHECKS,
    BrokenLoad,
    FakeEngine,
    FakeLauncher,
    FakeLoad,
    FakeScript,
    Fault,
    FaultKind,
    Outcome,
    Subject,
    check_engine,
    engine_life_checks,
    engine_talk,
    fake_engine,
    fake_wire,
    run_check,
)


class Spoiled(FakeLauncher):
    """Launches engines of a class that breaks a promise."""

    made: type[FakeEngine] = FakeEngine

    async def launch(self, replica_id: str, on_progress: Callable[[float], None]) -> FakeEngine:
        on_progress(0.0)
        on_progress(1.0)
        script = FakeScript() if callable(self.script) else self.script
        return self.made(script)


class GoesBack(Spoiled):
    async def launch(self, replica_id: str, on_progress: Callable[[float], None]) -> FakeEngine:
        on_progress(0.9)
        return await super().launch(replica_id, on_progress)


class OneForAll(Spoiled):
    async def launch(self, replica_id: str, on_progress: Callable[[float], None]) -> FakeEngine:
        if not self.engines:
            self.engines.append(await super().launch(replica_id, on_progress))
        return self.engines[0]


class NeverFrees(FakeEngine):
    async def metrics(self) -> EngineMetrics | None:
        return EngineMetrics(running=1, waiting=9, generated_tokens=5)


class ForgetsTheQueue(FakeEngine):
    async def metrics(self) -> EngineMetrics | None:
        metrics = await super().metrics()
        return metrics and dataclasses.replace(metrics, waiting=0)


class OneAtATime(FakeEngine):
    async def metrics(self) -> EngineMetrics | None:
        return EngineMetrics(running=1, waiting=0)


class AlwaysWell(FakeEngine):
    async def health(self) -> bool:
        return True


class LooksAwayWhenHung(FakeEngine):
    async def generate(self, call: Call) -> UpstreamReply:
        return await super().generate(dataclasses.replace(call, stall_timeout_s=3600.0))


class KeepsItsMemory(FakeEngine):
    async def memory_bytes(self) -> int:
        return 1


class SleepsAtAnyLevel(FakeEngine):
    async def sleep(self, level: int) -> None:
        await super().sleep(min(level, 2))


class Rewrites(FakeEngine):
    """Answers another question than it was asked."""

    changes: tuple[bytes, bytes] = (b"", b"")

    async def generate(self, call: Call) -> UpstreamReply:
        return await super().generate(
            dataclasses.replace(call, body=call.body.replace(*self.changes))
        )


class IgnoresStop(Rewrites):
    changes = (b'"stop"', b'"ignored"')


class OneTooMany(Rewrites):
    changes = (b'"max_tokens": 7', b'"max_tokens": 8')


class NoUsage(Rewrites):
    changes = (b'"include_usage"', b'"none"')


class NeverStreams(Rewrites):
    changes = (b'"stream": true', b'"stream": false')


class AlwaysStreams(Rewrites):
    changes = (b'"max_tokens": 8', b'"stream": true, "max_tokens": 8')


class OneVector(Rewrites):
    changes = (b', "two words"', b"")


class FaultsAlways(FakeEngine):
    def __init__(self, script: FakeScript | None = None, *, model_name: str = "fake") -> None:
        fault = Fault(FaultKind.STATUS, status=500)
        script = dataclasses.replace(
            script or FakeScript(),
            fault=lambda _, asked: fault if "<PRE>" in asked.prompt_text else None,
        )
        super().__init__(script, model_name=model_name)


class DiesOfABadBody(FakeEngine):
    async def generate(self, call: Call) -> UpstreamReply:
        if b'"many"' in call.body:
            self.crash()
        return await super().generate(call)


class LosesItsEnd(Rewrites):
    changes = (b'"max_tokens": 600', b'"max_tokens": 2')


def spoiled(made: type[FakeEngine]) -> Subject:
    launcher = type("SpoiledLauncher", (Spoiled,), {"made": made})
    return subject(launcher)


def subject(launcher: Callable[[], FakeLauncher], **more: object) -> Subject:
    return Subject(
        name="spoiled",
        launcher=launcher,
        places=4,
        kill=lambda engine: engine.crash(),  # type: ignore[attr-defined]
        freeze=lambda engine: engine.freeze(),  # type: ignore[attr-defined]
        thaw=lambda engine: engine.thaw(),  # type: ignore[attr-defined]
        over_http=False,
        **more,  # type: ignore[arg-type]
    )


def wrong_kind() -> Subject:
    load = FakeLoad(failure=FailureKind.LOAD_TIMEOUT)
    broken = BrokenLoad(lambda: FakeLauncher(load=load), FailureKind.MODEL_UNUSABLE)
    return subject(FakeLauncher, broken={"missing file": broken})


def loads_anyway() -> Subject:
    broken = BrokenLoad(FakeLauncher, FailureKind.MODEL_UNUSABLE)
    return subject(FakeLauncher, broken={"missing file": broken})


CASES: list[tuple[str, Subject]] = [
    ("ready", subject(GoesBack)),
    ("stream", spoiled(NeverStreams)),
    ("whole", spoiled(AlwaysStreams)),
    ("max_tokens", spoiled(OneTooMany)),
    ("usage", spoiled(NoUsage)),
    ("stop_words", spoiled(IgnoresStop)),
    ("all_places", spoiled(OneAtATime)),
    ("cancel", spoiled(NeverFrees)),
    ("cancel_before_head", spoiled(ForgetsTheQueue)),
    ("crash", spoiled(AlwaysWell)),
    ("load_twice", subject(OneForAll)),
    ("load_failures", wrong_kind()),
    ("load_failures", loads_anyway()),
    ("slow_reader", spoiled(LosesItsEnd)),
    ("hang", spoiled(AlwaysWell)),
    ("hang", spoiled(LooksAwayWhenHung)),
    ("sleep", spoiled(SleepsAtAnyLevel)),
    ("embeddings", spoiled(OneVector)),
    ("fill_in_the_middle", spoiled(FaultsAlways)),
    ("bad_body", spoiled(DiesOfABadBody)),
    ("stop", spoiled(KeepsItsMemory)),
]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_talk, "PATIENCE_S", 1.0)
    monkeypatch.setattr(engine_life_checks, "PATIENCE_S", 1.5)
    monkeypatch.setattr(engine_life_checks, "_STALL_S", 0.1)
    monkeypatch.setattr(fake_engine, "PROBE_TIMEOUT_S", 0.1)


@pytest.mark.parametrize(("check", "bad"), CASES)
async def test_a_broken_promise_is_found(check: str, bad: Subject) -> None:
    result = await run_check(check, bad)
    assert result.outcome is Outcome.FAILED, result


def test_every_check_has_a_broken_engine() -> None:
    assert {check for check, _ in CASES} | {"cancel_load"} == set(CHECKS)


async def test_a_load_that_leaves_its_process_behind_is_found() -> None:
    left: list[EngineProcess] = []

    class LeavesIt(FakeLauncher):
        async def launch(self, replica_id: str, on_progress: Callable[[float], None]) -> FakeEngine:
            code = "import sys; sys.stdin.read()"
            left.append(await EngineProcess.start([sys.executable, "-c", code]))
            on_progress(0.1)
            await left[0].wait()
            return await super().launch(replica_id, on_progress)

    result = await run_check("cancel_load", subject(LeavesIt))
    await left[0].stop(0.0)
    assert result.outcome is Outcome.FAILED, result
    assert "left behind" in result.detail


async def test_a_report_reads_like_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    report = await check_engine(
        Subject("half", lambda: FakeLauncher(load=FakeLoad(failure=FailureKind.OUT_OF_MEMORY)), 4)
    )
    assert not report.passed
    lines = str(report).splitlines()
    assert lines[0] == "engine half:"
    assert len(lines) == len(CHECKS) + 1
    ready = next(line for line in lines if "ready" in line)
    assert "FAILED" in ready
    assert "told to fail" in ready
    assert any("skipped" in line for line in lines if "hang" in line)


async def test_a_launch_that_breaks_the_contract_is_reported_not_raised() -> None:
    class Throws(Spoiled):
        async def launch(self, replica_id: str, on_progress: Callable[[float], None]) -> FakeEngine:
            raise ZeroDivisionError

    result = await run_check("ready", subject(Throws))
    assert result.outcome is Outcome.FAILED
    assert "ZeroDivisionError" in result.detail


async def test_errors_of_the_fake_are_engine_errors() -> None:
    engine = FakeEngine()
    engine.crash()
    with pytest.raises(EngineError):
        await engine.generate(Call(fake_wire.COMPLETIONS, b"{}"))
