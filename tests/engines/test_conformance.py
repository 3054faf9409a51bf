"""Every engine of this repository passes the whole conformance kit."""

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
