"""The page about clients names each that is tried, with its version."""

from importlib.metadata import version
from pathlib import Path

import pytest

from tests.clients.pins import PINS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "clients.md"
#: On the page by another name than the pin's.
_CALLED = {
    "claude": "Claude Code",
    "codex": "Codex",
    "qwen": "Qwen Code",
    "continue": "Continue",
    "tabby": "tabby-agent",
}


def test_every_client_is_on_the_page_with_its_version() -> None:
    wanted = {_CALLED.get(name, name): pin.version for name, pin in PINS.items()}
    assert {name: found for name, found in _versions().items() if name in wanted} == wanted
    assert _versions().keys() - wanted.keys() == {"openai", "anthropic"}


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_the_official_sdks_are_those_of_the_lock(name: str) -> None:
    assert _versions()[name] == ".".join(version(name).split(".")[:2])


def _versions() -> dict[str, str]:
    """Name -> version, of each row."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [line.split("|") for line in lines if line.startswith("| ")]
    return {
        cells[1].partition("(")[0].strip(" `"): cells[2].strip()
        for cells in rows
        if cells[1].strip() not in {"client", "---"}
    }
