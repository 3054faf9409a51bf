"""A reload while a server serves: real processes, a real HTTP server, in this event loop."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import yaml

from slalom.assembly.parts import Parts, assemble
from slalom.assembly.reloading import Reloading
from slalom.config.load import load
from slalom.config.schema import Config
from slalom.core.events import ConfigChanged
from slalom.core.journal import Entry
from slalom.errors import ConfigError
from slalom.gateway.server import GatewayServer
from slalom.testing.patience import until

KEY = "key-of-an-operator"
ADMIN = {"authorization": f"Bearer {KEY}"}
pytestmark = pytest.mark.timeout(120)


def engine(name: str, **more: Any) -> dict[str, Any]:
    """A model served by a fake engine in a process of its own."""
    options = {"tokens_per_s": 200, "places": 4, **more}
    words = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in options.items())
    cmd = f"{sys.executable} -m slalom.testing.fake_server --port ${{PORT}} --model {name} {words}"
    return {"kind": "command", "cmd": cmd, "places": options["places"]}


def model(name: str, *, wants: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"id": name, "memory": "1MiB", "engine": engine(name, **more), **(wants or {})}


def document(*models: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "models": list(models),
        "keys": [{"name": "operator", "key": KEY, "admin": True}],
        "journal": {"dir": "none"},
        "measurements": {"file": "none"},
        "batches": {"dir": "none"},
        "devices": [{"id": "host", "budget": "1GiB"}],
        **more,
    }


@dataclass
class World:
    """A server whose configuration can be rewritten."""

    path: Path
    parts: Parts
    url: str = ""
    session: aiohttp.ClientSession = field(init=False)

    def write(self, document: dict[str, Any]) -> None:
        """Let the file say that."""
        self.path.write_text(yaml.safe_dump(document))

    async def reload(self, *, dry_run: bool = False, **headers: str) -> dict[str, Any]:
        path = f"{self.url}/admin/reload" + ("?dry_run=true" if dry_run else "")
        async with self.session.post(path, headers=headers or ADMIN) as reply:
            return {"status": reply.status, **(await reply.json())}

    async def complete(self, name: str, tokens: int = 4, **more: Any) -> dict[str, Any]:
        body = {"model": name, "prompt": "x", "max_tokens": tokens, **more}
        headers = more.pop("headers", ADMIN)
        async with self.session.post(
            f"{self.url}/v1/completions", json=body, headers=headers
        ) as reply:
            return {
                "status": reply.status,
                "served_by": reply.headers.get("x-slalom-model", ""),
                **(await reply.json()),
            }

    async def stream(self, name: str, tokens: int, begun: asyncio.Event) -> tuple[str, list[str]]:
        """The text of a streamed completion, and its errors' codes."""
        body = {"model": name, "prompt": "x", "max_tokens": tokens, "stream": True}
        texts, errors = [], []
        async with self.session.post(
            f"{self.url}/v1/completions", json=body, headers=ADMIN
        ) as reply:
            async for line in reply.content:
                if line.startswith(b"data: {"):
                    event = json.loads(line[6:])
                    texts += [one["text"] for one in event.get("choices", ())]
                    errors += [event["error"]["code"]] if "error" in event else []
                    begun.set()
        return "".join(texts), errors

    def pids(self) -> dict[str, int]:
        """Process of each model's engine."""
        found = {}
        for child in psutil.Process().children(recursive=True):
            words = child.cmdline()
            if "slalom.testing.fake_server" in words:
                found[words[words.index("--model") + 1]] = child.pid
        return found

    def states(self) -> dict[str, str]:
        return {one.id: one.state.value for one in self.parts.runtime.snapshot().models}


@asynccontextmanager
async def world(folder: Path, first: dict[str, Any]) -> AsyncIterator[World]:
    path = folder / "slalom.yaml"
    path.write_text(yaml.safe_dump(first))

    def read() -> Config:
        return load(path, environ={})[0]

    box = World(path, assemble(read()))
    parts = box.parts
    parts.gateway.reload_by(Reloading(parts, read))
    server = GatewayServer(parts.gateway, port=0)
    await server.start()
    parts.runtime.start()
    box.url = server.url
    try:
        async with aiohttp.ClientSession() as box.session:
            yield box
    finally:
        await server.stop(0.0)
        await parts.runtime.close()


def done(answer: dict[str, Any]) -> dict[str, str]:
    return {one["model"]: one["done"] for one in answer["models"]}


