"""Modules of the package that nothing reaches.

Owns a reading of the package's imports from the source, lazy ones included; a string that spells
a module's full name counts too (that is how a process is told which module to run). Tests do not
count: product code that only its own tests use is dead, except for the testing kit, which is there
for tests.
"""

import ast
from collections.abc import Iterator

from tools.tidy.exceptions import ENTRY_POINTS
from tools.tidy.tree import Finding, Tree, dotted_name


def _imported(module: ast.Module, package: str) -> Iterator[str]:
    """Every dotted name a module mentions in an import, `from` targets included."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], base]).rstrip(".")
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def dead_modules(tree: Tree) -> Iterator[Finding]:
    """Every module is imported by another, or is an entry point."""
    modules = {dotted_name(path): path for path in tree.under("src", suffix=".py")}
    reached: set[str] = set(ENTRY_POINTS)
    for name, path in modules.items():
        package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
        reached.update(seen for seen in _imported(tree.python(path), package) if seen != name)
    for path in tree.under("tests", suffix=".py"):
        seen_by_tests = _imported(tree.python(path), "")
        reached.update(seen for seen in seen_by_tests if seen.startswith("slalom.testing"))
    for name, path in modules.items():
        if path.endswith("__init__.py") or name in reached:
            continue
        yield Finding(path, 0, f"nothing imports {name}: use it, remove it, or name who runs it")
