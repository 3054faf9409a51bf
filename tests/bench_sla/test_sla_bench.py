"""The command: a quick run writes every section, keeps its results and takes them again."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from slalom.bench.sla import cost
from slalom.bench.sla.__main__ import PARTS, main
from slalom.bench.sla.ablation import removals
from slalom.bench.sla.cells import Cell, Load, play
from slalom.bench.sla.choices import Choice, choices, for_any_engine, ours
from slalom.bench.sla.code import digest, policy_modules
from slalom.bench.sla.pages import joined
from slalom.bench.sla.reshaping import reshaped
from slalom.bench.sla.running import Runner, key_of
from slalom.config.scenario_load import load_scenario
from slalom.errors import ConfigError
from slalom.policies.registry import POLICIES
from slalom.workload.shapes import ShapedArrivals

SCENARIOS = Path(__file__).parents[2] / "scenarios"
FIRST_COME = Choice("first-come", "open", ordering="fcfs")
SMALL = Load(str(SCENARIOS / "saber-w1.yaml"), places=100, requests=10)


def _quick(part: str, folder: Path, *more: str) -> str:
    page = folder / "sla.md"
    names = ("--policy", "edf-drop", "--policy", "saber", "--policy", "plan-and-trim")
    kept = ("--keep", str(folder / "kept.jsonl"), "--processes", "1", "--seeds", "1")
    where = ("--folder", str(SCENARIOS), "--write", str(page))
    main(["--quick", "--part", part, *names, *kept, *where, *more])
    return page.read_text(encoding="utf-8")


def test_sabers_grid_has_a_row_for_every_rate(tmp_path: Path) -> None:
    text = _quick("saber", tmp_path, "--json", str(tmp_path / "sla.json"))
    assert text.count("| 20 | ") == 3
    assert text.count("\n| saber | ") == 3
    assert (tmp_path / "sla-saber.svg").stat().st_size > 0
    data = json.loads((tmp_path / "sla.json").read_text())
    assert set(data["saber"]) == {"W1", "W2", "W3"}
    assert data["saber"]["W3"]["attainment"]["best static"]


def test_standing_loads_are_played_around_their_knees(tmp_path: Path) -> None:
    text = _quick("standing", tmp_path)
    assert text.count("**poisson**, knee at") == 2
    assert text.count("\n| edf-drop | ") == 2


def test_wrong_predictions_have_a_row_each(tmp_path: Path) -> None:
    text = _quick("robustness", tmp_path)
    assert "| step times × 0.6 |" in text
    assert "| all lengths double at half time |" in text


def test_every_part_of_ours_is_removed_in_turn(tmp_path: Path) -> None:
    whole = ours()
    assert whole is not None
    without = removals(whole)
    assert {"defer_max", "displace_max", "pauses_max", "late"} <= set(without)
    for name, choice in without.items():
        assert dict(choice.options)[name] != getattr(whole.policies().admission, name)
        assert choice.policies().admission != whole.policies().admission
    text = _quick("ablation", tmp_path)
    assert text.count("\n| `") == len(without)


def test_an_unknown_policy_is_told() -> None:
    with pytest.raises(ConfigError, match="there is no nonsense; known: first-come"):
        main(["--quick", "--policy", "nonsense"])


def test_sections_of_other_parts_stay(tmp_path: Path) -> None:
    page = joined("", {"cost": "## Costs", "saber": "## Grid"}, PARTS)
    assert page.index("## Grid") < page.index("## Costs")
    again = joined(page, {"saber": "## New grid"}, PARTS)
    assert "## Costs" in again
    assert "## New grid" in again
    assert "## Grid" not in again


def test_costs_are_measured_at_the_queues_length() -> None:
    choice = next(one for one in for_any_engine() if one.kind == "edf-drop")
    found = cost.measure(choice, 50, cycles=10)
    assert found.plans_ns
    assert len(found.events_ns) >= 10
    text = "\n".join(cost.section([found, cost.measure(choice, 100, cycles=10)], [50, 100]))
    assert "100 waiting" in text
    assert "n^" in text


def test_a_policy_that_lets_no_queue_form_has_no_cost_there() -> None:
    choice = next(one for one in for_any_engine() if one.kind == "velocity")
    found = [cost.measure(choice, queue, cycles=5) for queue in (20, 500)]
    assert found[0].events_ns
    assert not found[1].events_ns
    row = next(line for line in cost.section(found, [20, 500]) if line.startswith("| velocity"))
    assert row.endswith("| – | – |")


def test_results_are_kept_and_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [Cell(SMALL, seed, FIRST_COME) for seed in range(2)]
    kept = tmp_path / "deep" / "kept.jsonl"
    first = Runner(1, kept).play(cells, "test")
    monkeypatch.setattr("slalom.bench.sla.running.play", lambda cell: pytest.fail("played again"))
    assert Runner(1, kept).play(cells, "test") == first
    with kept.open("a") as file:
        file.write('{"key": "half of a li')
    assert Runner(1, kept).play(cells, "test") == first


def test_a_key_is_of_the_cell_the_policy_and_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell(SMALL, 0, FIRST_COME)
    others = [
        Cell(SMALL, 1, FIRST_COME),
        Cell(SMALL, 0, None),
        Cell(SMALL, 0, FIRST_COME.changed("first-come", x=1)),
    ]
    assert len({key_of(one) for one in (cell, *others)}) == 4
    before = key_of(cell)
    monkeypatch.setattr("slalom.bench.sla.running._code", lambda *names: "other")
    assert key_of(cell) != before


def test_the_code_of_one_policy_is_not_that_of_another() -> None:
    edf_drop = policy_modules("edf-drop", "edf")
    assert "slalom.policies.edf_drop" in edf_drop
    assert digest(edf_drop) != digest(policy_modules("niyama", "edf"))
    world = ["slalom.twin.run", "slalom.policies.registry"]
    assert digest(world) == digest(world[:1])


def test_every_row_of_the_table_can_be_built() -> None:
    for choice in [*choices(), *for_any_engine()]:
        assert choice.policies().admission is not None
    assert {choice.kind for choice in choices()} == set(POLICIES["admission"])


def test_what_is_told_changes_and_what_arrives_does_not() -> None:
    saber = Choice("saber", "saber", (("law", "fit"),), ordering="fcfs")
    load = Load(str(SCENARIOS / "saber-w1.yaml"), rate=2.0, places=100, requests=30)
    right = play(Cell(load, 0, saber))
    wrong = play(Cell(replace(load, calibrated=3.0), 0, saber))
    assert right["injected"] == wrong["injected"] == 30
    assert right["ttft_ms.p95"] != wrong["ttft_ms.p95"]
    longer = play(Cell(replace(load, shift=0.5), 0, saber))
    assert longer["e2e_ms.p50"] < right["e2e_ms.p50"]


def test_a_shape_is_squeezed_and_its_rate_stays() -> None:
    plan = load_scenario(SCENARIOS / "step.yaml").plan
    short = reshaped(plan, 0.1)
    assert short.duration_ns * 10 == plan.duration_ns
    assert short.rate_per_s == plan.rate_per_s
    arrivals = short.groups[0].arrivals
    assert isinstance(arrivals, ShapedArrivals)
    assert [length for length, _ in arrivals.pieces] == [9.0, 3.0, 7.5]
