"""The commands that the prose names exist, and the scripts around them are sound.

Owns the checks of Makefile, .ci/run, the shell scripts, the pre-commit hooks and the list of news
kinds against each other. Runs no target.
"""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from tools.tidy.prose import FRAGMENT_KINDS
from tools.tidy.tree import Tree

ROOT = Path(__file__).parents[2]
_TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)
_NAMED = re.compile(r"(?:^|[`$] ?)make ([a-z][a-z-]*)", re.MULTILINE)


@pytest.fixture(scope="module")
def checkout() -> Tree:
    return Tree.of_checkout(ROOT)


def test_every_make_target_that_the_prose_names_exists(checkout: Tree) -> None:
    targets = set(_TARGET.findall(checkout.text("Makefile")))
    named = {
        (path, target)
        for path in checkout.paths
        if path.endswith(".md")
        for target in _NAMED.findall(checkout.text(path))
    }
    assert {target for _, target in named} > {"demo", "test", "serve", "docs"}
    assert sorted(pair for pair in named if pair[1] not in targets) == []


def test_every_make_target_explains_itself(checkout: Tree) -> None:
    makefile = checkout.text("Makefile")
    explained = set(re.findall(r"^([a-z-]+):.*## \w", makefile, re.MULTILINE))
    assert set(_TARGET.findall(makefile)) == explained
    assert explained == set(re.findall(r"^\.PHONY: ([a-z-]+)$", makefile, re.MULTILINE))


def test_scripts_are_executable_and_parse(checkout: Tree) -> None:
    scripts = [path for path in checkout.paths if path.endswith(".sh")] + [".ci/run"]
    for path in scripts:
        text = checkout.text(path)
        assert text.startswith("#!/usr/bin/env bash\n"), path
        assert "set -euo pipefail" in text, path
        assert os.access(ROOT / path, os.X_OK), path
        subprocess.run(["bash", "-n", path], cwd=ROOT, check=True)


def test_ci_runs_the_test_command_of_the_readme(checkout: Tree) -> None:
    assert checkout.text(".ci/run").rstrip().endswith("exec make test")
    assert re.search(r"^make test\b", checkout.text("README.md"), re.MULTILINE)


def test_pre_commit_hooks_are_local(checkout: Tree) -> None:
    config = yaml.safe_load(checkout.text(".pre-commit-config.yaml"))
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    hooks = config["repos"][0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}


def test_the_kinds_of_news_are_those_of_towncrier(checkout: Tree) -> None:
    settings = tomllib.loads(checkout.text("pyproject.toml"))["tool"]["towncrier"]
    assert tuple(kind["directory"] for kind in settings["type"]) == FRAGMENT_KINDS
