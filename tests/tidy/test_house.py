"""The house's rules hold on this very tree.

Owns nothing but the call: the rules are in tools/tidy, the proof that each can fail is in
`test_rules_can_fail`, and the checks that need the package imported are in `test_registry_docs`.
"""

from pathlib import Path

import pytest

from tools.tidy.rules import RULES, Rule
from tools.tidy.tree import Tree

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def checkout() -> Tree:
    return Tree.of_checkout(ROOT)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_tree_keeps_the_rule(checkout: Tree, rule: Rule) -> None:
    findings = [str(finding) for finding in rule(checkout)]
    if findings:
        pytest.fail("\n".join(findings), pytrace=False)


def test_the_tree_is_the_project(checkout: Tree) -> None:
    assert "pyproject.toml" in checkout.paths
    assert any(checkout.under("src/slalom/core", suffix=".py"))