async def test_a_stream_on_an_untouched_model_goes_on(tmp_path: Path) -> None:
    """Its text is what it is without a reload, and its process the same; the rest has changed."""
    first = document(model("a"), model("b"), model("c"))
    async with world(tmp_path, first) as server:
        undisturbed, _ = await server.stream("a", 150, asyncio.Event())
        for name in "bc":
            await server.complete(name)
        before = server.pids()
        entries: list[Entry] = []
        server.parts.runtime.on_step.append(entries.append)
        begun = asyncio.Event()
        streaming = asyncio.create_task(server.stream("a", 150, begun))
        await begun.wait()
        server.write(document(model("a"), model("b", places=2), model("d")))
        answer = await server.reload()
        assert answer["status"] == 200, answer
        assert done(answer) == {"a": "untouched", "b": "replaced", "d": "added", "c": "removed"}
        assert not streaming.done()
        assert (await server.complete("b"))["status"] == 200
        assert (await server.complete("d"))["status"] == 200
        refused = await server.complete("c")
        assert refused["status"] == 404
        assert "removed by a reload" in refused["error"]["message"]
        assert await streaming == (undisturbed, [])

        async def settled() -> bool:
            return set(server.pids()) == {"a", "b", "d"} and set(server.states()) == {"a", "b", "d"}

        await until(settled, "the removed model is gone")
        after = server.pids()
        assert after["a"] == before["a"]
        assert after["b"] != before["b"]
        changes = [e for entry in entries for e in entry.events if isinstance(e, ConfigChanged)]
        assert [spec.id for one in changes for spec in one.replaced] == ["b"]


async def test_what_runs_on_a_replaced_and_on_a_removed_model_ends_first(tmp_path: Path) -> None:
    async with world(tmp_path, document(model("b"), model("c"))) as server:
        begun = {name: asyncio.Event() for name in "bc"}
        streams = [asyncio.create_task(server.stream(name, 120, begun[name])) for name in "bc"]
        for event in begun.values():
            await event.wait()
        before = server.pids()
        server.write(document(model("b", places=1)))
        await server.reload()
        assert (await server.complete("b"))["status"] == 200
        for text, errors in await asyncio.gather(*streams):
            assert text
            assert errors == []

        async def settled() -> bool:
            return len(server.pids()) == 1

        await until(settled, "the old engines are gone")
        assert server.pids()["b"] not in before.values()


async def test_a_removed_model_ends_its_stream_when_the_time_is_over(tmp_path: Path) -> None:
    async with world(tmp_path, document(model("c", tokens_per_s=20))) as server:
        begun = asyncio.Event()
        streaming = asyncio.create_task(server.stream("c", 4000, begun))
        await begun.wait()
        server.write(document(model("a"), server={"drain_seconds": 0.3}))
        assert done(await server.reload()) == {"a": "added", "c": "removed"}
        _, errors = await streaming
        assert errors == ["model_removed"]


async def test_a_wrong_configuration_changes_nothing(tmp_path: Path) -> None:
    first = document(model("a"))
    async with world(tmp_path, first) as server:
        await server.complete("a")
        before = server.pids()
        for broken, says in (
            ({"aliases": [{"id": "x", "targets": ["nobody"]}]}, "nobody"),
            ({"models": [model("b", wants={"pinned": True, "memory": "9GiB"})]}, "pin"),
            ({"models": [model("b", wants={"device": "gpu"})], "devices": [{"id": "host"}]}, "gpu"),
            ({"keys": [{"name": "k", "key_env": "NO_SUCH_VARIABLE_HERE"}]}, "NO_SUCH_VARIABLE"),
            ({"modelz": []}, "modelz"),
        ):
            server.write({**first, **broken})
            answer = await server.reload()
            assert answer["status"] == 400, answer
            assert answer["error"]["code"] == "reload_refused"
            assert "nothing was changed" in answer["error"]["message"]
            assert "slalom.yaml" in answer["error"]["message"] or says not in {"nobody", "modelz"}
            assert says in answer["error"]["message"]
        assert server.pids() == before
        assert (await server.complete("a"))["status"] == 200
        assert list(server.states()) == ["a"]


async def test_a_dry_run_says_the_same_and_does_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, document(model("a"), model("b"))) as server:
        await server.complete("a")
        before, states = server.pids(), server.states()
        server.write(document(model("a", places=1), model("d")))
        tried = await server.reload(dry_run=True)
        assert tried["dry_run"] is True
        assert server.pids() == before
        assert server.states() == states
        real = await server.reload()
        assert (real["dry_run"], real["models"]) == (False, tried["models"])
        assert done(real) == {"a": "replaced", "d": "added", "b": "removed"}
        assert done(await server.reload()) == {"a": "untouched", "d": "untouched"}


