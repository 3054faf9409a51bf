"""The recipe for adding a policy works as written, and touches two files.

Owns a copy of the package in which the steps of the page are carried out: the policy into its
module, its row into the registry. The program itself must then accept the configuration.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.tidy.prose import Block, blocks

ROOT = Path(__file__).parents[2]
PAGE = "docs/how-to/add-a-policy.md"
MODULE = "slalom/policies/ordering.py"
REGISTRY = "slalom/policies/registry.py"


@pytest.fixture(scope="module")
def recipe() -> tuple[Block, Block, Block]:
    """The page's blocks: the policy, its row, a configuration."""
    policy, row, configuration = blocks(PAGE, (ROOT / PAGE).read_text("utf-8"))
    return policy, row, configuration


def test_the_recipe_works(recipe: tuple[Block, Block, Block], tmp_path: Path) -> None:
    policy, row, configuration = recipe
    source = tmp_path / "src"
    without = shutil.ignore_patterns("__pycache__", "*.gguf")
    shutil.copytree(ROOT / "src" / "slalom", source / "slalom", ignore=without)
    module, registry = source / MODULE, source / REGISTRY
    definition = policy.code[policy.code.index("@dataclass") :]
    module.write_text(f"{module.read_text('utf-8')}\n\n{definition}\n", "utf-8")
    (name,) = re.findall(r"class (\w+)", definition)
    text, rows = re.subn(
        r'"ordering": \{.*?\},', lambda _: row.code, registry.read_text("utf-8"), flags=re.DOTALL
    )
    text, imports = re.subn(
        r"(from slalom\.policies\.ordering import )(.*)", rf"\1{name}, \2", text
    )
    assert (rows, imports) == (1, 1)
    registry.write_text(text, "utf-8")
    (tmp_path / "slalom.yaml").write_text(configuration.code, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "slalom", "config", "show"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(source), "XDG_CONFIG_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"kind: shortest-first\n\s+token_ms: 30\n", done.stdout)


def test_without_the_row_the_program_says_what_there_is(
    recipe: tuple[Block, Block, Block], tmp_path: Path
) -> None:
    (tmp_path / "slalom.yaml").write_text(recipe[2].code, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "slalom", "config", "check"],
        cwd=tmp_path,
        env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "shortest-first" in done.stderr
    assert "edf" in done.stderr
