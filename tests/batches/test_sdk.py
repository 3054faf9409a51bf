"""Files and batches with the official client, unchanged."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest

from slalom.gateway.auth import key_digest
from slalom.gateway.params import KeyEntry
from slalom.testing import FakeLauncher, FakeScript
from slalom.testing.fake_script import FakeTimings
from slalom.testing.patience import until
from slalom.units import MS
from tests.batches.shop import CHAT, WAIT_S, Shop, chat_line, chat_lines, jsonl, shop


def slow() -> dict[str, FakeLauncher]:
    """An engine that takes a second for a line."""
    return {"a": FakeLauncher(FakeScript(timings=FakeTimings(token_ns=500 * MS)))}


async def test_a_batch_from_upload_to_results(tmp_path: Path) -> None:
    async with shop(tmp_path) as world:
        lines = [*chat_lines(20), chat_line("wrong", temperature="hot")]
        batch = await world.begin(lines)
        assert batch.status in {"validating", "in_progress"}
        assert batch.object == "batch"
        done = await world.ended(batch)
        assert done.status == "completed"
        counts = done.request_counts
        assert counts is not None
        assert (counts.total, counts.completed, counts.failed) == (21, 20, 1)
        assert done.model == "a"
        assert done.usage is not None
        assert done.usage.output_tokens == 40
        results = await world.read(done.output_file_id)
        assert results.keys() == {f"line-{number}" for number in range(20)}
        response = results["line-3"]["response"]
        assert response["status_code"] == 200
        assert response["request_id"]
        assert response["body"]["choices"][0]["message"]["content"] == " w0 w1"
        assert results["line-3"]["error"] is None
        errors = await world.read(done.error_file_id)
        assert errors["wrong"]["response"]["status_code"] == 400
        assert errors["wrong"]["response"]["body"]["error"]["param"] == "temperature"
        listed = [file async for file in world.sdk.files.list()]
        assert [file.purpose for file in listed] == ["batch_output", "batch_output", "batch"]


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/completions", {"prompt": "x", "max_tokens": 2}),
        ("/v1/embeddings", {"input": ["x", "y"]}),
        ("/v1/responses", {"input": "x", "max_output_tokens": 2}),
    ],
)
async def test_other_endpoints(tmp_path: Path, endpoint: Any, body: dict[str, Any]) -> None:
    line = {"method": "POST", "url": endpoint, "body": {"model": "a", **body}}
    async with shop(tmp_path) as world:
        lines = [{"custom_id": name, **line} for name in "xyz"]
        done = await world.ended(await world.begin(lines, endpoint))
        assert done.status == "completed"
        results = await world.read(done.output_file_id)
        assert {line["response"]["status_code"] for line in results.values()} == {200}
        assert results.keys() == {"x", "y", "z"}
        assert done.usage is not None
        assert done.usage.input_tokens > 0
        assert (done.usage.output_tokens == 6) == (endpoint != "/v1/embeddings")


async def test_files_live_and_go(tmp_path: Path) -> None:
    async with shop(tmp_path) as world:
        sdk = world.sdk
        data = jsonl(chat_lines(3))
        file = await sdk.files.create(
            file=("my lines.jsonl", data),
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
        assert (file.filename, file.bytes, file.purpose) == ("my lines.jsonl", len(data), "batch")
        assert file.expires_at == file.created_at + 3600
        assert await sdk.files.retrieve(file.id) == file
        assert (await sdk.files.content(file.id)).content == data
        assert (tmp_path / "files" / file.id).read_bytes() == data
        assert (await sdk.files.delete(file.id)).deleted
        assert not (tmp_path / "files" / file.id).exists()
        for use in (sdk.files.retrieve, sdk.files.content, sdk.files.delete):
            with pytest.raises(openai.NotFoundError):
                await use(file.id)


async def test_lists_come_in_pages(tmp_path: Path) -> None:
    async with shop(tmp_path, unfinished_max=7) as world:
        sdk = world.sdk
        ids = [await world.upload(chat_lines(1)) for _ in range(5)]
        page = await sdk.files.list(limit=2, order="asc")
        assert [file.id for file in page.data] == ids[:2]
        assert page.has_more
        assert [file.id async for file in sdk.files.list(limit=2, order="asc")] == ids
        assert [file.id async for file in sdk.files.list(limit=3)] == ids[::-1]
        assert not (await sdk.files.list(purpose="batch_output")).data
        batches = []
        for number in range(5):
            batch = await sdk.batches.create(
                completion_window="24h",
                endpoint=CHAT,
                input_file_id=ids[number],
                metadata={"number": str(number)},
            )
            batches.append(batch.id)
        found = [batch async for batch in sdk.batches.list(limit=2)]
        assert [batch.id for batch in found] == batches[::-1]
        assert found[0].metadata == {"number": "4"}
        with pytest.raises(openai.NotFoundError) as wrong:
            await sdk.batches.list(after="batch_nowhere")
        assert wrong.value.param == "after"
        with pytest.raises(openai.BadRequestError):
            await sdk.batches.list(limit=101)


async def test_metrics_count_lines_by_state(tmp_path: Path) -> None:
    async def counted(world: Shop) -> dict[str, float]:
        async with world.http.get(f"{world.url}/metrics") as reply:
            lines = (await reply.text()).splitlines()
        rows = [line.rpartition(" ") for line in lines if line.startswith("slalom_batch")]
        return {name: float(value) for name, _, value in rows if "_created" not in name}

    async with shop(tmp_path, slow()) as world:
        assert not any((await counted(world)).values())
        batch = await world.begin([*chat_lines(8), chat_line("wrong", temperature="hot")])
        seen: list[dict[str, float]] = []

        async def all_states() -> bool:
            seen.append(await counted(world))
            last = seen[-1]
            return bool(
                last['slalom_batch_lines{state="queued"}']
                and last['slalom_batch_lines{state="running"}']
                and last['slalom_batch_lines_ended_total{outcome="done"}']
            )

        await until(all_states, "some lines wait, some run, some are done", seconds=WAIT_S)
        assert sum(seen[-1].values()) <= 9
        await world.ended(batch)
        assert await counted(world) == {
            'slalom_batch_lines{state="queued"}': 0,
            'slalom_batch_lines{state="running"}': 0,
            'slalom_batch_lines_ended_total{outcome="done"}': 8,
            'slalom_batch_lines_ended_total{outcome="failed"}': 1,
            "slalom_batches_held": 0,
        }


async def test_a_batch_that_is_cancelled_keeps_what_is_done(tmp_path: Path) -> None:
    async with shop(tmp_path, slow()) as world:
        batch = await world.begin([*chat_lines(40)])

        async def some() -> bool:
            counts = (await world.sdk.batches.retrieve(batch.id)).request_counts
            return counts is not None and counts.completed > 0

        await until(some, "some lines are done", seconds=20)
        with pytest.raises(openai.ConflictError) as in_use:
            await world.sdk.files.delete(batch.input_file_id)
        assert in_use.value.code == "file_in_use"
        cancelling = await world.sdk.batches.cancel(batch.id)
        assert cancelling.status == "cancelling"
        done = await world.ended(batch)
        assert done.status == "cancelled"
        assert done.cancelled_at is not None
        counts = done.request_counts
        assert counts is not None
        assert counts.completed + counts.failed == counts.total == 40
        results = await world.read(done.output_file_id)
        errors = await world.read(done.error_file_id)
        assert (len(results), len(errors)) == (counts.completed, counts.failed)
        assert not results.keys() & errors.keys()
        assert {line["error"]["code"] for line in errors.values()} == {"batch_cancelled"}
        with pytest.raises(openai.ConflictError):
            await world.sdk.batches.cancel(batch.id)
        await until(lambda: _idle(world), "the engine is left alone", seconds=10)
        await world.sdk.files.delete(batch.input_file_id)


async def _idle(world: Shop) -> bool:
    return world.gateway.inflight == 0


async def test_the_window_ends(tmp_path: Path) -> None:
    now_s = [1_000_000.0]
    async with shop(tmp_path, slow(), now_s=lambda: now_s[0]) as world:
        batch = await world.begin(chat_lines(40))
        assert batch.expires_at == 1_000_000 + 86_400

        async def some() -> bool:
            counts = (await world.sdk.batches.retrieve(batch.id)).request_counts
            return counts is not None and counts.completed > 0

        await until(some, "some lines are done", seconds=20)
        now_s[0] += 86_401
        done = await world.ended(batch)
        assert done.status == "expired"
        errors = await world.read(done.error_file_id)
        assert {line["error"]["code"] for line in errors.values()} == {"batch_expired"}
        assert len(errors) + len(await world.read(done.output_file_id)) == 40


async def test_a_file_that_cannot_be_a_batch_says_where(tmp_path: Path) -> None:
    lines = [
        chat_line("a"),
        chat_line("a"),
        b"{not json",
        {**chat_line("b"), "url": "/v1/embeddings"},
        chat_line("c", stream=True),
        chat_line("d", model="nope"),
    ]
    async with shop(tmp_path) as world:
        done = await world.ended(await world.begin(lines))
        assert done.status == "failed"
        assert done.errors is not None
        assert done.errors.data is not None
        found = {(fault.line, fault.code) for fault in done.errors.data}
        assert found == {
            (2, "duplicate_custom_id"),
            (3, "invalid_json_line"),
            (4, "invalid_line"),
            (5, "invalid_line"),
            (6, "model_not_found"),
        }
        assert done.output_file_id is None
        assert done.error_file_id is None
        assert not world.launchers["a"].engines, "nothing was to be asked"


async def test_what_is_wrong_with_a_batch_is_told_at_once(tmp_path: Path) -> None:
    async with shop(tmp_path, files_max=2) as world:
        sdk = world.sdk
        file_id = await world.upload(chat_lines(1))
        good: dict[str, Any] = {
            "completion_window": "24h",
            "endpoint": CHAT,
            "input_file_id": file_id,
        }
        for wrong, param in (
            ({"completion_window": "1h"}, "completion_window"),
            ({"endpoint": "/v1/models"}, "endpoint"),
            ({"metadata": {"x": 1}}, "metadata"),
            ({"output_expires_after": {"anchor": "x", "seconds": 3600}}, None),
        ):
            with pytest.raises(openai.BadRequestError) as refused:
                await sdk.batches.create(**{**good, **wrong})
            assert param is None or refused.value.param == param
        with pytest.raises(openai.NotFoundError):
            await sdk.batches.create(**{**good, "input_file_id": "file-none"})
        with pytest.raises(openai.BadRequestError) as purpose:
            await sdk.files.create(file=("x", b"x"), purpose="vision")
        assert purpose.value.param == "purpose"
        await world.upload(chat_lines(1))
        with pytest.raises(openai.RateLimitError) as full:
            await world.upload(chat_lines(1))
        assert full.value.code == "too_many_files"
        assert full.value.response.headers["x-should-retry"] == "false"


async def test_a_key_sees_its_own_and_nothing_else(tmp_path: Path) -> None:
    keys = tuple(
        KeyEntry(name, key_digest(f"secret-{name}"), admin=name == "root")
        for name in ("one", "two", "root")
    )

    async with (
        shop(tmp_path, gateway=lambda params: _with(params, keys)) as world,
        world.client("secret-one") as one,
        world.client("secret-two") as two,
        world.client("secret-root") as root,
    ):
        file_id = await world.upload(chat_lines(3), one)
        batch = await one.batches.create(
            completion_window="24h", endpoint=CHAT, input_file_id=file_id
        )
        for other in (two, root):
            assert not (await other.files.list()).data
            assert not (await other.batches.list()).data
            for use, name in (
                (other.files.retrieve, file_id),
                (other.files.content, file_id),
                (other.files.delete, file_id),
                (other.batches.retrieve, batch.id),
                (other.batches.cancel, batch.id),
            ):
                with pytest.raises(openai.NotFoundError):
                    await use(name)
            with pytest.raises(openai.NotFoundError):
                await other.batches.create(
                    completion_window="24h", endpoint=CHAT, input_file_id=file_id
                )
        with pytest.raises(openai.AuthenticationError):
            await world.sdk.files.list()

        async def completed() -> bool:
            return (await one.batches.retrieve(batch.id)).status == "completed"

        await until(completed, "the batch completes", seconds=20)
        records = world.gateway.records.latest(10)
        lines = [record for record in records if record["path"] == CHAT]
        assert {(line["key"], line["task"]) for line in lines} == {("one", "batch")}
        assert len(lines) == 3


def _with(params: Any, keys: tuple[KeyEntry, ...]) -> Any:

    return replace(params, keys=keys)
