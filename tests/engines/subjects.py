"""The engines this repository brings, as subjects of the conformance kit."""

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import slalom.models
from slalom.core.events import FailureKind
from slalom.engines.command import CommandLauncher, CommandOptions
from slalom.engines.llama_cpp import LlamaCppLauncher, LlamaCppOptions
from slalom.engines.process import EngineProcess
from slalom.engines.protocol import Capabilities, Engine
from slalom.engines.remote import RemoteLauncher, RemoteOptions
from slalom.testing import BrokenLoad, FakeEngine, FakeLauncher, FakeLoad, FakeScript, Subject
from slalom.units import GIB, MIB, SECOND

MODEL = Path(slalom.models.__file__).parent / "data" / "slalom-small.gguf"
SERVER = (sys.executable, "-m", "slalom.testing.fake_server", "--port", "${PORT}")
LLAMA = (sys.executable, "-m", "slalom.engines.llama_cpp_process", "--port", "${PORT}")
PLACES = 3


def damaged(folder: Path) -> Path:
    """A model whose second half is missing."""
    path = folder / "damaged.gguf"
    whole = MODEL.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


class TakenPort:
    """A port that somebody else listens on, while a check runs."""

    number = 0

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.number = int(listener.getsockname()[1])
            yield


def fake(folder: Path) -> Subject:
    """The in-process fake."""
    kinds = (
        FailureKind.MODEL_UNUSABLE,
        FailureKind.OUT_OF_MEMORY,
        FailureKind.START_FAILED,
        FailureKind.LOAD_TIMEOUT,
    )
    return Subject(
        name="fake",
        launcher=lambda: FakeLauncher(FakeScript(places=PLACES), FakeLoad(SECOND // 20)),
        places=PLACES,
        kill=lambda engine: _fake(engine).crash(),
        freeze=lambda engine: _fake(engine).freeze(),
        thaw=lambda engine: _fake(engine).thaw(),
        broken={str(kind): BrokenLoad(partial(_failing_fake, kind), kind) for kind in kinds},
        owns_process=True,
        over_http=False,
    )


def _failing_fake(kind: FailureKind) -> FakeLauncher:
    return FakeLauncher(load=FakeLoad(failure=kind))


def llama_cpp(folder: Path) -> Subject:
    """The embedded llama.cpp on the larger bundled model."""

    def launcher(model: Path = MODEL, **more: object) -> LlamaCppLauncher:
        options = LlamaCppOptions(model, places=PLACES, embeddings=True, **more)  # type: ignore[arg-type]
        return LlamaCppLauncher(options, model_name="small")

    taken = TakenPort()
    subject = Subject(
        name="llama_cpp",
        launcher=launcher,
        places=PLACES,
        broken={
            "missing file": BrokenLoad(
                lambda: launcher(folder / "missing.gguf"), FailureKind.MODEL_UNUSABLE
            ),
            "damaged file": BrokenLoad(
                lambda: launcher(damaged(folder)), FailureKind.MODEL_UNUSABLE
            ),
            "port taken": BrokenLoad(
                lambda: launcher(extra={"port": taken.number}), FailureKind.START_FAILED
            ),
            "out of memory": BrokenLoad(
                # 2 million tokens of KV cache do not fit below the limit.
                lambda: launcher(kv_tokens=2_000_000, memory_limit_bytes=GIB),
                FailureKind.OUT_OF_MEMORY,
            ),
            "too slow": BrokenLoad(
                lambda: launcher(load_timeout_s=0.001), FailureKind.LOAD_TIMEOUT
            ),
        },
        surroundings=taken.held,
    )
    return _by_signals(subject, _own_pid)


def llama_command(folder: Path) -> Subject:
    """llama.cpp as somebody's own command line."""

    def launcher(model: Path = MODEL, options: str = "{}") -> CommandLauncher:
        command = (*LLAMA, "--model", "${MODEL}", "--options", options)
        return CommandLauncher(
            CommandOptions(command, model=str(model), bytes_expected=MIB), model_name="small"
        )

    subject = Subject(
        name="command_llama_cpp",
        launcher=lambda: launcher(options=f'{{"places": {PLACES}}}'),
        places=PLACES,
        broken={
            "missing file": BrokenLoad(
                lambda: launcher(folder / "missing.gguf"), FailureKind.MODEL_UNUSABLE
            ),
            "damaged file": BrokenLoad(
                lambda: launcher(damaged(folder)), FailureKind.MODEL_UNUSABLE
            ),
            "out of memory": BrokenLoad(
                lambda: launcher(options=f'{{"kv_tokens": 2000000, "memory_limit_bytes": {GIB}}}'),
                FailureKind.OUT_OF_MEMORY,
            ),
        },
    )
    return _by_signals(subject, _own_pid)


def fake_command(folder: Path) -> Subject:
    """The fake server as a command, with what llama.cpp cannot do: sleep."""

    def launcher(*more: str, command: tuple[str, ...] = SERVER) -> CommandLauncher:
        return CommandLauncher(
            CommandOptions(
                (*command, "--places", str(PLACES), *more),
                capabilities=Capabilities(embeddings=True, sleep_levels=(1, 2)),
                ready_timeout_s=0.8 if "60" in more else 60.0,
            ),
            model_name="fake",
        )

    taken = TakenPort()

    def fixed_port() -> CommandLauncher:
        return launcher(command=(*SERVER[:-1], str(taken.number), "--model", "${PORT}"))

    subject = Subject(
        name="command_fake",
        launcher=launcher,
        places=PLACES,
        broken={
            "port taken": BrokenLoad(fixed_port, FailureKind.START_FAILED),
            "no program": BrokenLoad(
                lambda: launcher(command=("/nowhere/engine", "${PORT}")), FailureKind.START_FAILED
            ),
            "out of memory": BrokenLoad(
                lambda: launcher("--fail-load", "CUDA out of memory"), FailureKind.OUT_OF_MEMORY
            ),
            "never ready": BrokenLoad(lambda: launcher("--load-s", "60"), FailureKind.LOAD_TIMEOUT),
        },
        surroundings=taken.held,
    )
    return _by_signals(subject, _own_pid)


def remote(folder: Path) -> Subject:
    """A fake server that somebody else runs, with a key."""
    server: list[tuple[EngineProcess, int]] = []

    @asynccontextmanager
    async def somebody_runs_it() -> AsyncIterator[None]:
        async with fake_server("--api-key", "k-1", "--places", str(PLACES)) as (process, port):
            server.append((process, port))
            try:
                yield
            finally:
                server.clear()

    def launcher(key: str = "k-1", port: int | None = None) -> RemoteLauncher:
        options = RemoteOptions(
            f"http://127.0.0.1:{port or server[0][1]}/v1",
            api_key=key,
            metrics_path="/metrics",
            ready_timeout_s=10.0 if port is None else 0.5,
            capabilities=Capabilities(embeddings=True, sleep_levels=(1, 2)),
        )
        return RemoteLauncher(options, model_name="fake")

    subject = Subject(
        name="remote",
        launcher=launcher,
        places=PLACES,
        broken={
            "wrong key": BrokenLoad(lambda: launcher("k-2"), FailureKind.START_FAILED),
            "nobody there": BrokenLoad(
                lambda: launcher(port=_closed_port()), FailureKind.LOAD_TIMEOUT
            ),
        },
        owns_process=False,
        surroundings=somebody_runs_it,
    )
    return _by_signals(subject, lambda _engine: server[0][0].pid)


SUBJECTS: dict[str, Callable[[Path], Subject]] = {
    made.__name__: made for made in (fake, llama_cpp, llama_command, fake_command, remote)
}


@asynccontextmanager
async def fake_server(*arguments: str) -> AsyncIterator[tuple[EngineProcess, int]]:
    """A fake server process and its port."""
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def take(line: str) -> None:
        if re.fullmatch(r"\d+", line) and not port.done():
            port.set_result(int(line))

    process = await EngineProcess.start([*SERVER[:3], *arguments], on_line=take)
    try:
        yield process, await asyncio.wait_for(port, 60.0)
    finally:
        await process.stop(0.0)


def _fake(engine: Engine) -> FakeEngine:
    assert isinstance(engine, FakeEngine)
    return engine


def _own_pid(engine: Engine) -> int:
    process = getattr(engine, "process", None)
    assert isinstance(process, EngineProcess)
    return process.pid


def _by_signals(subject: Subject, pid: Callable[[Engine], int]) -> Subject:
    """Kill, freeze and thaw by signals; a process that has ended takes no harm."""

    def send(number: signal.Signals) -> Callable[[Engine], None]:
        def sender(engine: Engine) -> None:
            with suppress(ProcessLookupError):
                os.kill(pid(engine), number)

        return sender

    return replace(
        subject,
        kill=send(signal.SIGKILL),
        freeze=send(signal.SIGSTOP),
        thaw=send(signal.SIGCONT),
    )


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
