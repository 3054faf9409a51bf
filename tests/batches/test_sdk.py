"""Files and batches with the official client, unchanged."""

from pathlib import Path

from tests.batches.shop import chat_line, chat_lines, shop


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
