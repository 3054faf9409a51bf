"""The benchmark of residency: every policy has a row, and its figures are the runs'.

Owns a small run of each kind of row. Absolute results are the page's.
"""

from pathlib import Path

import pytest

from slalom.bench.residency.__main__ import main
from slalom.bench.residency.cells import Cell, Result, figures, play
from slalom.bench.residency.choices import CLAIRVOYANT, LRU, OURS, choices, online
from slalom.bench.residency.cost import measure
from slalom.bench.residency.pages import saved, worst
from slalom.metrics.records import RequestRecord

SCENARIOS = Path(__file__).parents[2] / "scenarios"


def test_every_policy_has_a_row() -> None:
    assert set(online()) <= {one.kind for one in choices()}


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> str:
    text = (SCENARIOS / "residency-h100-four.yaml").read_text(encoding="utf-8")
    text = text.replace("duration_seconds: 1800", "duration_seconds: 240")
    path = tmp_path_factory.mktemp("residency") / "short.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("choice", [LRU, OURS, CLAIRVOYANT[1]], ids=lambda one: one.name)
def test_a_run_counts_what_moved(choice: object, short: str) -> None:
    found: Result = play(Cell(short, 0, choice))  # type: ignore[arg-type]
    assert found["loads"] >= 2
    assert found["swapped_gib"] >= 17
    assert found["cold_start_s"] > 30
    assert found["requests"] == found["requests.completion"] + found["requests.reasoning"]
    assert 0 < found["attainment"] < 1


def test_figures_of_nothing_are_zero() -> None:
    rows: list[RequestRecord] = []
    assert figures(rows)["ttft_s"] == 0


def test_savings_are_of_the_seeds_that_both_have() -> None:
    rows = {"lru": [{"x": 10.0}, {"x": 99.0}], "penalty": [{"x": 4.0}]}
    assert saved(rows, "penalty", "x") == pytest.approx(0.6)


def test_the_worst_seed_is_the_one_on_which_least_is_gained() -> None:
    rows = {
        "lru": [{"attainment": 0.5}, {"attainment": 0.6}, {"attainment": 0.1}],
        "penalty": [{"attainment": 0.7}, {"attainment": 0.59}],
    }
    assert worst(rows, "penalty") == pytest.approx(-1.0)


def test_scenarios_beside_the_headline_are_repeated_as_often_as_is_said(
    short: str, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    folder = tmp_path / "scenarios"
    folder.mkdir()
    text = Path(short).read_text(encoding="utf-8").replace("seconds: 240", "seconds: 130")
    (folder / "short.yaml").write_text(text, encoding="utf-8")
    asked = "--scenario short --no-cost --forget --processes 1 --seeds 3 --elsewhere 1 --write"
    main([*asked.split(), str(page), "--folder", str(folder)])
    rows = page.read_text(encoding="utf-8")
    assert 'make bench-residency ARGS="--seeds 3 --elsewhere 1"' in rows
    assert "| lru | 1 |" in rows
    assert "| penalty | 1 |" in rows


@pytest.mark.parametrize("kind", online())
def test_the_cost_of_a_choice_is_measured_for_every_policy(kind: str) -> None:
    assert len(measure(kind, 5, models=40)) >= 5
