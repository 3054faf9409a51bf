"""Child processes of engines: their output, their families and their ends."""

import asyncio
import sys

import psutil
import pytest

from slalom.engines.process import (
    LINE_CHARACTERS_MAX,
    TAIL_LINES,
    EngineProcess,
    describe_end,
)
from slalom.testing.engine_talk import until

#: Prints a word when a signal could be handled, then waits for ever.
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('ready', flush=True); time.sleep(600)"
)
#: Starts a grandchild that keeps the pipes open, prints its id, then does what it is told.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', {grandchild!r}]{how})
print(child.pid, flush=True)
{then}
"""


class Lines:
    """Standard output of a process, line by line."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[str] = asyncio.Queue()

    async def next(self) -> str:
        return await asyncio.wait_for(self.queue.get(), 30.0)


async def python(code: str) -> tuple[EngineProcess, Lines]:
    lines = Lines()
    process = await EngineProcess.start(
        [sys.executable, "-c", code], on_line=lines.queue.put_nowait
    )
    return process, lines


async def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_only_telling_lines_are_kept_and_only_so_many() -> None:
    code = (
        "import sys\n"
        "sys.stderr.write('prompt: my secret code\\n' * 5)\n"
        "for n in range(500): sys.stderr.write(f'error {n} ' + 'x' * 999 + '\\n')\n"
        "sys.stderr.write('y' * 300000 + '\\n')\n"
        "sys.stderr.write('fatal: the end\\n'); sys.exit(3)\n"
    )
    process, _ = await python(code)
    assert await asyncio.wait_for(process.wait(), 30.0) == 3
    tail = process.tail()
    assert len(tail) == TAIL_LINES
    assert tail[-1] == "fatal: the end"
    assert all(len(line) <= LINE_CHARACTERS_MAX for line in tail)
    assert not any("secret" in line for line in tail)
    assert "exited with status 3" in describe_end(process)
    assert "fatal: the end" in describe_end(process)
    await process.stop(1.0)
    assert await process.memory_bytes() == 0


async def test_stop_asks_first_then_forces() -> None:
    process, lines = await python(STUBBORN)
    assert await lines.next() == "ready"
    assert await process.memory_bytes() > 0
    await asyncio.gather(process.stop(0.1), process.stop(0.1))
    assert process.returncode == -9
    assert "SIGKILL" in describe_end(process)


async def test_polite_program_gets_its_time() -> None:
    code = (
        "import signal,sys,time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "print('ready', flush=True); time.sleep(600)\n"
    )
    process, lines = await python(code)
    await lines.next()
    await process.stop(30.0)
    assert process.returncode == 7


@pytest.mark.parametrize("how", ["", ", start_new_session=True"])
async def test_stop_ends_the_whole_family(how: str) -> None:
    process, lines = await python(
        PARENT.format(grandchild=STUBBORN, how=how, then="time.sleep(600)")
    )
    grandchild = int(await lines.next())
    await lines.next()
    memory = await process.memory_bytes()
    assert memory > psutil.Process(process.pid).memory_info().rss
    await process.stop(0.1)
    await until(lambda: is_gone(grandchild), "the grandchild has ended")


async def test_a_grandchild_that_holds_the_pipes_does_not_hold_us() -> None:
    process, lines = await python(PARENT.format(grandchild=STUBBORN, how="", then="sys.exit(5)"))
    grandchild = int(await lines.next())
    assert await asyncio.wait_for(process.wait(), 30.0) == 5
    await process.stop(0.1)
    await until(lambda: is_gone(grandchild), "the grandchild has ended")


async def test_a_cancelled_stop_still_ends_the_process() -> None:
    process, lines = await python(STUBBORN)
    await lines.next()
    stopping = asyncio.ensure_future(process.stop(0.2))
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
    assert await asyncio.wait_for(process.wait(), 30.0) == -9


async def test_program_that_is_not_there() -> None:
    before = psutil.Process().num_fds()
    with pytest.raises(FileNotFoundError):
        await EngineProcess.start(["/nowhere/engine"])

    async def is_back() -> bool:
        return psutil.Process().num_fds() <= before

    await until(is_back, "the pipes are closed")


async def test_no_descriptor_is_leaked() -> None:
    process, _ = await python("pass")
    await process.wait()
    await process.stop(1.0)
    before = psutil.Process().num_fds()
    for _ in range(3):
        process, _ = await python("pass")
        await process.wait()

    async def is_back() -> bool:
        return psutil.Process().num_fds() <= before

    await until(is_back, "descriptors are closed")
