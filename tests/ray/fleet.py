"""A cluster of several raylets on this machine with `slalom serve --on ray` on it.

Owns the programs and the look at their processes: which engine is on which node, what is left over.
Needs no Ray in its own process: all is read from process trees and from HTTP. Used by the fault
tests.
"""

import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import aiohttp
import psutil
import yaml

import slalom

#: Options of each node of a cluster, the head's first.
Nodes = Sequence[Mapping[str, Any]]
ROOT = Path(__file__).parents[2]
#: The interpreter that has Ray, where `make ray-setup` puts it or where the variable says.
PYTHON = Path(os.environ.get("SLALOM_RAY_PYTHON") or ROOT / ".venv-ray" / "bin" / "python")
KEY = "fault-test-key"
HEADERS = {"authorization": f"Bearer {KEY}"}
HOLD_S = 20.0
MODELS = ("one", "two")
REPLICAS = 2
#: Tokens of an answer, and the pace.
TOKENS, TOKEN_S = 20, 0.05
_START_S = 120.0
_HERE = Path(__file__).parent
#: The head has no place for work, so that killing any other node leaves the cluster alive.
_NODES: Nodes = [
    {"num_cpus": 0},
    *({"num_cpus": 2, "resources": {"core": 1}} for _ in range(3)),
]
_ENV = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    # A machine that builds something else meanwhile is no reason to fail.
    "RAY_raylet_start_wait_time_s": "100",
}


class Fleet:
    """The cluster and the server while they live; made by `fleet`."""

    def __init__(self, folder: Path, raylets: list[int], told: dict[str, Any]) -> None:
        self.folder = folder
        self.log = folder / "engines.log"
        self.raylets = raylets
        self.told = told

    @property
    def urls(self) -> list[str]:
        """Of the ingresses."""
        return [str(one["url"]) for one in self.told["ingresses"]]

    @property
    def core_pid(self) -> int:
        """Of the core's worker as it was told at the start."""
        return int(self.told["core"]["pid"])

    def engines(self) -> list[psutil.Process]:
        """Engine programs that live, wherever they are."""
        return engines_of(self.log)

    def raylet_of(self, pid: int) -> int:
        """The raylet on whose node a process runs; 0 where that is gone."""
        ancestors = [one.pid for one in psutil.Process(pid).parents()]
        return next((one for one in self.raylets if one in ancestors), 0)

    def about(self) -> str:
        """Which engines live, whose they are and since when: for whoever reads a failure."""
        now_s, rows = time.time(), []
        for one in self.engines():
            with contextlib.suppress(psutil.Error):
                age_s = now_s - one.create_time()
                rows.append(
                    f"engine {one.pid} of {one.ppid()} on {self.raylet_of(one.pid)}, {age_s:.0f} s"
                )
        return "; ".join(rows)

    async def snapshot(self) -> dict[str, Any]:
        """The scheduler's state, by whichever ingress answers.

        Raises:
            aiohttp.ClientError: None does.
        """
        problem: Exception = aiohttp.ClientError("there is no ingress")
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(headers=HEADERS, timeout=timeout) as session:
            for url in self.urls:
                try:
                    async with session.get(f"{url}/admin/snapshot") as reply:
                        reply.raise_for_status()
                        found: dict[str, Any] = await reply.json()
                        return found
                except (aiohttp.ClientError, TimeoutError) as lost:
                    problem = lost
        raise problem

    async def unrestored(self) -> str:
        """Who is not back, or which engines are too many; empty if all is well."""
        try:
            return self._replicas(await self.snapshot()) or await self._ingresses()
        except (aiohttp.ClientError, TimeoutError) as problem:
            return f"no snapshot: {problem}"

    async def unsettled(self) -> str:
        """What the ledger and the processes do not agree on, or what is still going on.

        Empty once every model has its replicas, nothing runs or waits, each replica is one live
        engine and no engine lives beside them, and the books say what the replicas hold.
        """
        try:
            state = await self.snapshot()
        except (aiohttp.ClientError, TimeoutError) as problem:
            return f"no snapshot: {problem}"
        if missing := self._replicas(state):
            return missing
        replicas = [one for model in state["models"] for one in model["replicas"]]
        ready, engines = replicas, self.engines()
        booked = sum(one["booked_bytes"] for one in replicas)
        devices = sum(one["booked_bytes"] for one in state["devices"])
        if state["running"] or state["waiting"] or any(one["running"] for one in replicas):
            return f"{state['running']} run and {state['waiting']} wait"
        if booked != devices:
            return f"the devices' books say {devices} bytes, the replicas' {booked}"
        unmeasured = [one["id"] for one in ready if not one["measured_bytes"]]
        if unmeasured:
            return f"not measured yet: {unmeasured}"
        return self._memory(ready, engines)

    async def _ingresses(self) -> str:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session:
            for url in self.urls:
                async with session.get(f"{url}/ingress") as reply:
                    if reply.status != 200:
                        return f"{url} answers {reply.status}"
        return ""

    def _replicas(self, state: dict[str, Any]) -> str:
        replicas = [one for model in state["models"] for one in model["replicas"]]
        ready = [one for one in replicas if one["state"] == "ready"]
        if len(ready) != len(replicas) or len(ready) != len(MODELS) * REPLICAS:
            return f"replicas: {[(one['id'], one['state']) for one in replicas]}"
        living = len(self.engines())
        return "" if living == len(ready) else f"{len(ready)} replicas, but {living} engines"

    def _memory(self, ready: list[dict[str, Any]], engines: list[psutil.Process]) -> str:
        """Whether what was measured is what the engines hold, to a tenth."""
        held = sum(one.memory_info().rss for one in engines)
        measured = sum(one["measured_bytes"] for one in ready)
        if abs(measured - held) > held / 10:
            return f"measured {measured} bytes, the engines hold {held}"
        return ""

    def begun(self) -> dict[str, int]:
        """Request -> how many times an engine began to answer it."""
        found: dict[str, int] = {}
        for line in self.log.read_text().splitlines() if self.log.exists() else ():
            what, who, *_ = line.split()
            if what == "begin":
                found[who] = found.get(who, 0) + 1
        return found


