"""Python files and the functions in them: the material that prompts are cut from.

Owns finding files, reading them and what counts as a usable function. By default the files are
the standard library of the running interpreter, which every reader has. Reads files, runs none
of them. Called by `prompts` through `Corpus`.
"""

import ast
import io
import random
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from slalom.errors import ConfigError
from slalom.workload.streams import stream

#: Files outside these sizes are tables, stubs or generated.
_FILE_BYTES = (1_500, 120_000)
#: Functions outside these lengths make poor prompts.
_FUNCTION_LINES = (4, 60)
_FUNCTION_CHARS_MAX = 1_800
#: Folders whose files are tests, vendored or not Python of today.
_SKIPPED_FOLDERS = frozenset(
    ("test", "tests", "idlelib", "lib2to3", "site-packages", "__pycache__", "node_modules")
)
#: Files looked at, at most, in a folder of a user's own.
_FILES_MAX = 20_000
#: Functions that make a file worth keeping.
_FUNCTIONS_MIN = 2
#: Files in use at a time: reading more would take longer than it adds variety.
_FILES_READ_MAX = 120


@dataclass(frozen=True, slots=True)
class SourceFunction:
    """One function of a file, by its places in the text."""

    name: str
    #: Whole text from `def` to its last line, dedented.
    text: str
    #: The signature and docstring alone, dedented: what is known before the body is written.
    head: str
    #: First and last line of its body without the docstring, counted from 1.
    body_lines: tuple[int, int]
    #: Lines at which a block of several lines begins, with the last line of it.
    blocks: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class SourceFile:
    """One Python file."""

    #: Relative to the corpus's folder.
    name: str
    text: str = field(repr=False)

    @cached_property
    def lines(self) -> list[str]:
        """Lines with their ends."""
        return self.text.splitlines(keepends=True)

    @cached_property
    def functions(self) -> tuple[SourceFunction, ...]:
        """The usable functions, in order; none if the file is no Python of this interpreter."""
        return tuple(_functions(self.text, self.lines))

    @cached_property
    def token_ends(self) -> dict[int, list[int]]:
        """Columns at which a token ends, by line from 1: where a cursor may stand."""
        ends: dict[int, list[int]] = {}
        try:
            for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
                if token.string.strip() and token.start[0] == token.end[0]:
                    ends.setdefault(token.end[0], []).append(token.end[1])
        except (tokenize.TokenError, SyntaxError):
            return {}
        return ends


class Corpus:
    """A folder of Python files in an order drawn from the seed, read as they are needed.

    Args:
        folder: Where to look, recursively; None is the interpreter's standard library.
        seed: Of the order.

    Raises:
        ConfigError: There is no such folder, or no usable Python file in it.
    """

    def __init__(self, folder: Path | None = None, *, seed: int = 0) -> None:
        self.folder = folder or Path(sysconfig.get_paths()["stdlib"])
        self._paths = _python_files(self.folder)
        stream(seed, "files").shuffle(self._paths)
        self._unread = iter(self._paths)
        self._files: list[SourceFile] = []
        if not self._read_more():
            raise ConfigError(
                f"there is no Python file with functions of {_FUNCTION_LINES[0]} to "
                f"{_FUNCTION_LINES[1]} lines in {self.folder}: name a folder of source code"
            )

    def __repr__(self) -> str:
        return f"<Corpus {self.folder} files={len(self._files)} of {len(self._paths)}>"

    def pick(self, rng: random.Random, number: int) -> tuple[SourceFile, SourceFunction]:
        """A file and one of its functions; with `number` the corpus goes through its files."""
        while min(number, _FILES_READ_MAX - 1) >= len(self._files) and self._read_more():
            pass
        file = self._files[number % len(self._files)]
        return file, rng.choice(file.functions)

    def _read_more(self) -> bool:
        """Read the next usable file; False if there is none left."""
        for path in self._unread:
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue
            file = SourceFile(path.relative_to(self.folder).as_posix(), text)
            if len(file.functions) >= _FUNCTIONS_MIN and file.token_ends:
                self._files.append(file)
                return True
        return False


def _python_files(folder: Path) -> list[Path]:
    """Python files of a sensible size, sorted, so that the order does not depend on the disk."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder: name one that holds Python files")
    found: list[Path] = []
    for path in folder.rglob("*.py"):
        inner = path.relative_to(folder).parts[:-1]
        hidden = any(part in _SKIPPED_FOLDERS or part.startswith(".") for part in inner)
        try:
            if not hidden and _FILE_BYTES[0] <= path.stat().st_size <= _FILE_BYTES[1]:
                found.append(path)
        except OSError:
            continue
        if len(found) >= _FILES_MAX:
            break
    return sorted(found)


def _functions(text: str, lines: list[str]) -> Iterator[SourceFunction]:
    try:
        with warnings.catch_warnings():
            # What an old file's escapes deserve is not ours to say.
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found = _function(node, lines)
            if found is not None:
                yield found


def _function(
    node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]
) -> SourceFunction | None:
    first, last = node.lineno, node.end_lineno or node.lineno
    body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    if not body or not _FUNCTION_LINES[0] <= last - first + 1 <= _FUNCTION_LINES[1]:
        return None
    text = _dedented(lines[first - 1 : last])
    body_first = body[0].lineno
    if len(text) > _FUNCTION_CHARS_MAX or body_first <= first or last - body_first < 1:
        return None
    blocks = tuple(
        (inner.lineno, inner.end_lineno or inner.lineno)
        for inner in ast.walk(ast.Module(body=body, type_ignores=[]))
        if isinstance(inner, ast.If | ast.For | ast.While | ast.With | ast.Try | ast.Return)
        and (inner.end_lineno or 0) > inner.lineno
    )
    return SourceFunction(
        name=node.name,
        text=text,
        head=_dedented(lines[first - 1 : body_first - 1]),
        body_lines=(body_first, last),
        blocks=blocks,
    )


def _dedented(lines: list[str]) -> str:
    """Lines without the first one's indentation."""
    indent = len(lines[0]) - len(lines[0].lstrip())
    return "".join(
        line.lstrip() if line[:indent].strip() else line[indent:] or "\n" for line in lines
    ).rstrip("\n")
