"""An editor with one open file that asks a language server what belongs at the cursor.

Owns the frames of the language server protocol and as much of a conversation as tabby-agent wants.
Used by its test.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from tests.clients.pins import PINS
from tests.clients.place import CLIENT_S, Place


class Editor:
    """One file, spoken of with a language server.

    Args:
        process: The server, on its standard streams.
        uri: Of the file.
    """

    def __init__(self, process: asyncio.subprocess.Process, uri: str) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._uri = process, uri
        self._to, self._from = process.stdin, process.stdout
        self._asked = 0

    async def open(self, text: str) -> None:
        """Introduce itself, and open the file."""
        await self._ask("initialize", {"processId": None, "rootUri": None, "capabilities": {}})
        self._tell("initialized", {})
        document = {"uri": self._uri, "languageId": "python", "version": 1, "text": text}
        self._tell("textDocument/didOpen", {"textDocument": document})

    async def complete(self, line: int, character: int) -> list[dict[str, Any]]:
        """What is suggested at a place, counted from 0."""
        place = {"line": line, "character": character}
        params = {"textDocument": {"uri": self._uri}, "position": place}
        items: list[dict[str, Any]] = (await self._ask("textDocument/completion", params))["items"]
        return items

    async def close(self) -> int:
        """Take leave; the server's exit status."""
        await self._ask("shutdown", None)
        self._tell("exit", None)
        return await self._process.wait()

    async def _ask(self, method: str, params: Mapping[str, Any] | None) -> Any:
        self._asked += 1
        self._send({"id": self._asked, "method": method, "params": params})
        while True:
            message = await self._message()
            if message.get("id") == self._asked and "method" not in message:
                assert "error" not in message, message
                return message["result"]

    def _tell(self, method: str, params: Mapping[str, Any] | None) -> None:
        self._send({"method": method, "params": params})

    def _send(self, fields: Mapping[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **fields}).encode()
        self._to.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)

    async def _message(self) -> dict[str, Any]:
        length = 0
        while line := (await self._from.readline()).strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        assert length, "the language server has ended"
        message: dict[str, Any] = json.loads(await self._from.readexactly(length))
        return message


@asynccontextmanager
async def editor(place: Place, name: str, *arguments: str) -> AsyncIterator[Editor]:
    """An editor beside a language server that it starts; for so long as a client may take."""
    process = await asyncio.create_subprocess_exec(
        str(PINS[name].executable),
        *arguments,
        cwd=place.work,
        env=place.environment(name),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(CLIENT_S):
            yield Editor(process, (place.work / "add.py").as_uri())
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
