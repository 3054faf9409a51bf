"""The programs of the gateway benchmark: upstreams, Slalom, LiteLLM, and the load client.

Owns starting each in its own process, pinning it to a core, waiting until it answers, and ending
it. Knows nothing of scenarios. Called by `gateway`.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil
import yaml

from slalom.models.sources import resolve

#: Longest start of any of the programs, seconds.
START_S = 120.0
#: Where `make bench-setup` puts the proxy it is compared with.
LITELLM = Path(".venv-bench/bin/litellm")
#: Requests at a time that the real engine takes.
ENGINE_PLACES = 4


class ProgramError(Exception):
    """One of the programs did not do its part; the message has what it said."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core runs what. With fewer than two cores nothing is pinned."""

    relay: int | None
    rest: int | None

    @classmethod
    def choose(cls) -> "Cores":
        """The first core for the relay, the second for upstream and client."""
        if not hasattr(os, "sched_getaffinity"):
            return cls(None, None)
        cores = sorted(os.sched_getaffinity(0))
        return cls(cores[0], cores[1]) if len(cores) > 1 else cls(None, None)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to the upstream: straight, or through a relay."""

    name: str
    port: int
    #: The relay's process; None for the direct way.
    pid: int | None

    def cpu_s(self) -> float:
        """Processor time the relay and its children have used."""
        if self.pid is None:
            return 0.0
        process = psutil.Process(self.pid)
        family = [process, *process.children(recursive=True)]
        return sum(sum(member.cpu_times()[:2]) for member in family)


class Programs:
    """Everything that was started; ends it all.

    Args:
        folder: For configuration, journal and logs.
        cores: Where programs run.
    """

    def __init__(self, folder: Path, cores: Cores) -> None:
        self._folder = folder
        self._cores = cores
        self._running: list[subprocess.Popen[bytes]] = []

    def stub(self) -> int:
        """The paced stub; its port."""
        argv = [sys.executable, "-m", "slalom.bench.stub_server"]
        process = self._start("stub", argv, self._cores.rest, stdout=subprocess.PIPE)
        return int(_first_line(process))

    def engine(self) -> int:
        """A real llama.cpp engine with the smallest bundled model; its port."""
        model = resolve("bundled:slalom-mini").path
        options = {"places": ENGINE_PLACES, "threads": 1, "alias": "stub"}
        argv = [sys.executable, "-m", "slalom.engines.llama_cpp_process", "--model", str(model)]
        argv += ["--options", json.dumps(options), "--parent", str(os.getpid())]
        process = self._start("engine", argv, self._cores.rest, stdout=subprocess.PIPE)
        address = json.loads(_first_line(process))["address"]
        return int(str(address).rsplit(":", 1)[1])

    def slalom(
        self, upstream_port: int, places: int, shown: str, scheduler: Mapping[str, Any]
    ) -> Way:
        """Slalom as `slalom serve` runs it: scheduler, journal, metrics, log.

        Args:
            upstream_port: Where the engine listens.
            places: Requests that it takes at a time.
            shown: What the way is called.
            scheduler: That section of its configuration; empty for the defaults.
        """
        name = f"{shown.replace(' ', '-')}-{upstream_port}"
        engine = {
            "kind": "remote",
            "base_url": f"http://127.0.0.1:{upstream_port}",
            "places": places,
        }
        config = {
            "models": [{"id": "stub", "engine": engine}],
            "journal": {"dir": str(self._folder / f"{name}-journal")},
            "batches": {"dir": "none"},
            **({"scheduler": dict(scheduler)} if scheduler else {}),
        }
        path = self._write(f"{name}.yaml", config)
        port = _free_port()
        argv = [sys.executable, "-m", "slalom", "serve", "--config", str(path), "--port", str(port)]
        process = self._start(name, argv, self._cores.relay)
        self._until_answers(process, f"http://127.0.0.1:{port}/ready", name)
        return Way(shown, port, process.pid)

    def litellm(self, upstream_port: int) -> Way:
        """The LiteLLM proxy, one worker."""
        name = f"litellm-{upstream_port}"
        params = {
            "model": "openai/stub",
            "api_base": f"http://127.0.0.1:{upstream_port}/v1",
            "api_key": "sk-none",
        }
        config = {"model_list": [{"model_name": "stub", "litellm_params": params}]}
        path = self._write(f"{name}.yaml", config)
        port = _free_port()
        argv = [str(LITELLM), "--config", str(path), "--port", str(port), "--num_workers", "1"]
        argv += ["--host", "127.0.0.1", "--telemetry", "False"]
        quiet = {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
            # No keys on either side: Slalom runs without any on loopback, too.
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        }
        process = self._start(name, argv, self._cores.relay, env=quiet)
        self._until_answers(process, f"http://127.0.0.1:{port}/health/liveliness", name)
        return Way("litellm", port, process.pid)

    def load(self, plan: Mapping[str, Any]) -> dict[str, Any]:
        """Run the load client once; its tally."""
        argv = [sys.executable, "-m", "slalom.bench.gateway_client"]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        _pin(process.pid, self._cores.rest)
        out, _ = process.communicate(json.dumps(plan).encode(), timeout=600)
        if process.returncode:
            raise ProgramError(f"the load client ended with {process.returncode}")
        tally: dict[str, Any] = json.loads(out)
        return tally

    def end(self) -> None:
        """End everything, the latest first."""
        for process in reversed(self._running):
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
            with contextlib.suppress(psutil.NoSuchProcess):
                family = psutil.Process(process.pid).children(recursive=True)
                process.terminate()
                _, alive = psutil.wait_procs(family, timeout=5)
                for member in alive:
                    member.kill()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()

    def _start(
        self,
        name: str,
        argv: Sequence[str],
        core: int | None,
        *,
        stdout: int | IO[bytes] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        with (self._folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=stdout if stdout is not None else log,
                stderr=log,
                env={**os.environ, **(env or {})},
            )
        self._running.append(process)
        _pin(process.pid, core)
        return process

    def _write(self, name: str, document: object) -> Path:
        path = self._folder / name
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path

    def _until_answers(self, process: subprocess.Popen[bytes], url: str, name: str) -> None:
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s:
            if process.poll() is not None:
                said = (self._folder / f"{name}.log").read_text("utf-8", "replace")[-2000:]
                raise ProgramError(f"{name} ended with {process.returncode} at its start:\n{said}")
            if _answers(url):
                return
            time.sleep(0.1)
        raise ProgramError(f"{name} did not answer within {START_S:g} s")


@contextlib.contextmanager
def programs(folder: Path, cores: Cores) -> Iterator[Programs]:
    """Programs that end with the block."""
    started = Programs(folder, cores)
    try:
        yield started
    finally:
        started.end()


def _pin(pid: int, core: int | None) -> None:
    if core is not None:
        os.sched_setaffinity(pid, {core})


def _first_line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None  # noqa: S101 - asked for a pipe
    line = process.stdout.readline()
    if not line:
        raise ProgramError(f"{process.args!r} ended before it said where it listens")
    return line.decode()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:  # noqa: S310 - our own address
            return bool(reply.status == 200)
    except OSError:
        return False
