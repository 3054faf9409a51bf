"""HTTP by hand: requests as bytes, answers read from the socket."""

import asyncio
import json
from typing import Any

from slalom.gateway.params import GatewayParams, ServedModel
from tests.gateway.house import WAIT_S, House, chat

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"


def params(**changes: Any) -> GatewayParams:
    return GatewayParams((ServedModel("a"),), **changes)


async def raw(world: House, data: bytes) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Send bytes, read one answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
    try:
        writer.write(data)
        return await answer(reader)
    finally:
        writer.close()


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], dict[str, Any]]:
    async with asyncio.timeout(WAIT_S):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = await reader.readexactly(int(headers["content-length"]))
    return int(head[0].split()[1]), headers, json.loads(body)


def post(body: bytes, path: str = CHAT, *extra: str) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "host: x",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *extra,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def valid() -> bytes:
    return json.dumps(chat()).encode()
