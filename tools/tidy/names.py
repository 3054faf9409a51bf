"""Words the house does not name things by, and sleeps in tests.

Owns the list of banned words, applied to modules, classes and functions (not to attributes of
other people's objects), and the rule that a test waits for a condition and never for time.
Exceptions live in `exceptions`, each with its reason.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from tools.tidy.exceptions import FOREIGN_NAMES, SLEEPING_TESTS
from tools.tidy.tree import Finding, Tree

#: Words that say nothing about what a thing is.
_EMPTY = ("manager", "handler", "helper", "util", "service", "processor", "misc", "common")
BANNED_WORDS = frozenset([*_EMPTY, *(f"{word}s" for word in _EMPTY)])
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def banned_words(identifier: str) -> list[str]:
    """The banned words in an identifier, foreign names apart."""
    for foreign in FOREIGN_NAMES:
        identifier = identifier.replace(foreign, "")
    return [word for word in _WORD.findall(identifier) if word.lower() in BANNED_WORDS]


def _definitions(module: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(module):
        kinds = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        # A test's name is a sentence, and may use any word.
        if isinstance(node, kinds) and not node.name.startswith("test_"):
            yield node.name, node.lineno


def names(tree: Tree) -> Iterator[Finding]:
    """No module, class or function is named by a word that says nothing."""
    for path in tree.under("src", "tests", "tools", "docs", suffix=".py"):
        parts = PurePosixPath(path).with_suffix("").parts
        found = [(part, 0) for part in parts] + list(_definitions(tree.python(path)))
        for identifier, line in found:
            for word in banned_words(identifier):
                yield Finding(path, line, f"{identifier!r} holds {word!r}: name what it is")


#: Whose `sleep` waits for time; an engine's puts it to sleep.
_SLEEPS = frozenset({"sleep", "time.sleep", "asyncio.sleep", "anyio.sleep", "trio.sleep"})


def _is_sleep(call: ast.Call) -> bool:
    if ast.unparse(call.func) not in _SLEEPS:
        return False
    # asyncio.sleep(0) gives the loop one turn; it does not wait.
    first = call.args[0] if call.args else None
    return not (isinstance(first, ast.Constant) and first.value == 0)


def _is_in_virtual_time(function: ast.AST) -> bool:
    """Whether a function runs its coroutines on the virtual loop or is one that runs there."""
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    words = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    return not words.isdisjoint({"run_virtual", "VirtualClock", "VirtualLoop"})


def _real_sleeps(node: ast.AST) -> Iterator[ast.Call]:
    """Calls of a sleep, without those of asyncio's that only move a virtual clock."""
    for child in ast.iter_child_nodes(node):
        if _is_in_virtual_time(child):
            inner = [call for call in ast.walk(child) if isinstance(call, ast.Call)]
            yield from (
                call for call in inner if _is_sleep(call) and ast.unparse(call.func) == "time.sleep"
            )
            continue
        if isinstance(child, ast.Call) and _is_sleep(child):
            yield child
        yield from _real_sleeps(child)


def sleeps(tree: Tree) -> Iterator[Finding]:
    """No test sleeps: it polls a condition with a bound, waits for an event, or moves a clock."""
    for path in tree.under("tests", suffix=".py"):
        if path in SLEEPING_TESTS:
            continue
        for call in _real_sleeps(tree.python(path)):
            yield Finding(path, call.lineno, "sleep in a test: wait for a condition instead")
