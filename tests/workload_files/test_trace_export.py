"""A live server's journal becomes a trace that plays again."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from slalom.cli import app
from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla
from slalom.errors import ConfigError
from slalom.journal.codec import header_for
from slalom.journal.files import JournalParams, JournalWriter
from slalom.policies.registry import policies
from slalom.twin.run import build_scheduler, run
from slalom.twin.scenario import Arrival, Scenario, TwinModel
from slalom.units import MS, SECOND
from slalom.workload.trace_export import export
from slalom.workload.traces import read_trace


def a_journal(folder: Path, *, epoch_unix_ns: int = 10**18) -> None:
    """What a server writes that was asked three times; the second client leaves early."""
    arrivals = [
        Arrival(Request(f"r{n}", "m", "chat", Sla(), n * SECOND, 10 + n, 50, 20), 5 + n, patience)
        for n, patience in enumerate([-1, 1 * MS, -1])
    ]
    scenario = Scenario(
        models=(TwinModel(ModelSpec("m", "gpu", 1, 2)),),
        devices=(DeviceSpec("gpu", 10),),
        arrivals=arrivals,
        policies=policies(),
    )
    header = header_for(build_scheduler(scenario), epoch_unix_ns=epoch_unix_ns)
    writer = JournalWriter(JournalParams(folder), header)
    run(scenario, watch=writer.append)
    writer.flush()
    writer.close()


def test_a_journal_becomes_rows_in_order(tmp_path: Path) -> None:
    a_journal(tmp_path)
    found = export(tmp_path)
    assert found.unfinished == 1
    assert [(r.at_ns, r.prompt_tokens, r.output_tokens) for r in found.rows] == [
        (0, 10, 5),
        (1 * SECOND, 11, 20),
        (2 * SECOND, 12, 7),
    ]
    assert {(row.task, row.model) for row in found.rows} == {("chat", "m")}


def test_the_command_writes_what_a_scenario_reads(tmp_path: Path) -> None:
    journal, out = tmp_path / "journal", tmp_path / "out.jsonl"
    a_journal(journal)
    done = CliRunner().invoke(
        app, ["trace", "export", "--journal", str(journal), "-o", str(out), "--from", "1"]
    )
    assert done.exit_code == 0, done.output
    assert "2 requests over 1 s" in done.stderr
    assert [row.at_ns for row in read_trace(out, "slalom")] == [0, SECOND]


def test_an_empty_journal_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no request in the journal"):
        export(tmp_path)
