"""The checks of the conformance kit that are about an engine's life: load, crash, hang, stop.

Owns what an engine must do when it is started, hurt and ended. Every check launches engines of its
own, stops them and returns what it measured. Called through `check_engine`.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import psutil

from slalom.core.events import FailureKind
from slalom.engines.protocol import Reply
from slalom.errors import EngineError
from slalom.testing.engine_subject import NotApplicableError, Subject
from slalom.testing.engine_talk import (
    PATIENCE_S,
    ask,
    begin_long,
    launch,
    running,
)

#: Silence after which a check takes a frozen engine for stalled, seconds.
_STALL_S = 1.0
#: Length of an answer that is not read for a while.
_UNREAD_TOKENS = 600


async def _ready(subject: Subject) -> str:
    """The launch tells rising progress up to 1 and returns an engine that is well."""
    told: list[float] = []
    engine = await subject.launcher().launch("checked", told.append)
    try:
        assert told, "no progress was told"
        assert told == sorted(told), f"progress went back: {told}"
        assert told[0] >= 0.0, f"progress starts below 0: {told[0]}"
        assert told[-1] == 1.0, f"progress ends at {told[-1]} instead of 1"
        assert await engine.health(), "a launched engine is not healthy"
        memory_bytes = await engine.memory_bytes()
        assert memory_bytes > 0 or not subject.owns_process, "no memory was measured"
    finally:
        await engine.stop(5.0)
    return f"{len(told)} reports of progress, {memory_bytes >> 20} MiB"


async def _crash(subject: Subject) -> str:
    """A program that dies breaks its streams with a typed error, and says that it ended."""
    if subject.kill is None:
        raise NotApplicableError("the program cannot be killed from here")
    async with running(subject) as engine:
        reply = await begin_long(engine)
        closed = asyncio.ensure_future(engine.wait_closed())
        subject.kill(engine)
        problem = await _error_of(_drain(reply))
        assert problem.code == FailureKind.CRASHED, f"code {problem.code}: {problem}"
        if subject.owns_process:
            said = await asyncio.wait_for(closed, PATIENCE_S)
            assert said, "wait_closed says nothing"
        closed.cancel()
        assert not await engine.health(), "a dead engine is healthy"
        problem = await _error_of(ask(engine, max_tokens=1))
        assert problem.code == FailureKind.CRASHED, f"code {problem.code}: {problem}"
    return str(problem.code)


async def _load_twice(subject: Subject) -> str:
    """Two engines of one launcher live side by side; ending one does not touch the other."""
    launcher = subject.launcher()
    first, second = await asyncio.gather(
        *(launcher.launch(f"checked-{n}", lambda _fraction: None) for n in (1, 2))
    )
    try:
        for engine in (first, second):
            assert (await ask(engine, max_tokens=4)).status == 200
        await first.stop(5.0)
        assert (await ask(second, max_tokens=4)).status == 200, "the other engine stopped too"
    finally:
        await first.stop(5.0)
        await second.stop(5.0)
    return ""


async def _load_failures(subject: Subject) -> str:
    """A load that cannot work fails with its kind, in words, and leaves nothing behind."""
    if not subject.broken:
        raise NotApplicableError("no way to break a load was given")
    before = _children()
    for name, broken in subject.broken.items():
        work = broken.launcher().launch("checked", lambda _fraction: None)
        problem = await _error_of(work)
        assert problem.code == broken.kind, f"{name}: {problem.code}: {problem}"
        assert len(str(problem)) > 20, f"{name}: says only {problem}"
        assert _children() <= before, f"{name}: a process was left behind"
    return ", ".join(subject.broken)


async def _cancel_load(subject: Subject) -> str:
    """Cancelling a launch ends what was started before it returns."""
    before = _children()
    begun = asyncio.Event()
    work = asyncio.ensure_future(
        subject.launcher().launch("checked", lambda _fraction: begun.set())
    )
    await asyncio.wait_for(begun.wait(), PATIENCE_S)
    if work.cancel():
        with contextlib.suppress(asyncio.CancelledError):
            engine = await work
            await engine.stop(5.0)
    assert _children() <= before, "a process was left behind"
    return ""


async def _hang(subject: Subject) -> str:
    """A frozen program is noticed: the stream stalls, health is False, stop still works."""
    if subject.freeze is None or subject.thaw is None:
        raise NotApplicableError("the program cannot be frozen from here")
    async with running(subject) as engine:
        reply = await begin_long(engine, stall_s=_STALL_S)
        subject.freeze(engine)
        try:
            problem = await _error_of(_drain(reply))
            assert problem.code == FailureKind.STALLED, f"code {problem.code}: {problem}"
            assert not await engine.health(), "a frozen engine is healthy"
            await engine.stop(0.2)
        finally:
            subject.thaw(engine)
        assert not await engine.health(), "the engine survived its stop"
    return str(problem.code)


async def _sleep(subject: Subject) -> str:
    """Where it can sleep it gives memory back and works after waking; else it says no."""
    async with running(subject) as engine:
        problem = await _error_of(engine.sleep(99))
        assert "99" in str(problem), f"does not name the level: {problem}"
        problem = await _error_of(engine.wake())
        if not engine.capabilities.sleep_levels:
            raise NotApplicableError("the engine has no sleep levels")
        for level in engine.capabilities.sleep_levels:
            await engine.sleep(level)
            assert await engine.health(), "a sleeping engine is not healthy"
            await engine.wake()
            assert (await ask(engine, max_tokens=4)).status == 200, "does not work after waking"
    return f"levels {', '.join(map(str, engine.capabilities.sleep_levels))}"


async def _stop(subject: Subject) -> str:
    """Stop breaks what runs, frees the memory, can be called again and by several at once."""
    before = _children()
    engine = await launch(subject)
    reply = await begin_long(engine)
    await asyncio.gather(engine.stop(5.0), engine.stop(5.0))
    await engine.stop(5.0)
    problem = await _error_of(_drain(reply))
    assert problem.code in (FailureKind.CRASHED, FailureKind.ABORTED), problem.code
    assert await engine.memory_bytes() == 0, "memory is still held"
    assert _children() <= before, "a process was left behind"
    assert not await engine.health(), "a stopped engine is healthy"
    await asyncio.wait_for(engine.wait_closed(), PATIENCE_S)
    return ""


#: The checks of its life by their names, in the order of a report.
LIFE_CHECKS: dict[str, Callable[[Subject], Awaitable[str]]] = {
    "ready": _ready,
    "crash": _crash,
    "load_twice": _load_twice,
    "load_failures": _load_failures,
    "cancel_load": _cancel_load,
    "hang": _hang,
    "sleep": _sleep,
    "stop": _stop,
}


async def _drain(reply: Reply) -> None:
    while await reply.read():
        pass


async def _error_of(work: Awaitable[object]) -> EngineError:
    try:
        result = await asyncio.wait_for(work, PATIENCE_S)
    except EngineError as problem:
        return problem
    except TimeoutError:
        raise AssertionError(f"neither an answer nor an error in {PATIENCE_S:g} s") from None
    stop = getattr(result, "stop", None)
    if stop is not None:  # a launch that was to fail
        await stop(0.0)
    raise AssertionError("no EngineError was raised")


def _children() -> set[int]:
    """Processes of ours that still run."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if child.status() != psutil.STATUS_ZOMBIE:
                found.add(child.pid)
    return found
