"""The page of the standing loads: a section for each scenario, a row for each set of policies."""

from pathlib import Path

import pytest

from slalom.bench import twin_results
from slalom.errors import ConfigError

TEXT = """\
name: tiny
about: A tiny one.
requests: 20
clients:
  - arrivals: {kind: ARRIVALS}
    mix:
      - task: completion
        model: small
        prompt: {kind: fixed, tokens: 100}
        output: {kind: fixed, tokens: 10}
models:
  - {id: small, bytes: 2GiB, pinned: true, engine: {kind: simple}}
devices:
  - {id: gpu, budget: 4GiB}
policies:
  first-come: {ordering: {kind: fcfs}}
  drop-late: {admission: {kind: drop-late}}
"""


def test_a_row_for_each_set_of_policies(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TEXT.replace("ARRIVALS", "poisson, rate_per_s: 4"))
    out = tmp_path / "page.md"
    twin_results.main(["--folder", str(tmp_path), "--seeds", "2", "--write", str(out)])
    lines = out.read_text().splitlines()
    assert "## tiny" in lines
    assert "A tiny one. 4 arrivals/s." in lines
    rows = [line for line in lines if line.startswith(("| first-come", "| drop-late"))]
    assert len(rows) == 2
    assert all(row.count("±") > 5 for row in rows)


def test_only_a_trace_that_is_away_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SLALOM_DATA", raising=False)
    arrivals = "trace, format: azure, path: $SLALOM_DATA/t.csv"
    (tmp_path / "tiny.yaml").write_text(TEXT.replace("ARRIVALS", arrivals))
    twin_results.main(["--folder", str(tmp_path)])
    assert "tiny.yaml: left out" in capsys.readouterr().err
    (tmp_path / "tiny.yaml").write_text(TEXT.replace("ARRIVALS", "poisson, rate_per_s: -4"))
    with pytest.raises(ConfigError, match="greater than 0"):
        twin_results.main(["--folder", str(tmp_path)])


def test_a_load_of_typing_is_shown_for_several_shares_of_stale_requests(tmp_path: Path) -> None:
    types = (
        "output: {kind: fixed, tokens: 10}\n        keystrokes: {share: 0.5, after_ms: [10, 50]}"
    )
    text = TEXT.replace("output: {kind: fixed, tokens: 10}", types)
    (tmp_path / "tiny.yaml").write_text(text.replace("ARRIVALS", "poisson, rate_per_s: 4"))
    out = tmp_path / "page.md"
    twin_results.main(["--folder", str(tmp_path), "--seeds", "1", "--write", str(out)])
    cells = [line.strip("| ").split(" | ") for line in out.read_text().splitlines()]
    rows = {(row[0], row[1]): float(row[-1]) for row in cells if row[0] in {"30%", "45%", "60%"}}
    assert len(rows) == 9
    assert rows["60%", "nobody tells"] > rows["60%", "document is named"] > 0
    assert rows["60%", "nobody tells"] > rows["30%", "nobody tells"]
