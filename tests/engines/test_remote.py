"""What only the remote launcher does: URLs and keys."""

from pathlib import Path

import pytest

from slalom.core.events import FailureKind
from slalom.engines.remote import RemoteLauncher, RemoteOptions
from slalom.errors import ConfigError, EngineError
from slalom.testing.engine_talk import ask
from tests.engines.subjects import fake_server


def nothing(_fraction: float) -> None:
    """Nobody wants to know the progress."""


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
async def test_base_url_is_taken_as_clients_write_it(suffix: str) -> None:
    async with fake_server("--model", "theirs") as (_, port):
        options = RemoteOptions(f"http://127.0.0.1:{port}{suffix}", model_name="theirs")
        engine = await RemoteLauncher(options, model_name="ours").launch("r-1", nothing)
        answer = await ask(engine, max_tokens=1)
        assert answer.status == 200
        assert answer.document is not None
        assert answer.document["model"] == "theirs"
        assert await engine.memory_bytes() == 0
        assert await engine.metrics() is None  # no path was given
        await engine.stop(1.0)


async def test_wrong_key_and_wrong_path_are_told_at_once() -> None:
    async with fake_server("--api-key", "right") as (_, port):
        url = f"http://127.0.0.1:{port}"
        for options in (
            RemoteOptions(url, api_key="hush-wrong"),
            RemoteOptions(url, api_key="right", health_path="/nowhere"),
        ):
            with pytest.raises(EngineError) as caught:
                await RemoteLauncher(options, model_name="m").launch("r-1", nothing)
            assert caught.value.code == FailureKind.START_FAILED
            assert "api_key" in str(caught.value)
            assert "hush" not in str(caught.value)


async def test_one_that_is_never_ready_times_out_with_what_it_said() -> None:
    async with fake_server("--load-s", "600") as (_, port):
        options = RemoteOptions(f"http://127.0.0.1:{port}", ready_timeout_s=0.3)
        with pytest.raises(EngineError, match="503") as caught:
            await RemoteLauncher(options, model_name="m").launch("r-1", nothing)
        assert caught.value.code == FailureKind.LOAD_TIMEOUT


@pytest.mark.parametrize(
    "options",
    [
        RemoteOptions("localhost:8000"),
        RemoteOptions("http://user:hush@host"),
        RemoteOptions("http://host", api_key="hush hush"),
        RemoteOptions("http://host", api_key="hush\r\nx: y"),
        RemoteOptions("https://host", ca_file=Path("/nowhere/ca.pem")),
    ],
)
def test_mistakes_are_found_when_the_configuration_is_read(options: RemoteOptions) -> None:
    with pytest.raises(ConfigError) as caught:
        RemoteLauncher(options, model_name="m")
    assert "hush" not in str(caught.value)


def test_the_key_is_not_shown() -> None:
    options = RemoteOptions("http://host", api_key="hush")
    assert "hush" not in repr(options) + repr(RemoteLauncher(options, model_name="m"))
