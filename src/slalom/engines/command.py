"""Launches any command line that serves the OpenAI API on a given port.

Owns macros, the free port, readiness by polling and the one retry where the port was taken. The
command is never given to a shell. Called by the runtime through the `Launcher` protocol.
"""

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from slalom.core.events import FailureKind
from slalom.engines.diagnosis import Explain, diagnose, is_port_taken
from slalom.engines.http_engine import HttpEngine, SleepPaths
from slalom.engines.listening import wrong_address
from slalom.engines.load_progress import tell_progress
from slalom.engines.process import EngineProcess, describe_end
from slalom.engines.protocol import Call, Capabilities, OnProgress
from slalom.engines.turns import turn
from slalom.engines.upstream import Upstream
from slalom.errors import ConfigError, EngineError

_LOOPBACK = "127.0.0.1"
#: How often a starting program is asked whether it is ready, and how long it may take to say.
_POLL_PERIOD_S = 0.1
_POLL_TIMEOUT_S = 2.0
_MACRO = re.compile(r"\$\{(\w+)\}")
_MACROS = ("PORT", "HOST", "MODEL", "PID")


@dataclass(frozen=True, slots=True)
class CommandOptions:
    """A command line and how to deal with what it starts.

    ``${PORT}``, ``${HOST}`` and ``${MODEL}`` are replaced in `cmd` and in the values of `env`;
    ``${PORT}``, ``${HOST}`` and ``${PID}`` in `stop_cmd`.
    """

    #: The command, as one line (split as a POSIX shell would, without a shell) or in parts.
    cmd: str | Sequence[str]
    #: What ``${MODEL}`` stands for: a path or a name.
    model: str = ""
    #: Name of the model in request bodies, where the program wants another than the public one.
    model_name: str | None = None
    #: Variables on top of ours. May hold secrets: never shown.
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: Path | None = None
    #: What ``${HOST}`` stands for: the address to listen on, at which it is then called.
    host: str = _LOOPBACK
    #: Answers 200 once the model is loaded.
    health_path: str = "/health"
    #: Prometheus text with llama.cpp's or vLLM's names; None where there is none.
    metrics_path: str | None = "/metrics"
    ready_timeout_s: float = 600.0
    #: Run before any signal is sent, when the replica is to end.
    stop_cmd: str | Sequence[str] | None = None
    #: Memory it will hold when loaded, for the progress shown; 0 is not known.
    bytes_expected: int = 0
    #: Index of the NVIDIA GPU whose memory its replicas are measured in; None for main memory.
    gpu: int | None = None
    capabilities: Capabilities = field(default_factory=Capabilities)
    sleep_paths: SleepPaths = field(default_factory=SleepPaths)
    #: Sent once it is healthy and answered before it counts as ready: programs that compile what
    #: they compute with when it is first used make nobody wait for it.
    first_call: Call | None = None
    #: Of those that name the same, only one starts at a time (`turns`).
    turns: tuple[str, ...] = ()
    #: Says in words what the program's last lines mean, where somebody knows the program.
    explain: Explain | None = None

    def __post_init__(self) -> None:
        """Find the mistakes that can be found without running anything.

        Raises:
            ConfigError: The command is empty, does not take a port or names an unknown macro.
        """
        parts = _split(self.cmd, "cmd")
        if not any("${PORT}" in text for text in (*parts, *self.env.values())):
            raise ConfigError(
                "cmd does not say where ${PORT} goes: the program must listen on the port it is "
                "given, for example `--port ${PORT}`"
            )
        stop_parts = _split(self.stop_cmd, "stop_cmd") if self.stop_cmd is not None else []
        for text in (*parts, *self.env.values(), *stop_parts):
            for macro in _MACRO.findall(text):
                if macro not in _MACROS:
                    raise ConfigError(
                        f"unknown macro ${{{macro}}} in a command: known are ${{PORT}}, ${{HOST}}, "
                        "${MODEL} and, in stop_cmd, ${PID}"
                    )


