"""A reload of the configuration while real engines serve: SIGHUP, the route, and the command."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.live.live_server import KEY, LiveServer, live_server, model

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

MINI, SMALL = "slalom-mini", "slalom-small"
#: With room for an answer that goes on for longer than a reload takes.
LONG = model(SMALL, context_tokens=4096)
BOTH = {"models": [model(MINI), LONG]}
#: What differs from answer to answer, whatever is in it.
_OWN = re.compile(rb'"(id|created)":("[^"]*"|\d+),?|"(prompt|predicted)\w*":[\d.e-]+,?')


def rewrite(folder: Path, *models: dict[str, Any]) -> None:
    """Let the file have these models."""
    path = folder / "slalom.yaml"
    document = yaml.safe_load(path.read_text())
    document["models"] = list(models)
    path.write_text(yaml.safe_dump(document))


@asynccontextmanager
async def steady(server: LiveServer) -> AsyncIterator[aiohttp.ClientResponse]:
    """A stream that is the same each time."""
    body = {
        "model": SMALL,
        "prompt": "def f(a):\n    ",
        "max_tokens": 2500,
        "stream": True,
        "ignore_eos": True,
        "temperature": 0,
        "seed": 1,
    }
    async with server.session.post(f"{server.url}/v1/completions", json=body) as reply:
        yield reply


async def text(reply: aiohttp.ClientResponse) -> bytes:
    """The whole stream as it came, without ids and times."""
    return _OWN.sub(b"", await reply.content.read())


async def reloads(server: LiveServer, count: int) -> None:
    """Wait for so many of them."""

    async def happened() -> bool:
        return await server.counter("reloads") == count

    await server.until(happened, f"{count} reloads")


async def test_a_stream_on_an_untouched_model_is_the_same_to_the_byte(tmp_path: Path) -> None:
    """`slalom-mini` gets another engine, `other` comes, and `slalom-small` notices nothing."""
    async with live_server(tmp_path, BOTH) as server:
        for _ in range(2):  # the second one finds its prompt read, as the third one will
            async with steady(server) as reply:
                undisturbed = await text(reply)
        assert (await server.complete(MINI))["status"] == 200
        before = {one.pid for one in server.engines()}
        assert len(before) == 2
        async with steady(server) as reply:
            first = await reply.content.readany()
            (small,) = [
                one["replicas"][0]
                for one in (await server.snapshot())["models"]
                if one["id"] == SMALL
            ]
            changed, other = model(MINI, context_tokens=512), {**model(MINI), "id": "other"}
            rewrite(tmp_path, changed, LONG, other)
            server.process.send_signal(signal.SIGHUP)
            await reloads(server, 1)
            assert (await server.snapshot())["running"] >= 1, "the stream goes on meanwhile"
            answers = await asyncio.gather(server.complete(MINI), server.complete("other"))
            assert [answer["status"] for answer in answers] == [200, 200]
            rest = await reply.content.read()
        assert _OWN.sub(b"", first + rest) == undisturbed
        (after,) = [
            one["replicas"][0] for one in (await server.snapshot())["models"] if one["id"] == SMALL
        ]
        assert (after["id"], after["epoch"]) == (small["id"], small["epoch"])

        async def settled() -> bool:
            return len(server.engines()) == 3

        await server.until(settled, "the old engine is gone")
        assert len(before & {one.pid for one in server.engines()}) == 1
        assert "slalom-mini replaced" in server.log.read_text()


async def test_a_removed_model_ends_and_says_so(tmp_path: Path) -> None:
    async with live_server(tmp_path, BOTH) as server:
        assert (await server.complete(MINI))["status"] == 200
        async with server.stream(SMALL, tokens=200) as reply:
            await reply.content.readany()
            rewrite(tmp_path, model(MINI))
            async with server.session.post(f"{server.url}/admin/reload") as told:
                done = {one["model"]: one["done"] for one in (await told.json())["models"]}
            assert done == {MINI: "untouched", SMALL: "removed"}
            refused = await server.complete(SMALL)
            assert (refused["status"], refused["error"]["code"]) == (404, "model_not_found")
            data = await reply.content.read()
        assert data.rstrip().endswith(b"[DONE]")

        async def gone() -> bool:
            return len(server.engines()) == 1

        await server.until(gone, "its engine has ended")


async def test_a_wrong_file_changes_nothing_and_is_told(tmp_path: Path) -> None:
    async with live_server(tmp_path, BOTH) as server:
        assert (await server.complete(MINI))["status"] == 200
        before = [one.pid for one in server.engines()]
        (tmp_path / "slalom.yaml").write_text("models:\n  - id: a\n    engin: {}\n")
        server.process.send_signal(signal.SIGHUP)

        async def told() -> bool:
            return "was not reloaded" in server.log.read_text()

        await server.until(told, "the log says what is wrong")
        assert "slalom.yaml:3" in server.log.read_text()
        command = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "slalom", "reload", "--url", server.url, "--key", KEY),
            stderr=asyncio.subprocess.PIPE,
            cwd=tmp_path.parent,
            env={**os.environ, "NO_COLOR": "1"},
        )
        _, said = await command.communicate()
        assert command.returncode == 1
        assert b"nothing was changed" in said.replace(b"\n", b" ")
        assert [one.pid for one in server.engines()] == before
        assert (await server.complete(MINI))["status"] == 200


async def test_the_next_of_an_alias_serves_where_the_first_cannot_be_loaded(tmp_path: Path) -> None:
    """Its file is damaged after the start, when it was still good."""
    good = Path(__file__).parents[2] / "src/slalom/models/data" / f"{MINI}.gguf"
    path = tmp_path / "model.gguf"
    path.write_bytes(good.read_bytes())
    broken = model(SMALL)
    broken["id"], broken["engine"]["source"] = "broken", str(path)
    alias = {"id": "code", "targets": ["broken", MINI]}
    config = {"models": [broken, model(MINI)], "aliases": [alias]}
    async with live_server(tmp_path, config) as server:
        path.write_bytes(good.read_bytes()[:200_000])
        answer = await server.complete("code")
        assert answer["status"] == 200
        assert await server.counter("handed_over") == 1
        async with server.stream("code", tokens=4) as reply:
            assert reply.headers["x-slalom-model"] == MINI
