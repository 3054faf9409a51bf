"""The suite can fail: each committed mutant is caught, by an onlooker that sees only the journal.

Every mutant is applied to a copy of the package. The copy is hunted by the swarm with the outside
checker alone, without the core's own invariants, because a bug may break those as well.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import slalom
from tests.mutants.mutants import MUTANTS, Mutant

_PACKAGE = Path(slalom.__file__).parent

#: Exit status of the hunt: a rule was broken.
_CAUGHT = 42
#: Worlds a mutant may survive before it counts as missed.
_SEEDS = 300

_HUNT = f"""
import sys
import slalom
from slalom.testing.swarm import survive
from slalom.testing.swarm import scenario_for
from slalom.testing.swarm_reloads import reloading_world
world = {{"scenario_for": scenario_for, "reloading_world": reloading_world}}[sys.argv[1]]
print(slalom.__file__)
for seed in range({_SEEDS}):
    try:
        survive(world(seed), inside=False)
    except Exception as error:
        print(f"seed {{seed}}: {{type(error).__name__}}: {{error}}"[:400])
        sys.exit({_CAUGHT})
"""


def _copy_with(mutant: Mutant, into: Path) -> None:
    """The package with one line changed."""
    shutil.copytree(_PACKAGE, into / "slalom", ignore=shutil.ignore_patterns("__pycache__", "data"))
    path = into / "slalom" / mutant.path
    text = path.read_text()
    assert text.count(mutant.old) == 1, (
        f"mutant {mutant.name!r}: its line occurs {text.count(mutant.old)} times in {mutant.path}; "
        "write it anew for the line that took its place"
    )
    path.write_text(text.replace(mutant.old, mutant.new))


def _hunt(package: Path, world: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _HUNT, world],
        env={**os.environ, "PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=package,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_mutant_is_caught_from_outside(mutant: Mutant, tmp_path: Path) -> None:
    _copy_with(mutant, tmp_path)
    hunt = _hunt(tmp_path, mutant.world)
    assert str(tmp_path) in hunt.stdout, f"the copy was not what ran: {hunt.stderr}"
    assert hunt.returncode == _CAUGHT, hunt.stdout + hunt.stderr


def test_at_least_ten_different_mutants_are_hunted() -> None:
    assert len({(mutant.path, mutant.old, mutant.new) for mutant in MUTANTS}) >= 10
