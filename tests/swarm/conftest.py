"""How many random worlds the swarm tries: `pytest tests/swarm --swarm-seeds 5000`."""

import pytest

DEFAULT_SEEDS = 500


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--swarm-seeds", type=int, default=DEFAULT_SEEDS, help="random worlds to try, from seed 0"
    )
    parser.addoption("--swarm-first", type=int, default=0, help="the first seed to try")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Groups of seeds, so that many seeds do not mean many lines."""
    if "seeds" in metafunc.fixturenames:
        # A run from the root does not know the option: this file is read too late for it.
        count = metafunc.config.getoption("--swarm-seeds", default=DEFAULT_SEEDS)
        first = metafunc.config.getoption("--swarm-first", default=0)
        step = max(count // 20, 1)
        starts = range(first, first + count, step)
        groups = [range(start, min(start + step, first + count)) for start in starts]
        metafunc.parametrize("seeds", groups, ids=lambda seeds: f"{seeds.start}-{seeds.stop - 1}")
