"""The OpenAPI document and the server say the same: schemathesis looks for where they do not.

Every default check is on. It makes requests that the document allows, which must be taken, and
requests that it forbids, which must be refused, and holds every answer against the document.
`SLALOM_FUZZ=100 pytest tests/gateway/test_schemathesis.py` tries so many examples of every route,
those left out below among them.
"""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests.gateway.house import House, chat
from tests.gateway.whole_server import KEY, whole_server

BEARER = {"authorization": f"Bearer {KEY}"}
#: Examples of each route in an ordinary run, after those that the document's bounds suggest.
EXAMPLES = 5
#: Never asked: a request would not end.
ENDLESS = {"/admin/events": "tells what happens for as long as somebody listens"}
#: Left out of an ordinary run, for the other path on which the same function reads the same body.
TWINS = {
    "/v1/messages/count_tokens": "/v1/messages",
    "/v1/responses/input_tokens": "/v1/responses",
    "/completions": "/completion",
}
#: Those of them that read no chain, since they call no model.
WITHOUT_CHAIN = ("/v1/messages/count_tokens", "/v1/responses/input_tokens")


async def run(world: House, folder: Path, *options: str) -> str:
    """What schemathesis says in the end; it must find nothing."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{world.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {KEY}", "--no-color", "--seed", "1", "--no-shrink"),
        *("--generation-database", "none", "--request-timeout", "60", "--continue-on-failure"),
        *(option for path in ENDLESS for option in ("--exclude-path", path)),
        *options,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = said.decode()
    assert process.returncode == 0, text[-20_000:]
    return text


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    asked = os.environ.get("SLALOM_FUZZ", "")
    left_out: list[str] = []
    if not asked:
        left_out = ["--exclude-path-regex", "^/v1/estimate/"]
        left_out += [option for path in TWINS for option in ("--exclude-path", path)]
    async with whole_server(tmp_path) as world:
        status, _, _ = await world.post("/v1/chat/completions", chat(), BEARER)
        assert status == 200  # the model is there
        said = await run(world, tmp_path, "--max-examples", asked or str(EXAMPLES), *left_out)
        cases = re.search(r"(\d+) generated, (\d+) passed", said)
        assert cases is not None
        assert int(cases[1]) > 1000
        assert cases[1] == cases[2]


async def test_what_is_left_out_is_the_same_as_what_is_not(tmp_path: Path) -> None:
    async with whole_server(tmp_path) as world:
        paths = (await world.get("/openapi.json"))[1]["paths"]
    assert ENDLESS.keys() <= paths.keys()
    twins = {path: path.removeprefix("/v1/estimate") for path in paths if "estimate/" in path}
    assert len(twins) > 10
    for path, other in {**twins, **TWINS}.items():
        here, there = (paths[one]["post"]["requestBody"] for one in (path, other))
        if path in WITHOUT_CHAIN:
            there["content"]["application/json"]["schema"]["properties"].pop("slalom_chain")
        assert here == there, path
