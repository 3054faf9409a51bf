"""Where a client runs: an empty home, a folder with one file, and nothing but loopback to reach.

Owns the environment, the time bound and what is said when a client fails. Used by the tests.
"""

import asyncio
import os
import secrets
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.clients.pins import PINS
from tests.live.live_server import LiveServer

#: Bound of one client, seconds: agents send up to 22,000 tokens, and the machine may be busy.
CLIENT_S = 300.0
#: Set where there is no other network. Not all clients leave loopback out when told of a proxy.
ISOLATED = "SLALOM_CLIENTS_ISOLATED"
#: Nobody serves it: what a client sends anywhere but loopback fails at once.
_DEAD = "http://127.0.0.1:9"
_QUIET = {
    "CI": "1",
    "NO_COLOR": "1",
    "TERM": "dumb",
    "LANG": "C.UTF-8",
    "DO_NOT_TRACK": "1",
    "DISABLE_TELEMETRY": "1",
    "PYTHONWARNINGS": "ignore",
}
if ISOLATED not in os.environ:
    _QUIET |= dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), _DEAD)
    _QUIET |= dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")


@dataclass
class Place:
    """A client's home and work, beside a server."""

    server: LiveServer
    home: Path
    #: What stands in the file that agents are to read; nobody can guess it.
    fact: str = field(default_factory=lambda: f"fact-{secrets.token_hex(6)}")

    def __post_init__(self) -> None:
        self.work.mkdir(parents=True)
        (self.work / "fact.txt").write_text(self.fact + "\n")

    @property
    def work(self) -> Path:
        """The folder it works in."""
        return self.home / "work"

    @property
    def v1(self) -> str:
        """The base URL as most clients want it."""
        return f"{self.server.url}/v1"

    def write(self, path: str, text: str) -> Path:
        """Write a file below its home."""
        target = self.home / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    def environment(self, name: str) -> dict[str, str]:
        """What a client finds in its environment."""
        return {
            "PATH": f"{PINS[name].executable.parent}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "XDG_DATA_HOME": str(self.home / ".local/share"),
            "XDG_CACHE_HOME": str(self.home / ".cache"),
            "XDG_STATE_HOME": str(self.home / ".local/state"),
            **_QUIET,
        }

    async def run(
        self,
        name: str,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        excuse: str = "",
    ) -> str:
        """Run a client to its end; what it said on stdout.

        Args:
            name: Of its pin.
            arguments: Of its command line.
            env: Besides what each finds.
            excuse: A client that says this may have failed.

        Raises:
            AssertionError: It failed, or took too long; with what it said and the server's log.
        """
        process = await asyncio.create_subprocess_exec(
            str(PINS[name].executable),
            *arguments,
            cwd=self.work,
            env={**self.environment(name), **(env or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(CLIENT_S):
                out, err = await process.communicate()
        except TimeoutError:
            raise AssertionError(f"{name} took longer than {CLIENT_S} s{self._log()}") from None
        finally:
            _end(process.pid)
            await process.wait()
        said = out.decode(errors="replace")
        excused = bool(excuse) and excuse in said
        assert process.returncode == 0 or excused, (
            f"{name} ended with {process.returncode}\nstdout: {said[-3000:]}\n"
            f"stderr: {err.decode(errors='replace')[-3000:]}{self._log()}"
        )
        return said

    async def script(self, name: str, code: str, *arguments: str) -> str:
        """Run Python code beside a library."""
        return await self.run(name, "-c", code, *arguments)

    async def streamed(self, path: str, model: str) -> list[dict[str, Any]]:
        """Records of the streams of a route that this model has answered to the end."""
        return await self.answered(path, model, stream=True)

    async def answered(self, path: str, model: str, *, stream: bool) -> list[dict[str, Any]]:
        """Records of what this model has answered to the end on a route."""
        async with self.server.session.get(f"{self.server.url}/admin/requests") as reply:
            records = (await reply.json())["data"]
        wanted = {"path": path, "model": model, "stream": stream, "status": 200, "outcome": "done"}
        return [record for record in records if wanted.items() <= record.items()]

    def _log(self) -> str:
        return f"\nserver: {self.server.log.read_text()[-3000:]}"


def _end(group: int) -> None:
    """End what a client left behind."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
