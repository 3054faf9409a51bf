"""Every engine of this repository passes the whole conformance kit."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from slalom.engines import http_engine
from slalom.testing import CHECKS, Outcome, fake_engine, run_check
from tests.engines.subjects import SUBJECTS

#: What an engine may say it cannot do; everything else must pass.
MAY_SKIP = {
    ("llama_cpp", "sleep"),
    ("llama_command", "sleep"),
    ("llama_command", "embeddings"),
    ("llama_command", "fill_in_the_middle"),
    ("fake_command", "fill_in_the_middle"),
    ("remote", "fill_in_the_middle"),
}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", SUBJECTS)
async def test_engine_keeps_its_promise(
    name: str, check: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A frozen engine is asked several times: five seconds each is for production.
    monkeypatch.setattr(http_engine, "PROBE_TIMEOUT_S", 1.0)
    monkeypatch.setattr(fake_engine, "PROBE_TIMEOUT_S", 0.2)
    result = await run_check(check, SUBJECTS[name](tmp_path))
    if (name, check) in MAY_SKIP:
        assert result.outcome is Outcome.SKIPPED, result
    else:
        assert result.outcome is Outcome.PASSED, result


@pytest.mark.skipif(find_spec("uvloop") is None, reason="uvloop does not exist for this platform")
@pytest.mark.parametrize("check", ["cancel", "crash", "load_failures", "cancel_load", "stop"])
def test_processes_and_aborts_under_the_loop_of_production(check: str, tmp_path: Path) -> None:
    import uvloop  # noqa: PLC0415 - not on every platform

    result = uvloop.run(run_check(check, SUBJECTS["llama_cpp"](tmp_path)))
    assert result.outcome is Outcome.PASSED, result
