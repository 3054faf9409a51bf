"""Runs the code blocks of a documentation page, in order, in one empty folder.

Owns what a mark before a block means and how a block is run. Owns no server: a page that talks to
one is given its address, or starts its own with `<!-- run: serve -->`. Called by tests/docs.

The marks, each a comment on the line before the fence:

- `<!-- run -->`: run it. In a `console` block the lines after a `$ ` command are what it should
  print, with `...` for anything; without such lines only the exit status counts.
- `<!-- run: serve -->`: start the `slalom serve` in it, and keep it until the page ends.
- `<!-- file: NAME -->`: write the block to that file.
- `<!-- skip: REASON -->`: leave it.
"""

import os
import re
import shlex
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tools.tidy.prose import Block, blocks

#: The address in the docs; a page's own or the shared server's replaces it.
DOCS_ADDRESS = "127.0.0.1:8642"
COMMAND_TIMEOUT_S = 90
START_TIMEOUT_S = 60


class BlockError(AssertionError):
    """A block did not do what its page says."""


class Server:
    """A `slalom serve` on a free port of loopback, in a process of its own."""

    def __init__(self, arguments: list[str], folder: Path, env: Mapping[str, str]) -> None:
        self.port = _free_port()
        self._log = (folder / f"serve-{self.port}.log").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [
                Path(sys.executable).with_name("slalom"),
                "serve",
                *arguments,
                "--port",
                str(self.port),
            ],
            cwd=folder,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self.address = f"127.0.0.1:{self.port}"
        for _ in range(START_TIMEOUT_S * 10):
            if self._answers():
                return
            if self._ended_within(0.1):
                break
        said = self._said()
        self.stop()
        raise BlockError(f"slalom serve {shlex.join(arguments)} did not come up:\n{said}")

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/health", timeout=5):
                return True
        except urllib.error.HTTPError:
            return True
        except (urllib.error.URLError, OSError):
            return False

    def _ended_within(self, seconds: float) -> bool:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _said(self) -> str:
        self._log.seek(0)
        return self._log.read()[-4000:]

    def stop(self) -> int:
        """Ask it to drain and end; by force after a while. Returns its exit status."""
        if self._process.poll() is None:
            self._process.terminate()
            if not self._ended_within(40):
                self._process.kill()
        status = self._process.wait()
        self._log.close()
        return status


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Page:
    """One page being run: its folder, its environment, its server."""

    def __init__(self, folder: Path, shared_address: Callable[[], str]) -> None:
        self._folder = folder
        self._shared_address = shared_address
        self._server: Server | None = None
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("SLALOM_")
        }
        self._env = {
            **inherited,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "XDG_STATE_HOME": str(folder / "state"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "NO_COLOR": "1",
            "COLUMNS": "100",
        }

    def run(self, block: Block) -> None:
        """Do what the block's mark says.

        Raises:
            BlockError: It failed, or printed something else than the page shows.
        """
        where = f"{block.path}:{block.line}"
        if block.mark == "file":
            (self._folder / block.note).write_text(self._local(block.code) + "\n", encoding="utf-8")
        elif block.mark == "run" and block.note == "serve":
            self._serve(block, where)
        elif block.mark == "run" and block.language in {"python", "py"}:
            self._command([sys.executable, "-W", "error", "-c", self._local(block.code)], where)
        elif block.mark == "run" and block.language == "console":
            for command, expected in transcript(block.code):
                printed = self._command(["bash", "-c", self._local(command)], where)
                if expected and not resembles(expected, printed):
                    raise BlockError(
                        f"{where}: $ {command}\nshould print\n{expected}\nbut prints\n{printed}"
                    )
        elif block.mark == "run":
            self._command(["bash", "-euo", "pipefail", "-c", self._local(block.code)], where)

    def _local(self, text: str) -> str:
        """The text with the address of the server that is there instead of the documented one."""
        if DOCS_ADDRESS not in text:
            return text
        address = self._server.address if self._server else self._shared_address()
        return text.replace(DOCS_ADDRESS, address)

    def _serve(self, block: Block, where: str) -> None:
        words = shlex.split(block.code.strip().removeprefix("$ "), comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            name, _, value = words.pop(0).partition("=")
            self._env[name] = value
        if words[:2] != ["slalom", "serve"]:
            raise BlockError(f"{where}: a `run: serve` block holds one `slalom serve …` command")
        self.close()
        self._server = self.serve(words[2:])

    def serve(self, arguments: list[str]) -> Server:
        """Start a server in this page's folder and environment."""
        return Server(arguments, self._folder, self._env)

    def _command(self, command: list[str], where: str) -> str:
        done = subprocess.run(
            command,
            cwd=self._folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise BlockError(
                f"{where}: exit {done.returncode} of\n{command[-1]}\n"
                f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
            )
        return done.stdout + done.stderr

    def close(self) -> None:
        """Stop the page's own server, which must end well."""
        if self._server is not None:
            server, self._server = self._server, None
            status = server.stop()
            if status:
                raise BlockError(f"slalom serve ended with status {status}")


def transcript(code: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with what it should print."""
    command: list[str] = []
    expected: list[str] = []
    continues = False
    for line in code.splitlines():
        if continues:
            command.append(line)
        elif line.startswith("$ "):
            if command:
                yield "\n".join(command), "\n".join(expected)
            command, expected = [line[2:]], []
        else:
            expected.append(line)
            continue
        continues = line.endswith("\\") or _is_open("\n".join(command))
    if command:
        yield "\n".join(command), "\n".join(expected)


def _is_open(command: str) -> bool:
    """Whether a quotation in a command is not closed yet."""
    try:
        shlex.split(command)
    except ValueError:
        return True
    return False


def resembles(expected: str, printed: str) -> bool:
    """Whether a text is the expected one, ``...`` standing for anything, blanks at ends aside."""
    pieces = [re.escape(piece) for piece in _squeezed(expected).split("...")]
    return re.search(".*?".join(pieces), _squeezed(printed), re.DOTALL) is not None


def _squeezed(text: str) -> str:
    return "\n".join(" ".join(line.split()) for line in text.strip().splitlines())


def page_blocks(root: Path, path: str) -> list[Block]:
    """The blocks of a page that do something when it is run."""
    found = blocks(path, (root / path).read_text(encoding="utf-8"))
    return [block for block in found if block.mark in {"run", "file"}]
