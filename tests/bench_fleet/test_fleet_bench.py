"""The benchmark of fleets: its rows can be played, and its figures are the runs'.

Owns small runs. Absolute results are the page's.
"""

from pathlib import Path

import pytest

from slalom.bench.fleet.cells import Arrivals, Cell, Upkeep, figures, play
from slalom.bench.fleet.choices import OURS, RAY, choices
from slalom.bench.fleet.cost import measure
from slalom.bench.fleet.paper import SETTINGS
from slalom.core.actions import LoadReplica
from slalom.core.events import ReplicaGone
from slalom.core.journal import Entry
from slalom.policies.registry import POLICIES
from slalom.units import SECOND

SCENARIOS = Path(__file__).parents[2] / "scenarios"


def test_the_rows_name_policies_that_there_are() -> None:
    for row in choices(2):
        assert row.routing in POLICIES["routing"]
        assert row.policies().scaling.every_ns >= 0
        assert len(row.modules()) == 4


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> str:
    text = (SCENARIOS / "fleet-own.yaml").read_text(encoding="utf-8")
    text = text.replace("requests: 200", "requests: 60").replace("warm_up_seconds: 20", "")
    path = tmp_path_factory.mktemp("fleet") / "short.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("arrivals", ["uniform", "bursty"])
@pytest.mark.parametrize("choice", [RAY, OURS], ids=lambda one: one.name)
def test_a_run_has_the_papers_figures(choice: object, arrivals: Arrivals, short: str) -> None:
    found = play(Cell(short, arrivals, 1.0, 0, choice))  # type: ignore[arg-type]
    assert found["requests"] == 60
    assert 0 < found["attainment"] <= 1
    assert found["e2e_p95_s.summarisation"] > 1
    assert found["ttft_p95_s.generation"] > 0.1
    assert found["loads"] >= 4
    assert found["replica_s"] > 4 * 10


def test_the_settings_fill_eight_replicas() -> None:
    for name, (_, static) in SETTINGS.items():
        text = (SCENARIOS / f"{name}.yaml").read_text(encoding="utf-8")
        assert text.count("engine:") * static == text.count("budget:") == 8


def test_upkeep_counts_from_load_to_end() -> None:
    upkeep = Upkeep()
    loads = (LoadReplica("a#0", 1, "a"), LoadReplica("b#0", 2, "b"))
    upkeep.watch(Entry(2 * SECOND, (), loads))
    upkeep.watch(Entry(5 * SECOND, (ReplicaGone("a#0", 1),), ()))
    assert upkeep.up_ns(10 * SECOND) == (3 + 8) * SECOND
    assert upkeep.up_ns(4 * SECOND) == (2 + 2) * SECOND


def test_figures_of_nothing() -> None:
    assert figures([], 1.0)["attainment"] == 0


def test_the_cost_of_a_decision_is_measured_on_a_fleet_that_is_up() -> None:
    found = measure(RAY, 20, 4, 100)
    assert found.replicas == 20
    assert found.request_us > 1
