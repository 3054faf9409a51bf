"""Tests on a real Ray cluster take minutes: they run only where `-m ray` asks for them."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what needs Ray in an ordinary run."""
    if "ray" in str(config.getoption("markexpr")):
        return
    skip = pytest.mark.skip(reason="opt-in: make test-ray")
    for item in items:
        if item.get_closest_marker("ray"):
            item.add_marker(skip)
