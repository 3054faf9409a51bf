"""A server killed in the middle of a batch, twice: every line is answered exactly once."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import aiohttp
import openai

from tests.batches.shop import CHAT, chat_line, jsonl
from tests.live.live_server import KEY, LiveServer, live_server

LINES = 1000


def _config(folder: Path, more: str = "") -> dict[str, Any]:
    command = f"{sys.executable} -m slalom.testing.fake_server --port ${{PORT}} --places 8{more}"
    engine = {"kind": "command", "cmd": command, "model_name": "fake", "places": 8}
    return {
        "models": [{"id": "a", "memory": "64MiB", "engine": engine}],
        "batches": {"dir": str(folder / "batches"), "min_free_mib": 0},
    }


def _tokens(number: int) -> int:
    return 1 + number % 7


async def _completed(server: LiveServer, batch_id: str) -> int:
    async with server.session.get(f"{server.url}/v1/batches/{batch_id}") as reply:
        document = await reply.json()
        assert document["status"] in {"validating", "in_progress", "finalizing", "completed"}
        counts: dict[str, int] = document["request_counts"]
        assert counts["failed"] == 0
        return counts["completed"]


async def _kill_at(server: LiveServer, batch_id: str, lines: int) -> int:
    """Kill the server when so many lines are done; how many it had told of."""
    seen = 0

    async def there() -> bool:
        nonlocal seen
        seen = await _completed(server, batch_id)
        return seen >= lines

    await server.until(there, f"{lines} lines are done")
    os.kill(server.process.pid, signal.SIGKILL)
    server.wait(10)
    assert seen < LINES, "it was not in the middle"
    return seen


def _client(server: LiveServer) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0)


async def test_every_line_is_answered_exactly_once(tmp_path: Path) -> None:
    lines = [chat_line(f"line-{n}", tokens=_tokens(n)) for n in range(LINES)]
    config = _config(tmp_path)
    async with live_server(tmp_path, config) as server, _client(server) as sdk:
        file = await sdk.files.create(file=("lines.jsonl", jsonl(lines)), purpose="batch")
        batch = await sdk.batches.create(
            completion_window="24h", endpoint=CHAT, input_file_id=file.id
        )
        told = await _kill_at(server, batch.id, 150)
    async with live_server(tmp_path, config) as server:
        assert await _completed(server, batch.id) >= told, "what was counted got lost"
        told = await _kill_at(server, batch.id, 500)
    async with live_server(tmp_path, config) as server, _client(server) as sdk:
        assert await _completed(server, batch.id) >= told

        async def over() -> bool:
            return (await sdk.batches.retrieve(batch.id)).status == "completed"

        await server.until(over, "the batch completes")
        done = await sdk.batches.retrieve(batch.id)
        assert done.error_file_id is None
        assert done.request_counts is not None
        assert done.request_counts.completed == LINES
        assert done.output_file_id is not None
        text = (await sdk.files.content(done.output_file_id)).text
    answers = [json.loads(line) for line in text.splitlines()]
    assert sorted(answer["custom_id"] for answer in answers) == sorted(
        line["custom_id"] for line in lines
    )
    for answer in answers:
        number = int(answer["custom_id"].removeprefix("line-"))
        assert answer["response"]["body"]["usage"]["completion_tokens"] == _tokens(number)


async def test_the_disk_keeps_it_private_and_a_second_server_keeps_away(tmp_path: Path) -> None:
    config = _config(tmp_path)
    async with live_server(tmp_path, config) as server, _client(server) as sdk:
        file = await sdk.files.create(file=("x.jsonl", jsonl([chat_line("x")])), purpose="batch")
        kept = tmp_path / "batches"
        assert kept.stat().st_mode & 0o777 == 0o700
        content = kept / "files" / file.id
        for path in (content, kept / "batches.db"):
            assert path.stat().st_mode & 0o077 == 0
        second = tmp_path / "second"
        second.mkdir()
        async with live_server(second, config) as other:
            url = f"{other.url}/v1/files"
            async with other.session.get(url) as reply:
                assert reply.status == 503
                assert (await reply.json())["error"]["code"] == "storage_busy"
            server.terminate()
            server.wait(30)

            async def open_now() -> bool:
                try:
                    async with other.session.get(url) as reply:
                        return reply.status == 200
                except aiohttp.ClientError:
                    return False

            await other.until(open_now, "it takes over when the first has ended")


async def test_a_server_that_is_to_end_does_not_wait_for_lines(tmp_path: Path) -> None:
    config = _config(tmp_path, " --tokens-per-s 2")
    async with live_server(tmp_path, config) as server, _client(server) as sdk:
        lines = [chat_line(str(number), tokens=400) for number in range(3)]
        file = await sdk.files.create(file=("x.jsonl", jsonl(lines)), purpose="batch")
        batch = await sdk.batches.create(
            completion_window="24h", endpoint=CHAT, input_file_id=file.id
        )

        async def run() -> bool:
            return bool((await server.snapshot())["running"])

        await server.until(run, "lines run")
        server.terminate()
        # A line takes more than three minutes, and a drain waits for half a minute.
        assert server.wait(60) == 0
    async with live_server(tmp_path, config) as server, _client(server) as sdk:
        assert (await sdk.batches.retrieve(batch.id)).status == "in_progress"
