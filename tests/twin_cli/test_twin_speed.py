"""The loads of the twin's speed benchmark: each is played to its end, by who its title names."""

from collections.abc import Callable

import pytest

from slalom.bench.twin import LOADS
from slalom.bench.twin_loads import PLANNER
from slalom.core.planning import Planning
from slalom.twin.run import run
from slalom.twin.scenario import Scenario

_REQUESTS = 12


@pytest.mark.parametrize(
    ("title", "build"),
    [(title, build) for title, (build, _) in LOADS.items() if "fleet" not in title],
)
def test_each_load_is_played_whole(title: str, build: Callable[[int], Scenario]) -> None:
    scenario = build(_REQUESTS)
    assert isinstance(scenario.policies.admission, Planning) == (PLANNER in title)
    assert len(run(scenario).ends) == _REQUESTS


def test_what_is_overloaded_comes_faster_than_its_file_says() -> None:
    loads = [build(400) for title, (build, _) in LOADS.items() if "1.5" in title]
    spans_s = [max(one.request.arrived_ns for one in load.arrivals) / 1e9 for load in loads]
    assert spans_s == [pytest.approx(400 / 12.5, rel=0.2)] * 2
