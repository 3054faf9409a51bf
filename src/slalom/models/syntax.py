"""Whether a completion makes a program of the text around it.

Owns the names of languages, the parsers (Python's own; tree-sitter's, where the extra `syntax` is
installed) and what is no fault of the completion: a text that is a window of a larger one, or one
that is broken elsewhere. Pure. Called by the gateway's `confidence` and its benchmark.
"""

import ast
import importlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

#: Of a longer text only so many characters next to the cursor are looked at.
_AROUND_MAX = 24_000
#: Language -> module and function of its tree-sitter grammar, file name extensions, other names.
_GRAMMARS: Mapping[str, tuple[str, str, tuple[str, ...], tuple[str, ...]]] = MappingProxyType(
    {
        "javascript": (
            "tree_sitter_javascript",
            "language",
            ("js", "mjs", "cjs", "jsx"),
            ("js", "javascriptreact"),
        ),
        "typescript": (
            "tree_sitter_typescript",
            "language_typescript",
            ("ts", "mts", "cts"),
            ("ts",),
        ),
        "tsx": ("tree_sitter_typescript", "language_tsx", ("tsx",), ("typescriptreact",)),
        "java": ("tree_sitter_java", "language", ("java",), ()),
        "go": ("tree_sitter_go", "language", ("go",), ("golang",)),
        "rust": ("tree_sitter_rust", "language", ("rs",), ("rs",)),
        "c": ("tree_sitter_c", "language", ("c", "h"), ()),
        "cpp": (
            "tree_sitter_cpp",
            "language",
            ("cc", "cpp", "cxx", "hh", "hpp", "hxx"),
            ("c++",),
        ),
    }
)
_PYTHON = "python"
_EXTENSIONS = {"py": _PYTHON, "pyi": _PYTHON} | {
    extension: name for name, row in _GRAMMARS.items() for extension in row[2]
}
_NAMES = {"py": _PYTHON, _PYTHON: _PYTHON, "python3": _PYTHON} | {
    other: name for name, row in _GRAMMARS.items() for other in (name, *row[3])
}


@dataclass(frozen=True, slots=True)
class Filled:
    """A text with a completion in it."""

    before: str
    answer: str
    after: str
    #: Whether the completion was ended by its limit, in the middle of whatever it was saying.
    cut: bool = False


def language_of(file_name: str, told: str) -> str:
    """The language of a file, else the one that was told; empty for none that is known."""
    stem, dot, extension = file_name.rpartition(".")
    known = _EXTENSIONS.get(extension.lower(), "") if dot and stem else ""
    return known or _NAMES.get(told.strip().lower(), "")


def can_parse(language: str) -> bool:
    """Whether there is a parser for a language here."""
    return language == _PYTHON or (language in _GRAMMARS and _parser(language) is not None)


def is_program(language: str, filled: Filled) -> bool | None:
    """Whether the completion fits into a program; None where that cannot be told.

    Args:
        language: As `language_of` says.
        filled: The text.
    """
    whole = _whole_lines(filled)
    if whole is None or not can_parse(language):
        return None
    near = Filled(_tail(whole.before), whole.answer, _head(whole.after))
    return _is_python(near) if language == _PYTHON else _is_of_grammar(language, near)


def _whole_lines(filled: Filled) -> Filled | None:
    """Without the line in which a limit ended it; None if that leaves nothing to look at."""
    if not filled.cut:
        return filled
    lines, newline, _ = filled.answer.rpartition("\n")
    if not newline:
        return None
    return Filled(filled.before, lines + newline, filled.after.partition("\n")[2])


def _tail(text: str) -> str:
    """The end of a text, from the beginning of a line."""
    return text if len(text) <= _AROUND_MAX else text[-_AROUND_MAX:].partition("\n")[2]


def _head(text: str) -> str:
    return text if len(text) <= _AROUND_MAX else text[:_AROUND_MAX].rpartition("\n")[0]


# -- Python ------------------------------------------------------------------------------------


def _is_python(filled: Filled) -> bool | None:
    """Parse it; an error elsewhere than at the completion is somebody else's."""
    opening = _opening(filled.before + (filled.after if filled.before else filled.answer))
    before = opening + filled.before
    text = before + filled.answer + filled.after
    first = before.count("\n") + 1
    last = first + filled.answer.count("\n") + 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except SyntaxError as problem:
        line = problem.lineno
        return None if line is None or line < first or line > last else False
    except (ValueError, MemoryError, RecursionError):
        return None
    return True


def _opening(text: str) -> str:
    """Blocks around a text that begins within one: a line for each level that it comes back to."""
    levels: list[int] = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        indent = len(line) - len(line.lstrip())
        if not levels or indent < levels[-1]:
            levels.append(indent)
        if indent == 0:
            break
    if not levels or levels[0] == 0:
        return ""
    outer = sorted({0, *levels[1:]})
    return "".join(f"{' ' * indent}if 1:\n" for indent in outer)


# -- the others --------------------------------------------------------------------------------


@cache
def _parser(language: str) -> Any:
    """A parser, or None where its package is not installed."""
    module, function, _, _ = _GRAMMARS[language]
    try:
        sitter = importlib.import_module("tree_sitter")
        grammar = importlib.import_module(module)
    except ImportError:
        return None
    return sitter.Parser(sitter.Language(getattr(grammar, function)()))


def _is_of_grammar(language: str, filled: Filled) -> bool | None:
    """Look for errors that touch the completion."""
    before, answer = filled.before.encode(), filled.answer.encode()
    root = _parser(language).parse(before + answer + filled.after.encode()).root_node
    if not root.has_error:
        return True
    if root.type == "ERROR":
        return None  # nothing of it was understood: a window without its beginning
    return False if _touched(root, len(before), len(before) + len(answer)) else None


def _touched(root: Any, start: int, end: int) -> bool:
    """Whether an error stands in these bytes or right at their ends."""
    stack = [root]
    while stack:
        node = stack.pop()
        if not node.has_error or node.end_byte < start or node.start_byte > end:
            continue
        if node.type == "ERROR" or node.is_missing:
            return True
        stack += node.children
    return False
