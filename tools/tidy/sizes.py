"""How long files and functions may be, and that every module says what it is for.

Owns the two ratchets of the house (400 lines a file, 60 a function) and the length of a module's
opening words. Exceptions live in `exceptions`, with a size that may only shrink. Sizes count all
lines, blank and comment included: what a reader scrolls past.
"""

import ast
from collections.abc import Iterator

from tools.tidy.exceptions import LONG_FILES, LONG_FUNCTIONS
from tools.tidy.tree import Finding, Tree

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
#: Lines of a module's docstring in src/ (packages' `__init__` may be shorter).
DOCSTRING_LINES = range(3, 9)


def _over(
    key: str,
    size_lines: int,
    limit_lines: int,
    exceptions: dict[str, tuple[int, str]],
) -> str | None:
    """What is wrong with a thing of this size, or None."""
    allowed_lines = exceptions[key][0] if key in exceptions else limit_lines
    if size_lines > allowed_lines:
        return f"{size_lines} lines, at most {allowed_lines}: split it"
    if key in exceptions and size_lines <= limit_lines:
        return "keeps the rule now: take its row out of tools/tidy/exceptions.py"
    if key in exceptions and size_lines < allowed_lines:
        return f"is down to {size_lines} lines: lower its row in tools/tidy/exceptions.py"
    return None


def file_length(tree: Tree) -> Iterator[Finding]:
    """No Python file is longer than 400 lines."""
    for path in tree.under("src", "tests", "tools", "docs", suffix=".py"):
        lines = tree.text(path).count("\n")
        if message := _over(path, lines, FILE_LINES_MAX, LONG_FILES):
            yield Finding(path, 0, message)


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.AST, int]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{prefix}{child.name}"
            yield name, child, (child.end_lineno or child.lineno) - child.lineno + 1
            yield from _functions(child, f"{name}.")
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")
        else:
            yield from _functions(child, prefix)


def function_length(tree: Tree) -> Iterator[Finding]:
    """No function is longer than 60 lines."""
    for path in tree.under("src", "tests", "tools", "docs", suffix=".py"):
        for name, node, lines in _functions(tree.python(path), ""):
            if message := _over(f"{path}::{name}", lines, FUNCTION_LINES_MAX, LONG_FUNCTIONS):
                yield Finding(path, getattr(node, "lineno", 0), f"function {name}: {message}")


def module_docstring(tree: Tree) -> Iterator[Finding]:
    """Every module opens with words; in src/ with 3 to 8 lines of them."""
    for path in tree.under("src", "tests", "tools", "docs", suffix=".py"):
        if path.startswith("tests/") and not tree.text(path).strip():
            continue  # an empty __init__
        docstring = ast.get_docstring(tree.python(path))
        if docstring is None:
            yield Finding(path, 1, "no module docstring: say what it owns, what not, who calls it")
            continue
        lines = len(docstring.splitlines())
        is_module = path.startswith("src/") and not path.endswith(("__init__.py", "__main__.py"))
        if is_module and lines not in DOCSTRING_LINES:
            yield Finding(path, 1, f"module docstring of {lines} lines: write 3 to 8")


def stale_exceptions(tree: Tree) -> Iterator[Finding]:
    """An exception for a file or function that is gone must go too."""
    here = "tools/tidy/exceptions.py"
    if here not in tree.paths:
        return
    for path in LONG_FILES:
        if path not in tree.paths:
            yield Finding(here, 0, f"LONG_FILES names {path}, which is gone")
    for key in LONG_FUNCTIONS:
        path, _, name = key.partition("::")
        names = (
            {found for found, _, _ in _functions(tree.python(path), "")}
            if path in tree.paths
            else set()
        )
        if name not in names:
            yield Finding(here, 0, f"LONG_FUNCTIONS names {key}, which is gone")
