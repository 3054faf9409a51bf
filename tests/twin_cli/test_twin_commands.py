"""The `twin` commands on a small scenario: paired runs, stable JSON, capacity, sweep, diff."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from slalom.cli import app

TEXT = """\
name: tiny
requests: 120
seeds: 2
clients:
  - arrivals: {kind: poisson, rate_per_s: 6}
    mix:
      - task: completion
        model: small
        weight: 3
        prompt: {kind: lognormal, median: 500, sigma: 0.5}
        output: {kind: uniform, low: 1, high: 30}
        max_tokens: 30
        typed_on_share: 0.2
      - task: generation
        model: [small, other]
        prompt: {kind: fixed, tokens: 300}
        output: {kind: uniform, low: 50, high: 150}
models:
  - {id: small, bytes: 2GiB, places: 2, engine: {kind: simple}}
  - {id: other, bytes: 3GiB, places: 2, engine: {kind: simple}}
devices:
  - {id: gpu, budget: 4GiB}
policies:
  first-come: {ordering: {kind: fcfs}}
  drop-late: {admission: {kind: drop-late}}
"""


#: The same with both models in memory all along.
ROOMY = TEXT.replace("budget: 4GiB", "budget: 8GiB").replace("places: 2", "places: 2, pinned: true")


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TEXT)
    return path


def invoke(*words: object) -> Result:
    return CliRunner().invoke(app, ["twin", *map(str, words)], env={"COLUMNS": "120"})


def document(*words: object) -> Any:
    done = invoke(*words, "--json", "-")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_run_shows_policies_side_by_side(scenario: Path) -> None:
    done = invoke("run", scenario)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["first-come", "drop-late"]
    for label in (
        "goodput",
        "attainment",
        "worst task",
        "TTFT p99",
        "TPOT p95",
        "E2E p50",
        "shed",
        "cancelled",
        "superseded",
        "evictions",
        "loads",
        "cold starts",
        "devices busy",
        "useful tokens",
        "wasted device time",
    ):
        row = next(line for line in lines if line.startswith(label))
        assert row.count("±") == 2, row


def test_every_policy_meets_the_same_load(scenario: Path) -> None:
    found = document("run", scenario)["policies"]
    for seed in range(2):
        runs = [found[name]["runs"][seed]["figures"] for name in found]
        assert runs[0]["injected"] == runs[1]["injected"] == 120
    assert found["first-come"]["runs"] != found["drop-late"]["runs"]
    assert found["drop-late"]["estimates"]["refused"]["mean"] > 0


def test_counts_add_up(scenario: Path) -> None:
    for policy in document("run", scenario)["policies"].values():
        for run in policy["runs"]:
            figures = run["figures"]
            names = ("done", "refused", "failed", "cancelled", "superseded")
            ends = sum(figures[name] for name in names)
            assert ends == figures["injected"]
            assert figures["cancelled"] > 0
            assert 0 < figures["busy_share"] <= 1
            assert 0 <= figures["useful_token_share"] <= 1
            assert figures["loads"] >= 1
            assert figures["cold_start_s"] > 0


def test_a_bound_lies_above_every_policy(scenario: Path) -> None:
    scenario.write_text(ROOMY)
    for policy in document("run", scenario, "--bound", "--seeds", 1)["policies"].values():
        figures = policy["runs"][0]["figures"]
        assert figures["good"] / 120 <= figures["schedule_share"] <= figures["bound_share"] <= 1
        assert 0 < figures["good_of_bound"] <= 1


def test_records_of_all_runs_go_to_a_file(scenario: Path, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    found = document("run", scenario, "--records", path)["policies"]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == 2 * 2 * 120
    for name, policy in found.items():
        for run in policy["runs"]:
            mine = [r for r in rows if (r["policy"], r["seed"]) == (name, run["seed"])]
            assert sum(row["good"] for row in mine) == run["figures"]["good"]
            assert sum(row["fate"] == "refused" for row in mine) == run["figures"]["refused"]
    done = invoke("run", scenario, "--records", tmp_path / "absent" / "r.jsonl")
    assert done.exit_code == 1
    assert "name a file in a folder that exists" in done.stderr


def test_sessions_have_a_bound_too(scenario: Path) -> None:
    two = "{kind: fixed, tokens: 2}"
    steps = f"    steps: {{count: {two}, gap_seconds: 1, appended: {two}}}\n"
    scenario.write_text(ROOMY.replace("models:\n", f"{steps}models:\n", 1))
    for policy in document("run", scenario, "--bound", "--seeds", 1)["policies"].values():
        figures = policy["runs"][0]["figures"]
        assert 120 < figures["injected"] <= 240
        shares = figures["schedule_share"], figures["bound_share"]  # six digits are told
        assert round(figures["good"] / 240, 6) <= shares[0] <= shares[1] <= 1
        assert 0 < figures["good_of_bound"] <= 1
    shown = invoke("run", scenario, "--bound", "--seeds", 1).stdout
    assert "good of what is possible" in shown


def test_a_policy_can_be_written_on_the_command_line(scenario: Path) -> None:
    name = "admission=drop-late,ordering=edf"
    found = document("run", scenario, "--policy", name, "--policy", "drop-late", "--seeds", 1)
    assert list(found["policies"]) == [name, "drop-late"]
    assert found["policies"][name] == found["policies"]["drop-late"]


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("drop-lat", "did you mean 'drop-late'?"),
        ("order=edf", "is not slot=kind; slots: admission"),
        ("ordering=edff", "did you mean 'edf'?"),
    ],
)
def test_an_unknown_policy_is_told(scenario: Path, policy: str, says: str) -> None:
    done = invoke("run", scenario, "--policy", policy)
    assert done.exit_code == 1
    assert says in done.stderr


def test_results_are_the_same_bytes_whatever_the_hash_seed(scenario: Path) -> None:
    types = "keystrokes: {share: 0.4, cancels: 0.5, supersede: true}"
    text = TEXT.replace("typed_on_share: 0.2", types)
    scenario.write_text(text.replace("models:\n", "    retries: {tries: 2}\nmodels:\n", 1))
    texts = []
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "slalom", "twin", "run", scenario, "--json", "-"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        )
        texts.append(done.stdout)
    assert texts[0] == texts[1] != b""


def test_a_sweep_goes_on_where_it_was_ended(scenario: Path, tmp_path: Path) -> None:
    kept = tmp_path / "cells.jsonl"
    words = ("sweep", scenario, "--rates", "2,20", "--processes", 1)
    whole = document(*words)
    assert document(*words, "--keep", kept) == whole
    cells = kept.read_text().splitlines(keepends=True)
    assert len(cells) == 8
    # Ended while it wrote its fifth cell; what is there is not run again.
    forged = json.loads(cells[0])
    forged["figures"]["goodput_per_s"] = 123.0
    kept.write_text(json.dumps(forged) + "\n" + "".join(cells[1:4]) + cells[4][:30])
    again = document(*words, "--keep", kept)
    assert again["points"][1] == whole["points"][1]
    first = again["points"][0]["policies"]["first-come"]["runs"]
    assert first[0]["figures"]["goodput_per_s"] == 123.0
    assert [json.loads(line)["seed"] for line in kept.read_text().splitlines()]
    assert len(kept.read_text().splitlines()) == 8


def test_a_sweep_over_processes_gives_the_same(scenario: Path) -> None:
    words = ("sweep", scenario, "--rates", "3", "--policy", "default", "--seeds", 2)
    assert document(*words, "--processes", 2) == document(*words, "--processes", 1)


def test_cells_of_another_scenario_are_refused(scenario: Path, tmp_path: Path) -> None:
    kept = tmp_path / "cells.jsonl"
    words = (
        "sweep",
        scenario,
        "--rates",
        "3",
        "--policy",
        "default",
        "--seeds",
        1,
        "--processes",
        1,
        "--keep",
        kept,
    )
    assert invoke(*words).exit_code == 0
    scenario.write_text(TEXT.replace("places: 2", "places: 3"))
    done = invoke(*words)
    assert done.exit_code == 1
    assert "cells.jsonl:1: the cell is of another scenario" in done.stderr


def test_capacity_falls_with_what_is_asked(scenario: Path) -> None:
    scenario.write_text(ROOMY)
    found = document("capacity", scenario, "--policy", "drop-late", "--at", 70, "--at", 90)
    rates = found["policies"]["drop-late"]
    assert rates["0.7"]["rate_per_s"] > rates["0.9"]["rate_per_s"] > 0
    assert rates["0.7"]["margin"] >= 0


def test_a_trace_is_swept_and_searched(scenario: Path, tmp_path: Path) -> None:
    row = '{{"at_ms": {}, "prompt_tokens": 100, "output_tokens": 20}}\n'
    (tmp_path / "t.jsonl").write_text("".join(row.format(n * 100) for n in range(40)))
    trace = "kind: trace, path: absent.jsonl"
    text = ROOMY.replace("requests: 120\n", "").replace("kind: poisson, rate_per_s: 6", trace)
    scenario.write_text(text)
    words = (scenario, "--trace", tmp_path / "t.jsonl", "--to", "2", "--seeds", 1)
    points = document("sweep", *words, "--rates", "5", "--processes", 1)["points"]
    for policy in points[0]["policies"].values():
        assert policy["estimates"]["injected"]["mean"] == 20
    found = document("capacity", *words, "--policy", "drop-late", "--at", 50)
    assert found["policies"]["drop-late"]["0.5"]["rate_per_s"] > 0
    assert "absent.jsonl: cannot be read" in invoke("sweep", scenario, "--rates", "5").stderr


def test_a_diff_pairs_runs_by_seed(scenario: Path, tmp_path: Path) -> None:
    scenario.write_text(ROOMY)
    before, after = tmp_path / "a.json", tmp_path / "b.json"
    words = ("--policy", "default", "--seeds", 3, "--json")
    assert invoke("run", scenario, *words, before).exit_code == 0
    assert invoke("diff", before, before).stdout == "no figure differs\n"
    scenario.write_text(ROOMY.replace("places: 2", "places: 1"))
    assert invoke("run", scenario, *words, after).exit_code == 0
    done = invoke("diff", before, after, "--exit-code")
    assert done.exit_code == 1
    rows = [line.split() for line in done.stdout.splitlines()]
    goodput = next(row for row in rows if row[1] == "goodput_per_s")
    assert float(goodput[4]) < 0
    assert float(goodput[3]) - float(goodput[2]) == pytest.approx(float(goodput[4]), rel=0.05)


def test_a_diff_of_what_is_no_result_is_told(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"a": 1}')
    assert "not what `slalom twin run" in invoke("diff", wrong, wrong).stderr
    assert "cannot be read as JSON" in invoke("diff", tmp_path / "no.json", wrong).stderr


def test_figures_are_drawn(scenario: Path, tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    assert invoke("run", scenario, "--seeds", 1, "--plot", folder).exit_code == 0
    words = ("--rates", "2,20", "--seeds", 1, "--processes", 1, "--plot", folder)
    assert invoke("sweep", scenario, *words).exit_code == 0
    drawn = sorted(path.name for path in folder.iterdir())
    assert drawn == ["goodput.svg", "latencies.svg", "timeline-0.svg", "timeline-1.svg"]
    assert "completion" in (folder / "timeline-0.svg").read_text()


def test_rates_that_are_none_are_told(scenario: Path) -> None:
    done = invoke("sweep", scenario, "--rates", "2,-1")
    assert done.exit_code == 1
    assert "'-1' is no rate above 0" in done.stderr


def test_the_schema_is_json_and_names_every_section() -> None:
    schema = json.loads(invoke("schema").stdout)
    assert {"clients", "models", "devices", "policies"} <= set(schema["properties"])
