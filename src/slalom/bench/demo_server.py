"""One server of the demo: a `slalom serve` process of its own, from a configuration in a folder.

Owns writing the configuration, starting, waiting until it listens and ending the process, and
counting loads and evictions in the journal it leaves. Called by `demo_run`.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from slalom.core.actions import LoadReplica, UnloadCause, UnloadReplica
from slalom.errors import SlalomError
from slalom.journal.files import journal_files, read_file

#: Longest wait until it listens, and until it has ended after SIGTERM, seconds.
_START_S = 60.0
_STOP_S = 30.0
#: Last lines of its log that an error shows.
_TAIL_LINES = 8
_LOG = "server.log"


class DemoError(SlalomError):
    """The demo cannot go on; the message says where its files are."""

    code = "demo_failed"


@dataclass(frozen=True, slots=True)
class Residency:
    """What the journal says of models coming and going."""

    loads: int
    evictions: int


@contextlib.asynccontextmanager
async def running_server(
    folder: Path,
    config: Mapping[str, Any],
    *,
    python: Path | None = None,
    arguments: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    start_s: float = _START_S,
) -> AsyncIterator[str]:
    """Run a server for the time of a block; gives its base URL.

    Args:
        folder: For its configuration, journal and log; made if it is not there.
        config: As in the file; host, port, journal, measurements and log level are set here.
        python: The interpreter; ours where not given.
        arguments: Of `slalom serve`, after ours.
        env: Variables on top of ours.
        start_s: Longest wait until it listens, seconds.

    Raises:
        DemoError: It did not start.
    """
    path = _write_config(folder, config)
    serve = (str(python or sys.executable), "-m", "slalom", "serve")
    command = (*serve, "--config", str(path), "--json", *arguments)
    async with running_program(command, folder, env=env, start_s=start_s) as url:
        yield url


@contextlib.asynccontextmanager
async def running_program(
    command: Sequence[str],
    folder: Path,
    *,
    env: Mapping[str, str] | None = None,
    start_s: float = _START_S,
) -> AsyncIterator[str]:
    """Run a server of any kind that prints its address for the time of a block; gives the address.

    Args:
        command: Its first line on standard output is JSON with ``url``; SIGTERM ends it.
        folder: For its log; made if it is not there.
        env: Variables on top of ours.
        start_s: Longest wait for that line, seconds.

    Raises:
        DemoError: It did not start.
    """
    with _log_in(folder) as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            stdin=asyncio.subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
        )
    try:
        yield await _url(process, folder, start_s)
    finally:
        await _stop(process)


def residency(folder: Path) -> Residency:
    """Loads and evictions in the journal of a server that has ended."""
    counts: Counter[str] = Counter()
    for path in journal_files(journal_folder(folder)):
        _, entries = read_file(path)
        for entry in entries:
            for action in entry.actions:
                if isinstance(action, LoadReplica):
                    counts["loads"] += 1
                elif isinstance(action, UnloadReplica) and action.cause is UnloadCause.EVICTED:
                    counts["evictions"] += 1
    return Residency(counts["loads"], counts["evictions"])


def journal_folder(folder: Path) -> Path:
    """Where a server of this folder keeps its journal."""
    return folder / "journal"


def _log_in(folder: Path) -> BinaryIO:
    folder.mkdir(parents=True, exist_ok=True)
    return (folder / _LOG).open("wb")


def _write_config(folder: Path, config: Mapping[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "slalom.yaml"
    path.write_text(yaml.safe_dump(_complete(config), sort_keys=False), encoding="utf-8")
    return path


def _complete(config: Mapping[str, Any]) -> dict[str, Any]:
    server = {**config.get("server", {}), "host": "127.0.0.1", "port": 0}
    return {
        **config,
        "server": server,
        "journal": {"dir": "journal"},
        "batches": {"dir": "none"},
        # Nothing that another server measured may tip a comparison.
        "measurements": {"file": "models.sqlite"},
        "log": {"level": "warning"},
    }


async def _url(process: asyncio.subprocess.Process, folder: Path, start_s: float) -> str:
    """Where it listens, from the line it prints when it does."""
    assert process.stdout is not None  # noqa: S101 - asked for above
    try:
        line = await asyncio.wait_for(process.stdout.readline(), start_s)
        return str(json.loads(line)["url"])
    except (TimeoutError, ValueError, KeyError) as problem:
        log = (folder / _LOG).read_text(errors="replace").splitlines()
        raise DemoError(
            "the demo's server did not start; the end of its log "
            f"({folder / _LOG}):\n  " + "\n  ".join(log[-_TAIL_LINES:])
        ) from problem


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End it by SIGTERM, and by force if that takes too long; also when cancelled."""
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), _STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()
