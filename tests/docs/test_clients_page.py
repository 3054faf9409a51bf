"""The page about clients names each that is tried, with its version."""

from pathlib import Path

from tests.clients.pins import PINS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "clients.md"
#: Tried too, and no client that anybody would point at a server.
_TOOLS = {"schemathesis"}


def test_every_client_is_on_the_page_with_its_version() -> None:
    versions = [cells[2].strip() for cells in _rows()]
    pinned = [pin.version for name, pin in PINS.items() if name not in _TOOLS]
    assert sorted(version for version in versions if version in pinned) == sorted(pinned)


def _rows() -> list[list[str]]:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return [line.split("|") for line in lines if line.startswith("| ")]