def engines_of(log: Path) -> list[psutil.Process]:
    """Echo engines with this log."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = process.cmdline()
            if str(log) in line and "--port" in line and "slalom.engines.guarded_exec" not in line:
                found.append(process)
    return found


def configuration(folder: Path) -> dict[str, Any]:
    """Of the server: two models of two echo engines each, all from the start."""
    engine = {
        "kind": "command",
        "cmd": f"{PYTHON} -m slalom.testing.echo_server --host ${{HOST}} --port ${{PORT}} "
        f"--log {folder / 'engines.log'} --token-s {TOKEN_S}",
        "places": 4,
    }
    models = [
        {
            "id": name,
            "pinned": True,
            "replicas": REPLICAS,
            "memory": "96MiB",
            "engine": engine,
            "ray": {"cpus": 1},
        }
        for name in MODELS
    ]
    return {
        "server": {"drain_seconds": 2},
        "keys": [{"name": "tests", "key": KEY, "admin": True}],
        "ray": {
            "ingress_replicas": 2,
            "hold_seconds": HOLD_S,
            # Three nodes have it: the core finds a place when one of them is gone.
            "core_resources": {"core": 0.1},
        },
        "devices": [{"id": "host", "budget": "1GiB"}],
        "models": models,
        # So loose that nobody is refused: whether engines come back is what is looked at.
        "tasks": {"generation": {"ttft_ms": 60_000, "tpot_ms": 10_000}},
        "scheduler": {"scaling": {"kind": "fixed", "replicas": REPLICAS, "every_s": 1}},
        "journal": {"dir": str(folder / "journal")},
        "batches": {"dir": "none"},
        "measurements": {"file": "none"},
    }


class RayCluster:
    """A cluster while it lives; made by `cluster`."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self._process = process
        self._log = log
        told = json.loads(_line(process, log))
        self.address = str(told["address"])
        #: The head's first.
        self.raylets = [int(pid) for pid in told["raylets"]]

    def _ask(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(b"?\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(_line(self._process, self._log))
        return found

    def groups(self) -> list[dict[str, Any]]:
        """Placement groups that hold something, or wait for it."""
        return list(self._ask()["groups"])

    def actors(self) -> list[str]:
        """Names of the actors that live."""
        return sorted(str(one["name"]) for one in self._ask()["actors"])


@contextlib.contextmanager
def cluster(folder: Path, nodes: Nodes = _NODES, version: str = "") -> Iterator[RayCluster]:
    """A cluster, gone after the block.

    Args:
        folder: For its log.
        nodes: Options of each, the head's first.
        version: Of Ray, which it says that it has; what it has where not given.
    """
    command = [str(PYTHON), str(_HERE / "cluster_program.py"), json.dumps(nodes)]
    command += [version] if version else []
    with _program(command, folder / "cluster.log", {}) as process:
        yield RayCluster(process, folder / "cluster.log")
        assert process.stdin is not None
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)


@contextlib.contextmanager
def fleet(folder: Path) -> Iterator[Fleet]:
    """A cluster with a server on it; both are gone after the block, and so are the engines."""
    log = folder / "serve.log"
    path = folder / "slalom.yaml"
    path.write_text(yaml.safe_dump(configuration(folder)), encoding="utf-8")
    with cluster(folder) as ray:
        with served(folder, ray.address) as (process, told):
            yield Fleet(folder, ray.raylets, told)
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(40)
        left = engines_of(folder / "engines.log")
        assert not left, f"engines outlived the server: {left}; {log.read_text()[-2000:]}"


@contextlib.contextmanager
def served(
    folder: Path, address: str, *options: str
) -> "Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]":
    """The command that serves on a cluster what `slalom.yaml` says, and what it told of itself."""
    with _program(serve_command(folder, address, *options), folder / "serve.log", {}) as process:
        yield process, json.loads(_line(process, folder / "serve.log"))


def serve_command(folder: Path, address: str, *options: str) -> list[str]:
    """`slalom serve` on a cluster."""
    command = [str(PYTHON), "-m", "slalom", "serve", "--config", str(folder / "slalom.yaml")]
    return [*command, "--port", "0", "--json", "--on", "ray", "--address", address, *options]


def run_to_end(folder: Path, address: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """`slalom serve` with options with which it does not stay."""
    ours = str(Path(slalom.__file__).parents[1])
    return subprocess.run(
        serve_command(folder, address, *options),
        capture_output=True,
        text=True,
        timeout=_START_S,
        check=False,
        env={**os.environ, **_ENV, "PYTHONPATH": ours},
    )


@contextlib.contextmanager
def _program(
    command: list[str], log: Path, env: dict[str, str]
) -> "Iterator[subprocess.Popen[bytes]]":
    """A program with its own short folder for what Ray leaves; killed with its family after."""
    short = tempfile.mkdtemp(prefix="ray-")
    ours = str(Path(slalom.__file__).parents[1])
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=out,
            env={**os.environ, **_ENV, "RAY_TMPDIR": short, "PYTHONPATH": ours, **env},
        )
    try:
        yield process
    finally:
        family = []
        with contextlib.suppress(psutil.Error):
            family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        for one in family:
            with contextlib.suppress(psutil.Error):
                one.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        shutil.rmtree(short, ignore_errors=True)


def _line(process: "subprocess.Popen[bytes]", log: Path) -> bytes:
    """The one line that a program prints once it is up."""
    assert process.stdout is not None
    out: IO[bytes] = process.stdout
    deadline_s, found = time.monotonic() + _START_S, b""
    while not found.endswith(b"\n"):
        ready, _, _ = select.select([out], [], [], max(deadline_s - time.monotonic(), 0.0))
        piece = os.read(out.fileno(), 65_536) if ready else b""
        if not piece:
            raise AssertionError(f"it did not start: {log.read_text(errors='replace')[-3000:]}")
        found += piece
    return found
