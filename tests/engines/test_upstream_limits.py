"""What the HTTP client towards engines refuses: too much, secrets, smuggling, bad certificates."""

import asyncio
import ssl
import subprocess
from pathlib import Path
from shutil import which

import pytest

from slalom.core.events import FailureKind
from slalom.engines.protocol import Call
from slalom.engines.upstream import Upstream
from slalom.errors import ConfigError, InvariantError
from tests.engines.scripted import (
    CHUNKED,
    Peer,
    answering,
    call,
    chunk,
    failure,
    read,
    scripted,
    whole,
)

BODY = b"data: {}\n\n"


async def test_too_many_connections_are_refused_at_once() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(CHUNKED, chunk(BODY))
        await peer.gone()

    async with scripted(script) as served:
        upstream = Upstream(served.url, connections_max=2)
        replies = [await upstream.post(call()) for _ in range(2)]
        problem = await failure(upstream.post(call()))
        assert "2 connections" in str(problem)
        await replies[0].close()
        await (await upstream.post(call())).close()
        upstream.close()
        assert (await failure(read(replies[1]))).code == FailureKind.CRASHED
        assert (await failure(upstream.post(call()))).code == FailureKind.CRASHED


async def test_nobody_there_is_a_crash_and_says_where() -> None:
    async with scripted(answering(whole(b""))) as served:
        url = served.url
    problem = await failure(Upstream(url).post(call()))
    assert problem.code == FailureKind.CRASHED
    assert url in str(problem)


async def test_fetch_has_one_time_limit_for_everything() -> None:
    async def drips(peer: Peer) -> None:
        await peer.request()
        await peer.say(CHUNKED)
        while True:
            await peer.say(chunk(b"."))
            await asyncio.wait((asyncio.ensure_future(peer.gone()),), timeout=0.02)

    async with scripted(drips) as served:
        upstream = Upstream(served.url)
        problem = await failure(upstream.get("/health", timeout_s=0.2))
        assert problem.code == FailureKind.STALLED
        assert upstream.connections_open == 0


async def test_too_long_a_document_is_refused() -> None:
    async with scripted(answering(whole(b"x" * 1000))) as served:
        upstream = Upstream(served.url)
        reply = await upstream.post(call())
        assert (await failure(reply.read_all(999))).code == FailureKind.ENGINE_ERROR
        upstream.close()


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\nb", "a\0b"])
async def test_line_breaks_cannot_be_smuggled_into_a_request(value: str) -> None:
    upstream = Upstream("http://127.0.0.1:1")
    with pytest.raises(InvariantError):
        await upstream.post(Call("/v1", b"", {"x-request-id": value}))


@pytest.mark.parametrize(
    "url", ["ftp://host", "host:80", "http://", "http://u:hush@host", "http://h/?key=hush"]
)
def test_base_url_must_be_callable_and_without_secrets(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Upstream(url)
    assert "hush" not in str(caught.value)


async def test_secrets_are_not_shown() -> None:
    upstream = Upstream("http://127.0.0.1:1", headers={"authorization": "Bearer hush"})
    problem = await failure(upstream.post(call(b"secret prompt")))
    for shown in (repr(upstream), str(problem), repr(problem)):
        assert "hush" not in shown
        assert "prompt" not in shown


@pytest.mark.skipif(which("openssl") is None, reason="needs the openssl program for certificates")
async def test_certificates_are_verified(tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out"]
    command = [*make.split(), *names, str(certificate)]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate, key)
    async with scripted(answering(whole(b"safe")), tls=server) as served:
        problem = await failure(Upstream(served.url).post(call()))
        assert problem.code == FailureKind.CRASHED
        assert "certificate" in str(problem).lower()
        trusting = ssl.create_default_context(cafile=str(certificate))
        upstream = Upstream(served.url, tls=trusting)
        assert await read(await upstream.post(call())) == b"safe"
        upstream.close()
