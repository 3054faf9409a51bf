"""The table of the house's rules, and running them.

Owns the order in which findings are reported. Each rule is a function from a tree to findings,
with the rule itself as the first line of its docstring. Called by `__main__` and tests/tidy.
"""

from collections.abc import Callable, Iterator

from tools.tidy import names, places, prose, reach, sizes
from tools.tidy.tree import Finding, Tree

Rule = Callable[[Tree], Iterator[Finding]]

RULES: tuple[Rule, ...] = (
    sizes.file_length,
    sizes.function_length,
    sizes.module_docstring,
    sizes.stale_exceptions,
    names.names,
    names.sleeps,
    reach.dead_modules,
    places.places,
    prose.links,
    prose.named_files,
    prose.code_blocks,
    prose.decision_records,
    prose.news_fragments,
)


def check(tree: Tree) -> list[Finding]:
    """Every finding of every rule, in the rules' order."""
    return [finding for rule in RULES for finding in rule(tree)]
