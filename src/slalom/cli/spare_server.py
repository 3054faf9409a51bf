"""Finds the server a command talks to: the running one, else one started for the call.

Owns the short life of that server: a free port on loopback, no keys, ended with the call.
"""

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from slalom.cli.output import stderr
from slalom.cli.server_client import RefusedError, ServerClient, ServerError
from slalom.config.schema import Config

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 20.0
_TAIL_LINES = 5


def configured_url(config: Config) -> str:
    """The address at which the configured server is reached from this machine."""
    host = config.server.host
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - a comparison
    return f"http://{f'[{reached}]' if ':' in reached else reached}:{config.server.port}"


@contextlib.contextmanager
def server_for_call(
    config: Config, config_file: Path | None, url: str | None, key: str | None
) -> Iterator[ServerClient]:
    """The server at `url` or the configured one; if none answers there, a new one for the call.

    Raises:
        ServerError: It refuses, or a new one cannot be started.
    """
    client = ServerClient(url or configured_url(config), key)
    if url is not None or _is_slalom(client):
        yield client
        return
    stderr().print(f"No Slalom at {client.url}: starting one for this call.", style="dim")
    with _started(config_file) as started:
        yield started


def _is_slalom(client: ServerClient) -> bool:
    """Whether a Slalom answers there; what merely wants a key may well be one."""
    try:
        return any("slalom" in model for model in client.models())
    except RefusedError:
        raise
    except ServerError:
        return False


@contextlib.contextmanager
def _started(config_file: Path | None) -> Iterator[ServerClient]:
    command = [sys.executable, "-m", "slalom", "serve", "--json", "--host", "127.0.0.1"]
    command += ["--port", "0", "--log-level", "warning"]
    if config_file is not None:
        command += ["--config", str(config_file)]
    # On loopback, for one call of the same user: no keys, and no work of others.
    environ = {**os.environ, "SLALOM__KEYS": "[]", "SLALOM__BATCHES__DIR": "none"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=environ
        )
        try:
            yield ServerClient(_url_when_ready(process, log))
        finally:
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _url_when_ready(process: "subprocess.Popen[bytes]", log: IO[bytes]) -> str:
    """The address in the line that the server prints when it listens."""
    assert process.stdout is not None  # noqa: S101 - asked for above
    ready, _, _ = select.select([process.stdout], [], [], _START_TIMEOUT_S)
    line = process.stdout.readline() if ready else b""
    try:
        return str(json.loads(line)["url"])
    except (ValueError, KeyError, TypeError):
        log.seek(0)
        tail = log.read().decode(errors="replace").strip().splitlines()[-_TAIL_LINES:]
        said = "\n  ".join(tail) or f"it said nothing within {_START_TIMEOUT_S:g} s"
        raise ServerError(f"a server for this call could not be started:\n  {said}") from None
