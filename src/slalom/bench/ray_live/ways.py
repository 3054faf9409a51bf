"""Brings one way of serving up for the time of a block, and says how it is asked.

Owns the starting and ending of the programs. Only one is up at a time. Programs that are or start
Ray run with the interpreter of the environment that `make ray-setup` makes. Called by `compare`.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import slalom
from slalom.bench.bare_engine import bare_engine
from slalom.bench.demo_server import running_program, running_server
from slalom.bench.ray_live.setting import (
    CODER,
    DIRECT,
    LOCAL,
    ON_RAY,
    RAY_ENV,
    Setting,
    configuration,
    serve_document,
)
from slalom.bench.scenario_compare import running
from slalom.workload.plan import PlannedRequest

#: Where Ray is installed, from the folder in which `make` runs.
RAY_PYTHON = Path(".venv-ray/bin/python")
_PROGRAM = "slalom.bench.ray_live.serve_program"
#: Longest wait until Ray serves, seconds.
_RAY_START_S = 180.0


@dataclass(frozen=True, slots=True)
class Up:
    """Something that serves."""

    url: str
    #: Whether the path names the model, as Ray Serve's applications want it.
    by_path: bool = False

    def requests(self, planned: Sequence[PlannedRequest]) -> list[PlannedRequest]:
        """The requests as they are sent to it."""
        if not self.by_path:
            return list(planned)
        return [replace(one, path=f"/{one.model}{one.path}") for one in planned]


@contextlib.asynccontextmanager
async def serving(
    way: str, setting: Setting, folder: Path, python: Path = RAY_PYTHON
) -> AsyncIterator[Up]:
    """One way, up for the time of a block.

    Args:
        way: Which.
        setting: The models.
        folder: For its configuration, journal and log.
        python: The interpreter that has Ray, from the root.

    Raises:
        SlalomError: It did not start.
    """
    if way == DIRECT:
        async with running(bare_engine(way, CODER, setting.options(CODER))) as url:
            yield Up(url)
    elif way == LOCAL:
        async with running_server(folder, configuration(setting)) as url:
            yield Up(url)
    else:
        with _short_folder() as short:
            made = _on_ray if way == ON_RAY else _by_ray_serve
            async with made(way, setting, folder, short, python) as up:
                yield up


@contextlib.asynccontextmanager
async def _on_ray(
    _way: str, setting: Setting, folder: Path, short: Path, python: Path
) -> AsyncIterator[Up]:
    server = running_server(
        folder,
        configuration(setting),
        python=python,
        arguments=("--on", "ray", "--address", "local"),
        env={**_environment(), "RAY_TMPDIR": str(short)},
        start_s=_RAY_START_S,
    )
    async with server as url:
        yield Up(url)


@contextlib.asynccontextmanager
async def _by_ray_serve(
    way: str, setting: Setting, folder: Path, short: Path, python: Path
) -> AsyncIterator[Up]:
    told = short / "serve.json"
    told.write_text(json.dumps(serve_document(setting, way, _free_port(), short)), "utf-8")
    command = (str(python), "-m", _PROGRAM, str(told))
    program = running_program(command, folder, env=_environment(), start_s=_RAY_START_S)
    async with program as url:
        yield Up(url, by_path=True)


def ray_version(python: Path) -> str:
    """What Ray an interpreter has; empty if there is none."""
    ask = "from importlib.metadata import version; print('Ray', version('ray'))"
    if not python.exists():
        return ""
    said = subprocess.run([python.absolute(), "-c", ask], capture_output=True, check=False)
    return said.stdout.decode().strip() if said.returncode == 0 else ""


def _environment() -> dict[str, str]:
    """Of a program that is or starts Ray: the same code as ours, wherever that is."""
    ours = str(Path(slalom.__file__).parents[1])
    known = os.environ.get("PYTHONPATH", "")
    return {**RAY_ENV, "PYTHONPATH": f"{ours}{os.pathsep}{known}" if known else ours}


@contextlib.contextmanager
def _short_folder() -> Iterator[Path]:
    """For what Ray leaves: a short path, because the paths of its sockets are bounded."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
