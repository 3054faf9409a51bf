"""One child process that runs an engine, with everything it started.

Owns starting it in a process group of its own, the bounded memory of what it printed, measuring
its resident memory and ending the whole group. Does not know HTTP or models. Called by the
launchers of llama.cpp and of commands.
"""

import asyncio
import contextlib
import os
import re
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import psutil

from slalom.engines.memory_use import MemoryUse, memory_use
from slalom.models.gpu_memory import gpu_bytes_of

#: What is kept of a process's output: lines, characters of a line, bytes of an unended line.
TAIL_LINES = 40
LINE_CHARACTERS_MAX = 240
LINE_BYTES_MAX = 64 * 1024

#: Lines worth showing to people. The rest may be a request log with prompts in it.
_TELLING = re.compile(
    r"error|fail|fatal|exception|abort|terminat|kill|signal|memory|alloc|cannot|couldn't|unable"
    r"|invalid|unknown|unrecogni|not found|no such|denied|refused|in use|what\(\)",
    re.IGNORECASE,
)


class EngineProcess:
    """A running child process; make it with `EngineProcess.start`."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        input_fd: int,
        outputs: "list[tuple[_Output, Callable[[str], None] | None]]",
    ) -> None:
        self._process = process
        self._input_fd = input_fd
        self._outputs = [output for output, _ in outputs]
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._reading = [
            asyncio.ensure_future(self._keep(output.reader, call_back))
            for output, call_back in outputs
        ]
        self._ended = asyncio.ensure_future(self._wait_ended())
        self._stopping: asyncio.Future[None] | None = None
        #: Index of the NVIDIA GPU whose memory `device_bytes` is; None for main memory.
        self.gpu: int | None = None
        #: True once `stop` was called: its end is then no surprise.
        self.stop_requested = False

    def __repr__(self) -> str:
        return f"<EngineProcess pid={self.pid} returncode={self.returncode}>"

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        on_line: Callable[[str], None] | None = None,
        gpu: int | None = None,
    ) -> "EngineProcess":
        """Start a program, never through a shell, with a pipe as its standard input.

        The pipe stays open while this process lives, so a child can notice our death as the
        end of its input. A session of its own keeps a terminal's Ctrl-C away from the engine:
        whether it ends is our decision.

        Args:
            argv: Program and arguments.
            env: Variables on top of ours.
            cwd: Working directory; ours where not given.
            on_line: Given each line of standard output instead of keeping it.
            gpu: Index of the NVIDIA GPU it runs on; None for main memory.

        Raises:
            OSError: The program cannot be started.
        """
        # Pipes of our own: with asyncio's, waiting for a process may wait for every
        # descendant that inherited them (until Python 3.13).
        input_read, input_write = os.pipe()
        out, err = await _Output.open(), await _Output.open()
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=input_read,
                stdout=out.write_fd,
                stderr=err.write_fd,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )
        except BaseException:
            os.close(input_write)
            out.close()
            err.close()
            raise
        finally:
            os.close(input_read)
            os.close(out.write_fd)
            os.close(err.write_fd)
        made = cls(process, input_write, [(out, on_line), (err, None)])
        made.gpu = gpu
        return made

    @property
    def pid(self) -> int:
        """Process id, also that of its group."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, negative signal number, or None while it runs."""
        return self._process.returncode

    def tail(self) -> list[str]:
        """The last telling lines it printed, each cut to a bounded length."""
        return list(self._tail)

    async def wait(self) -> int:
        """Return its exit status once it has ended and its output is read to the end."""
        return await asyncio.shield(self._ended)

    async def memory_bytes(self) -> int:
        """Resident memory of it and its descendants; 0 once it has ended."""
        if self.returncode is not None:
            return 0
        return await asyncio.to_thread(_tree_rss_bytes, self.pid)

    async def device_bytes(self) -> int:
        """What it and its descendants hold on their device; 0 where nothing tells."""
        gpu = self.gpu
        if gpu is None or self.returncode is not None:
            return await self.memory_bytes()
        return await asyncio.to_thread(lambda: gpu_bytes_of(gpu, set(_pids(self.pid))) or 0)

    async def memory_use(self) -> MemoryUse | None:
        """What that memory is made of; None where the kernel does not tell, or it has ended."""
        if self.returncode is not None:
            return None
        return await asyncio.to_thread(lambda: memory_use(_pids(self.pid)))

    async def stop(self, grace_s: float) -> None:
        """End the whole group: SIGTERM, after `grace_s` SIGKILL. Idempotent, never raises."""
        self.stop_requested = True
        if self._stopping is None:
            self._stopping = asyncio.ensure_future(self._stop(grace_s))
        # Shielded: a caller that is cancelled must not leave a half-ended process behind.
        await asyncio.shield(self._stopping)

    async def _stop(self, grace_s: float) -> None:
        family = await asyncio.to_thread(_descendants, self.pid)
        if self.returncode is None and grace_s > 0:
            self._signal_group(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self.wait()
        self._signal_group(signal.SIGKILL)
        await self.wait()
        if family:
            await asyncio.to_thread(_reap, family)

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def _wait_ended(self) -> int:
        status = await self._process.wait()
        # A descendant may hold the pipes open for ever: do not wait for it.
        done, pending = await asyncio.wait(self._reading, timeout=1.0)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        for task in done:
            task.exception()
        os.close(self._input_fd)
        for output in self._outputs:
            output.close()
        return status

    async def _keep(
        self, stream: asyncio.StreamReader, call_back: Callable[[str], None] | None
    ) -> None:
        while True:
            try:
                raw = await stream.readline()
            except ValueError:  # longer than LINE_BYTES_MAX: asyncio has dropped it
                continue
            if not raw:
                return
            line = raw.decode("utf-8", "replace").rstrip()
            if call_back is not None:
                call_back(line)
            elif _TELLING.search(line):
                self._tail.append(line[:LINE_CHARACTERS_MAX])


@dataclass(frozen=True, slots=True)
class _Output:
    """A pipe from the child, read line by line here."""

    reader: asyncio.StreamReader
    transport: asyncio.ReadTransport
    write_fd: int

    @classmethod
    async def open(cls) -> "_Output":
        read_fd, write_fd = os.pipe()
        reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_fd, "rb", 0)
        )
        return cls(reader, transport, write_fd)

    def close(self) -> None:
        self.transport.close()


def describe_end(process: EngineProcess, *, lines: int = 3) -> str:
    """How a process ended and the last it said, in one line for people."""
    status = process.returncode
    if status is None:
        how = "is running"
    elif status < 0:
        how = f"was ended by signal {_signal_name(-status)}"
    else:
        how = f"exited with status {status}"
    said = "; ".join(process.tail()[-lines:])
    return f"process {process.pid} {how}" + (f", saying: {said}" if said else "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def _pids(pid: int) -> list[int]:
    return [pid, *(one.pid for one in _descendants(pid))]


def _tree_rss_bytes(pid: int) -> int:
    total = 0
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0
    for process in family:
        with contextlib.suppress(psutil.Error):
            total += int(process.memory_info().rss)
    return total


def _reap(family: list[psutil.Process]) -> None:
    """End descendants that left the group, and wait until their memory is free."""
    for process in family:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(family, timeout=2.0)
