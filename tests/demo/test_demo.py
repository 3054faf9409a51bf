"""The whole demo, small: real servers, real models, real loads and evictions."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from slalom.bench.demo_setting import TASKS
from slalom.core.actions import EndRequest
from slalom.journal.files import journal_files, read_file

CONTENDERS = ("pass-through", "slalom")
REQUESTS = 20


@pytest.mark.slow
@pytest.mark.live
def test_the_demo_serves_both_ways_and_tells_the_truth(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    options = ("--quick", "--json", "--requests", str(REQUESTS), "--keep", str(kept))
    done = subprocess.run(
        (sys.executable, "-m", "slalom", "demo", *options),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["order"] == list(CONTENDERS)
    assert document["calibration"]["knee_per_s"] > 0
    for name in CONTENDERS:
        outcome = document["contenders"][name]
        total = outcome["total"]
        assert total["injected"] == REQUESTS
        assert total["done"] + total["refused"] + total["failed"] == REQUESTS
        assert total["failed"] == 0
        assert total["good"] <= total["done"]
        assert sum(row["injected"] for row in outcome["tasks"].values()) == REQUESTS
        assert set(outcome["tasks"]) <= set(TASKS)
        # All four models are asked for and do not fit together.
        assert outcome["loads"] >= 4
        assert outcome["evictions"] >= 1
        assert _ends(kept / f"{name}-0" / "journal") == total["done"] + total["refused"]
    assert document["contenders"]["pass-through"]["total"]["refused"] == 0
    assert "sent 20/20" in done.stderr
    # No process of it is left behind, and nothing failed silently.
    assert "Traceback" not in done.stderr
    for name in CONTENDERS:
        assert "Traceback" not in (kept / f"{name}-0" / "server.log").read_text()


def _ends(journal: Path) -> int:
    """Requests that the server's own journal says have ended, done or refused."""
    count = 0
    for path in journal_files(journal):
        _, entries = read_file(path)
        for entry in entries:
            count += sum(
                isinstance(a, EndRequest) and a.outcome in {"done", "rejected"}
                for a in entry.actions
            )
    return count
