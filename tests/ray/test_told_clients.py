"""The clients of the fault tests notice what must not be: twice, torn, or somebody else's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from slalom.testing.echo_server import Echo
from slalom.testing.told_clients import CONNECTION_LOST, Outcome, Traffic, ask


@asynccontextmanager
async def _echo(log: Path) -> AsyncIterator[str]:
    server = await asyncio.start_server(Echo(log, 0.001, 1).serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def _outcome(said: str, *, code: str = "", dones: int = 1, status: int = 200) -> Outcome:
    return Outcome(
        *("r-x", "http://a", 3, 1.0, 2.0, status, code, "try again"), said=said.split(), dones=dones
    )


async def test_a_whole_answer_is_told_from_what_is_left_of_one(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with _echo(log) as url:
        traffic = Traffic("t", [url], ["one", "two"], per_s=200.0, tokens=4)
        await traffic.run(0.05)
    assert len(traffic.outcomes) == 10
    assert all(one.whole and not one.wrong(5.0) for one in traffic.outcomes)
    lines = [line.split() for line in log.read_text().splitlines()]
    assert sorted(who for what, who, *_ in lines if what == "end") == sorted(
        one.id for one in traffic.outcomes
    )


async def test_an_answer_goes_on_where_its_prompt_ends(tmp_path: Path) -> None:
    async with _echo(tmp_path / "log") as url, aiohttp.ClientSession() as session:
        body = {"prompt": "<r-a>r-a:0 r-a:1 ", "max_tokens": 2}
        async with session.post(f"{url}/v1/completions", json=body) as reply:
            text = (await reply.json())["choices"][0]["text"]
    assert text == "r-a:2 r-a:3 "


async def test_nobody_there_is_a_lost_connection() -> None:
    async with aiohttp.ClientSession() as session:
        outcome = await ask(session, "http://127.0.0.1:9", "m", "r-a", 2)
    assert outcome.code == CONNECTION_LOST
    assert not outcome.whole


@pytest.mark.parametrize(
    ("outcome", "wrong"),
    [
        (_outcome("r-x:0 r-x:1 r-x:2"), ""),
        (_outcome("r-x:0 r-x:1 r-x:0 r-x:1 r-x:2"), "was told"),
        (_outcome("r-x:0 r-x:2"), "was told"),
        (_outcome("r-y:0"), "was told"),
        (_outcome("r-x:0", dones=0), "without a word"),
        (_outcome("r-x:0 r-x:1 r-x:2", dones=2), "without a word"),
        (_outcome("r-x:0", code="core_lost"), ""),
        (_outcome("", code="core_away", status=503), ""),
        (_outcome("", code="invalid_request", status=400), "got 400"),
    ],
)
def test_what_is_not_as_it_has_to_be_is_said(outcome: Outcome, wrong: str) -> None:
    assert (wrong in outcome.wrong(5.0)) if wrong else not outcome.wrong(5.0)
    assert "took" in outcome.wrong(0.5) or wrong
