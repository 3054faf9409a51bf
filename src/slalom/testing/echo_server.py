"""An engine that says whom it answers: every token holds the id of its request and its place.

Owns the few routes of the OpenAI API that a command engine needs, and a log with a line for each
answer begun, ended and broken off. A command engine of the fault tests: `python -m
slalom.testing.echo_server --port N --log FILE`.
"""

import argparse
import asyncio
import json
import os
import re
from pathlib import Path

_LENGTH = re.compile(rb"(?i)content-length: *(\d+)")
#: In a prompt: whose it is.
_ID = re.compile(r"<(r[\w-]+)>")
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ntransfer-encoding: chunked\r\n\r\n"


class Echo:
    """The engine.

    Args:
        log: Where it tells what it does.
        token_s: Between two tokens.
        ballast_mib: Memory that it holds, so that a ledger has something to count.
    """

    def __init__(self, log: Path, token_s: float, ballast_mib: int) -> None:
        self._log = log
        self._token_s = token_s
        self.ballast = bytearray(os.urandom(1 << 20) * ballast_mib)

    def tell(self, what: str, who: str, tokens: int) -> None:
        """One whole line at a time: several engines write into one file."""
        line = f"{what} {who} {tokens} {os.getpid()}\n"
        descriptor = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, line.encode())
        os.close(descriptor)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request by request."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = _LENGTH.search(head)
                body = await reader.readexactly(int(length[1])) if length else b""
                if head.startswith(b"POST"):
                    await self._answer(json.loads(body), writer)
                else:
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, asked: dict[str, object], writer: asyncio.StreamWriter) -> None:
        prompt, count = str(asked["prompt"]), int(str(asked["max_tokens"]))
        found = _ID.search(prompt)
        who = found[1] if found else "?"
        said = prompt.count(f"{who}:")
        self.tell("begin", who, count)
        told = 0
        try:
            if not asked.get("stream"):
                await asyncio.sleep(self._token_s * count)
                text = "".join(f"{who}:{said + place} " for place in range(count))
                body = json.dumps(_piece(text, "length") | {"usage": _usage(count)}).encode()
                writer.write(_HEAD % b"application/json" + _chunk(body) + b"0\r\n\r\n")
                await writer.drain()
                told = count
                return
            writer.write(_HEAD % b"text/event-stream")
            for place in range(count):
                await asyncio.sleep(self._token_s)
                last = "length" if place == count - 1 else None
                self._check(writer)
                writer.write(_chunk(_event(_piece(f"{who}:{said + place} ", last))))
                await writer.drain()
                told += 1
            end = {**_piece("", None), "choices": [], "usage": _usage(count)}
            writer.write(_chunk(_event(end) + b"data: [DONE]\n\n") + b"0\r\n\r\n")
            await writer.drain()
        finally:
            self.tell("end" if told == count else "broken", who, told)

    def _check(self, writer: asyncio.StreamWriter) -> None:
        if writer.transport.is_closing():
            raise ConnectionResetError


def _piece(text: str, finish: str | None) -> dict[str, object]:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
    return {"id": "echo", "object": "text_completion", "created": 0, "model": "echo",
            "choices": [choice]}  # fmt: skip


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 4, "completion_tokens": tokens, "total_tokens": tokens + 4}


def _event(document: dict[str, object]) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--token-s", type=float, default=0.05)
    parser.add_argument("--ballast-mib", type=int, default=32)
    given = parser.parse_args()
    echo = Echo(given.log, given.token_s, given.ballast_mib)
    server = await asyncio.start_server(echo.serve, given.host, given.port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