async def test_keys_aliases_tasks_and_wishes_are_in_force_at_once(tmp_path: Path) -> None:
    other = {"authorization": "Bearer another-key-of-somebody"}
    async with world(tmp_path, document(model("a"))) as server:
        await server.complete("a")
        before = server.pids()
        assert (await server.complete("a", headers=other))["status"] == 401
        server.write(
            document(
                model("a", wants={"aliases": ["quick"], "idle_unload_seconds": 0.4}),
                tasks={"review": {"ttft_ms": 5000}},
                keys=[
                    {"name": "operator", "key": KEY, "admin": True},
                    {"name": "other", "key": "another-key-of-somebody"},
                ],
                server={"port": 1},
            )
        )
        answer = await server.reload()
        assert done(answer) == {"a": "adjusted"}
        assert sorted(answer["models"][0]["options"]) == ["aliases", "idle_unload_seconds"]
        assert answer["applied"] == ["keys", "tasks"]
        assert answer["needs_restart"] == ["server.port"]
        assert server.pids() == before
        told = await server.complete("quick", headers=other)
        assert (told["status"], told["served_by"]) == (200, "a")
        async with server.session.post(
            f"{server.url}/v1/completions",
            json={"model": "a:review", "prompt": "x", "max_tokens": 2},
            headers=ADMIN,
        ) as reply:
            assert reply.headers["x-slalom-task"] == "review"

        async def unloaded() -> bool:
            return server.states() == {"a": "cold"}

        await until(unloaded, "the new limit of idling holds")


async def test_only_administrators_reload_and_only_what_can_be(tmp_path: Path) -> None:
    first = document(model("a"))
    first["keys"] += [{"name": "user", "key": "a-user-and-no-more"}]
    async with world(tmp_path, first) as server:
        refused = await server.reload(authorization="Bearer a-user-and-no-more")
        assert (refused["status"], refused["error"]["code"]) == (403, "admin_key_needed")
        async with server.session.post(
            f"{server.url}/admin/reload?dry_run=perhaps", headers=ADMIN
        ) as reply:
            assert reply.status == 400
        server.parts.gateway.shared.reloader = None
        assert (await server.reload())["error"]["code"] == "not_reloadable"


async def test_a_reload_is_an_event_of_the_feed(tmp_path: Path) -> None:
    async with world(tmp_path, document(model("a"))) as server:
        async with server.session.get(f"{server.url}/admin/events", headers=ADMIN) as feed:
            await feed.content.readline()
            server.write(document(model("a"), model("d")))
            answer = await server.reload()
            while (line := await feed.content.readline()) != b"event: reload\n":
                assert line
            told = json.loads((await feed.content.readline())[6:])
        assert told["added"] == ["d"]
        assert told["reload_id"] == answer["id"]


async def test_the_next_target_of_an_alias_serves_where_the_first_fails(
    tmp_path: Path,
) -> None:
    broken = model("broken", fail_load="nothing-works")
    alias = {"id": "code", "targets": ["broken", "good"]}
    async with world(tmp_path, document(broken, model("good"), aliases=[alias])) as server:
        answer = await server.complete("code")
        assert (answer["status"], answer["served_by"]) == (200, "good")
        again = await server.complete("code")
        assert (again["status"], again["served_by"]) == (200, "good")
        alone = await server.complete("broken")
        assert alone["status"] == 503
        server.write(document(model("broken"), model("good"), aliases=[alias]))
        await server.reload()
        assert (await server.complete("broken"))["status"] == 200, "mended by the reload"


async def test_two_reloads_at_once_come_one_after_the_other(tmp_path: Path) -> None:
    async with world(tmp_path, document(model("a"))) as server:
        server.write(document(model("a"), model("d")))
        answers = await asyncio.gather(server.reload(), server.reload())
        assert sorted(done(one)["d"] for one in answers) == ["added", "untouched"]


async def test_a_server_off_loopback_does_not_lose_its_keys(tmp_path: Path) -> None:
    first = document(model("a"), server={"host": "0.0.0.0"})
    parts = assemble(Config.model_validate(first))
    bare = Config.model_validate({**first, "keys": []})
    with pytest.raises(ConfigError, match="keys"):
        await Reloading(parts, lambda: bare)(dry_run=False)
    assert parts.gateway.params.keys
    await parts.runtime.close()
