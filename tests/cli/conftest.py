"""Fixtures of the command line's tests: a stub server, and no configuration of the machine's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.stub_server import StubServer


@pytest.fixture
def stub() -> Iterator[StubServer]:
    server = StubServer()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder, configuration and state of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg-config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg-state"))
    for name in ("SLALOM_CONFIG", "SLALOM_URL", "SLALOM_API_KEY"):
        monkeypatch.delenv(name, raising=False)
