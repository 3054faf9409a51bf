"""Uploads: read as they come, within bounds, in full or not at all."""

import asyncio
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slalom.errors import RequestError
from slalom.gateway.batches.upload import _Reading
from slalom.testing.patience import until
from slalom.units import KIB
from tests.batches.shop import Shop, shop

BOUNDARY = "------x7"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def form(content: bytes, *, purpose: str = "batch", filename: str = "a.jsonl") -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n'
    head += f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="file"; filename="{filename}"'
    head += "\r\ncontent-type: application/octet-stream\r\n\r\n"
    return head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def left_behind(folder: Path) -> list[str]:
    return [path.name for part in ("files", "incoming") for path in (folder / part).iterdir()]


@given(st.binary(max_size=200), st.lists(st.integers(0, 600), max_size=12))
@settings(deadline=None)
def test_however_it_is_cut_the_content_is_the_same(content: bytes, cuts: list[int]) -> None:
    content = content.replace(BOUNDARY.encode(), b"")
    data, reading, start = form(content), _Reading(BOUNDARY.encode(), 1000), 0
    for cut in [*sorted(cuts), len(data)]:
        reading.feed(data[start:cut])
        start = max(start, cut)
    reading.close()
    assert reading.take() == content
    assert reading.form.filename == "a.jsonl"
    assert reading.form.fields == {"purpose": "batch"}
    assert reading.form.size_bytes == len(content)


@given(st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_garbage_is_the_clients_fault(data: bytes) -> None:
    reading = _Reading(BOUNDARY.encode(), 1000)
    with pytest.raises(RequestError):  # noqa: PT012 - either may notice
        reading.feed(data)
        reading.close()


async def test_a_large_file_comes_through_whole(tmp_path: Path) -> None:
    content = bytes(range(256)) * (12 * KIB)
    async with shop(tmp_path) as world:
        async with world.http.post(
            f"{world.url}/v1/files", data=BytesIO(form(content)), headers=FORM
        ) as r:
            assert r.status == 200
            document = await r.json()
        assert document["bytes"] == len(content)
        assert world.desk.incoming_bytes == 0
        path = tmp_path / "files" / document["id"]
        assert path.read_bytes() == content
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("data", "headers", "status", "code"),
    [
        (form(b"x" * 5000), FORM, 413, "file_too_large"),
        (form(b"x" * 100_000), FORM, 413, "file_too_large"),
        (form(b"x", purpose="vision"), FORM, 400, "invalid_request"),
        (form(b"x" * 99)[:-20], FORM, 400, "invalid_form"),
        (b"nothing of the kind", FORM, 400, "invalid_form"),
        (form(b"").replace(b"; filename", b"; other"), FORM, 400, "invalid_request"),
        (b"{}", {"content-type": "application/json"}, 415, "unsupported_media_type"),
    ],
)
async def test_what_is_refused_leaves_nothing(
    tmp_path: Path, data: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    async with shop(tmp_path, file_bytes_max=4096) as world:
        url = f"{world.url}/v1/files"
        async with world.http.post(url, data=data, headers=headers) as reply:
            assert reply.status == status
            assert (await reply.json())["error"]["code"] == code
        assert left_behind(tmp_path) == []
        assert world.desk.incoming_bytes == 0


async def test_a_client_that_leaves_leaves_nothing(tmp_path: Path) -> None:
    async with shop(tmp_path) as world:
        _, writer = await asyncio.open_connection("127.0.0.1", world.server.port)
        head = f"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-type: {FORM['content-type']}\r\n"
        writer.write(head.encode() + b"content-length: 9000000\r\n\r\n")
        writer.write(form(b"x" * 4_000_000)[:-20])
        await writer.drain()

        async def begun() -> bool:
            return world.desk.incoming_bytes > 0

        await until(begun, "the upload has begun", seconds=10)
        writer.close()

        async def gone() -> bool:
            return not left_behind(tmp_path) and not world.desk.incoming_bytes

        await until(gone, "nothing is left", seconds=10)


async def test_a_full_disk_is_told_and_what_is_stored_stays(tmp_path: Path) -> None:
    async with shop(tmp_path, total_bytes_max=10_000) as world:
        kept = await _post(world, form(b"x" * 6000))
        assert kept[0] == 200
        status, document = await _post(world, form(b"y" * 6000))
        assert status == 507
        assert document["error"]["code"] == "storage_full"
        assert "max_total_mib" in document["error"]["message"]
        assert left_behind(tmp_path) == [kept[1]["id"]]


async def _post(world: Shop, data: bytes) -> tuple[int, dict[str, Any]]:
    async with world.http.post(f"{world.url}/v1/files", data=data, headers=FORM) as reply:
        return reply.status, await reply.json()


async def test_a_body_without_a_length_is_bounded_too(tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield form(b"")[:-20]
        for _ in range(200):
            yield b"x" * 1000

    async with shop(tmp_path, file_bytes_max=4096) as world:
        url = f"{world.url}/v1/files"
        async with world.http.post(url, data=endless(), headers=FORM) as reply:
            assert reply.status == 413
        assert left_behind(tmp_path) == []
