"""The dashboard: a page without data, which may only ask this server, as everybody does."""

import asyncio
import base64
import dataclasses
import hashlib
import re
import shutil
from pathlib import Path

import aiohttp
import pytest

from slalom.core.snapshot import DeviceSnapshot, ModelSnapshot, Snapshot
from slalom.gateway.auth import key_digest
from slalom.gateway.params import GatewayParams, KeyEntry, ServedModel
from tests.gateway.house import House, chat, house

ADMIN = KeyEntry("root", key_digest("admin-secret"), admin=True)
AS_ADMIN = {"authorization": "Bearer admin-secret"}
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
BROWSER_S = 120
KEYED = GatewayParams((ServedModel("a"),), keys=(ADMIN,))


async def _page(world: House) -> tuple[str, dict[str, str]]:
    async with aiohttp.ClientSession() as session, session.get(f"{world.url}/dashboard") as reply:
        assert reply.status == 200
        return await reply.text(), {name.lower(): text for name, text in reply.headers.items()}


async def test_the_page_needs_no_key_and_has_nothing_of_the_server_in_it() -> None:
    async with house(params=KEYED) as keyed, house() as other:
        await other.post("/v1/chat/completions", chat())
        text, headers = await _page(keyed)
        assert headers["content-type"].startswith("text/html")
        assert text == (await _page(other))[0]


async def test_browsers_run_its_own_script_and_style_and_reach_this_server_only() -> None:
    async with house(params=KEYED) as world:
        text, headers = await _page(world)
    policy = dict(
        part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
    )
    for tag in ("style", "script"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert not re.findall(r"(?:https?:)?//[\w.]+\.\w|\bon\w+=|\bstyle=|innerHTML", _shown(text))


async def test_what_the_script_asks_for_is_there() -> None:
    async with house(params=KEYED) as world:
        await world.post("/v1/chat/completions", chat(), AS_ADMIN)
        text, _ = await _page(world)
        paths = set(re.findall(r'ask\("(/[\w/]+)"', text))
        assert paths >= {"/admin/snapshot", "/admin/requests", "/v1/models", "/metrics"}
        for path in paths - {"/admin/events"}:
            async with aiohttp.ClientSession() as session:
                async with session.get(world.url + path) as refused:
                    assert refused.status == 401
                async with session.get(world.url + path, headers=AS_ADMIN) as given:
                    assert given.status == 200
                    found = await given.text()
            if path == "/admin/requests":
                assert set(re.findall(r"\bone\.(\w+_id|\w+_ms)", text)) <= set(
                    re.findall(r'"(\w+)":', found)
                )
            if path == "/metrics":
                for name in re.findall(r'samples\(text, "(\w+)"\)', text):
                    assert f"\n{name}{{" in found
    for kind, name in ((Snapshot, "snapshot"), (ModelSnapshot, "model")):
        fields = {field.name for field in dataclasses.fields(kind)}
        used = set(re.findall(rf"\b{name}\.(\w+)", text))
        assert used
        assert used <= fields
    devices = {field.name for field in dataclasses.fields(DeviceSnapshot)}
    assert set(re.findall(r"\bone\.((?!\w+_id)\w+_bytes)", text)) <= devices
    assert set(re.findall(r'\bat\("(\w+)"\)', text)) <= set(re.findall(r'\bid="(\w+)"', text))


def _shown(text: str) -> str:
    """The page without names of XML's spaces, which are no addresses to ask."""
    return text.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.live
@pytest.mark.timeout(180)
@pytest.mark.skipif(BROWSER is None, reason="there is no chromium")
async def test_a_browser_shows_models_and_tasks(tmp_path: Path) -> None:
    async with house() as world:
        await world.post("/v1/chat/completions", chat(), {"x-slalom-task": "chat"})
        process = await asyncio.create_subprocess_exec(
            *(str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update"),
            *(f"--user-data-dir={tmp_path}", "--virtual-time-budget=3000", "--dump-dom"),
            f"{world.url}/dashboard",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(BROWSER_S):
                seen, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    text = seen.decode()
    assert '<td class="id">a</td><td class="good">ready</td>' in text
    assert re.search(r"<td>chat</td><td[^>]*>1</td><td[^>]*>100.0 %</td>", text)
    # Nobody administrates there: what only admins see is away, and why is said.
    assert text.count('data-admin="" hidden=""') == 3
    assert "no key that is one" in text