class CommandLauncher:
    """A `Launcher` of processes started by a command line.

    Args:
        options: The command.
        model_name: Public name of the model, used unless the options name another.
    """

    def __init__(self, options: CommandOptions, *, model_name: str) -> None:
        self.options = options
        self.model_name = options.model_name or model_name

    def __repr__(self) -> str:
        return f"<CommandLauncher {self.model_name!r} {_split(self.options.cmd, 'cmd')[0]!r}>"

    @property
    def words(self) -> list[str]:
        """The command's words, ``${PORT}`` as it stands, which is chosen at each start."""
        macros = {"HOST": self.options.host, "MODEL": self.options.model}
        return [_expand(part, macros) for part in _split(self.options.cmd, "cmd")]

    async def launch(self, replica_id: str, on_progress: OnProgress) -> HttpEngine:
        """Start the command on a free port and return when it answers its health path.

        Raises:
            EngineError: As `Launcher.launch`.
        """
        async with turn(self.options.turns):
            return await self._launch_twice(replica_id, on_progress)

    async def _launch_twice(self, replica_id: str, on_progress: OnProgress) -> HttpEngine:
        try:
            return await self._launch(replica_id, on_progress)
        except _PortTakenError:
            # Somebody took the port between our choice and the program's start.
            pass
        try:
            return await self._launch(replica_id, on_progress)
        except _PortTakenError as problem:
            raise EngineError(
                f"{replica_id}: {problem}; does the command use ${{PORT}} and nothing fixed?",
                code=FailureKind.START_FAILED,
            ) from problem

    async def _launch(self, replica_id: str, on_progress: OnProgress) -> HttpEngine:
        host = self.options.host
        port = _free_port(host)
        process = await self._start(replica_id, port)
        upstream = Upstream(f"http://{host}:{port}")
        try:
            await self._ready(replica_id, process, upstream, port, on_progress)
        except BaseException:
            upstream.close()
            await process.stop(0.0)
            raise
        on_progress(1.0)
        return HttpEngine(
            upstream,
            model_name=self.model_name,
            capabilities=self.options.capabilities,
            process=process,
            health_path=self.options.health_path,
            metrics_path=self.options.metrics_path,
            sleep_paths=self.options.sleep_paths,
            before_stop=None if self.options.stop_cmd is None else self._stopper(process, port),
        )

    async def _start(self, replica_id: str, port: int) -> EngineProcess:
        macros = self._macros(port)
        argv = [_expand(part, macros) for part in _split(self.options.cmd, "cmd")]
        env = {name: _expand(value, macros) for name, value in self.options.env.items()}
        if shutil.which(argv[0], path=env.get("PATH")) is None:
            raise EngineError(
                f"{replica_id}: program {argv[0]!r} was not found; install it or give its "
                "full path in cmd",
                code=FailureKind.START_FAILED,
            )
        guard = [sys.executable, "-m", "slalom.engines.guarded_exec", str(os.getpid())]
        cwd = None if self.options.cwd is None else str(self.options.cwd)
        try:
            return await EngineProcess.start(
                [*guard, *argv], env=env, cwd=cwd, gpu=self.options.gpu
            )
        except OSError as problem:
            raise EngineError(
                f"{replica_id}: cannot start {argv[0]!r}: {problem.strerror}",
                code=FailureKind.START_FAILED,
            ) from problem

    async def _ready(
        self,
        replica_id: str,
        process: EngineProcess,
        upstream: Upstream,
        port: int,
        on_progress: OnProgress,
    ) -> None:
        """Poll the health path until it says yes, the process ends or time is up."""
        ended = asyncio.ensure_future(process.wait())
        healthy = asyncio.ensure_future(self._answers(replica_id, upstream))
        elsewhere = asyncio.ensure_future(wrong_address(process.pid, self.options.host, port))
        progress = asyncio.ensure_future(
            tell_progress(process, self.options.bytes_expected, on_progress)
        )
        try:
            await asyncio.wait(
                (healthy, ended, elsewhere),
                timeout=self.options.ready_timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if ended.done():
                self._raise_ended(replica_id, process)
            if not healthy.done() and elsewhere.done():
                raise _listens_elsewhere(replica_id, elsewhere.result(), self.options.host)
            if not healthy.done():
                raise EngineError(
                    f"{replica_id}: {upstream.where}{self.options.health_path} did not answer 200 "
                    f"within {self.options.ready_timeout_s:g} s; raise ready_timeout_s or correct "
                    "health_path",
                    code=FailureKind.LOAD_TIMEOUT,
                )
            healthy.result()
        finally:
            tasks = (ended, healthy, elsewhere, progress)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _answers(self, replica_id: str, upstream: Upstream) -> None:
        """Return once it is healthy and has answered its first call."""
        await _poll(upstream, self.options.health_path)
        first = self.options.first_call
        if first is None:
            return
        patience_s = self.options.ready_timeout_s
        status, _ = await upstream.fetch("POST", first.path, timeout_s=patience_s, body=first.body)
        if not 200 <= status < 300:
            raise EngineError(
                f"{replica_id}: it came up, but answered its first request with {status}",
                code=FailureKind.START_FAILED,
            )

    def _raise_ended(self, replica_id: str, process: EngineProcess) -> None:
        lines = process.tail()
        if is_port_taken(lines):
            raise _PortTakenError(describe_end(process))
        kind = diagnose(lines, process.returncode)
        told = self.options.explain(lines) if self.options.explain is not None else None
        advice = "the command ended before it was ready"
        if told is not None:
            kind, advice = told.kind, told.advice.removesuffix(".")
        raise EngineError(
            f"{replica_id}: {advice}: {describe_end(process)}",
            code=kind,
            retryable=kind != FailureKind.MODEL_UNUSABLE,
        )

    def _stopper(self, process: EngineProcess, port: int) -> "_StopCommand":
        macros = {**self._macros(port), "PID": str(process.pid)}
        parts = _split(self.options.stop_cmd or "", "stop_cmd")
        return _StopCommand([_expand(part, macros) for part in parts], process)

    def _macros(self, port: int) -> dict[str, str]:
        options = self.options
        return {"PORT": str(port), "HOST": options.host, "MODEL": options.model}


def _listens_elsewhere(replica_id: str, where: str, host: str) -> EngineError:
    return EngineError(
        f"{replica_id}: the command listens on {where}, but is called at {host}: write ${{HOST}} "
        "in cmd where the program takes its address, for example `--host ${HOST}`",
        code=FailureKind.MODEL_UNUSABLE,
        retryable=False,
    )


class _PortTakenError(Exception):
    """The program found its port in use."""


@dataclass(frozen=True, slots=True)
class _StopCommand:
    """Runs the stop command and gives the program time to follow it."""

    argv: list[str]
    process: EngineProcess

    async def __call__(self, grace_s: float) -> None:
        try:
            stopper = await EngineProcess.start(self.argv)
        except OSError:
            return  # signals follow anyway
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await stopper.wait()
                    await self.process.wait()
        finally:
            await stopper.stop(0.0)


async def _poll(upstream: Upstream, path: str) -> None:
    while True:
        with contextlib.suppress(EngineError):
            status, _ = await upstream.get(path, timeout_s=_POLL_TIMEOUT_S)
            if 200 <= status < 300:
                return
        await asyncio.sleep(_POLL_PERIOD_S)


def _split(command: str | Sequence[str], name: str) -> list[str]:
    try:
        parts = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError as problem:
        raise ConfigError(f"{name} cannot be split into words: {problem}") from problem
    if not parts:
        raise ConfigError(f"{name} is empty: write the program and its arguments")
    return parts


def _expand(text: str, macros: Mapping[str, str]) -> str:
    return _MACRO.sub(lambda match: macros.get(match[1], match[0]), text)


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
