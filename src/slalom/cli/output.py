"""How results are printed: tables and JSON on stdout, everything else on stderr.

Owns widths and styles. A table that is not printed to a terminal is never cut. Used by the
command modules.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

#: Width of tables that go to a file or a pipe.
_WIDE = 200
#: Widest name before a fact.
_NAME_WIDTH = 24


def stdout() -> Console:
    """The console for results."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDE)


def stderr() -> Console:
    """The console for progress and remarks."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(document: object) -> None:
    """One JSON document on stdout, indented; dataclasses and enums become plain."""
    plain = msgspec.to_builtins(document, str_keys=True)
    sys.stdout.write(json.dumps(plain, indent=2, ensure_ascii=False) + "\n")


def print_told(document: object, lines: Iterable[str], *, json_wanted: bool) -> None:
    """What a server said: in words, line by line, or as its document."""
    if json_wanted:
        print_json(document)
        return
    console = stdout()
    for line in lines:
        console.print(line, markup=False)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    right: Sequence[str] = (),
    fold: Sequence[str] = (),
) -> None:
    """A table on stdout.

    Args:
        columns: Headings.
        rows: Cells; a `Text` keeps its style.
        right: Columns whose cells stand at the right, as numbers do.
        fold: Columns that are broken into lines where the terminal is too narrow.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in right else "left",
            no_wrap=column not in fold,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else str(cell) for cell in row))
    _print(table)


def print_facts(rows: Iterable[Sequence[str | Text]]) -> None:
    """Lines without headings; cells that are too long are broken into lines."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for row in rows:
        while len(table.columns) < len(row):
            is_last = len(table.columns) == len(row) - 1
            table.add_column(overflow="fold", max_width=None if is_last else _NAME_WIDTH)
        table.add_row(*row)
    _print(table)


def _print(table: Table) -> None:
    """Print without the blanks that pad the last column."""
    console = stdout()
    with console.capture() as captured:
        console.print(table, soft_wrap=False)
    lines = captured.get().splitlines()
    sys.stdout.write("".join(f"{line.rstrip(' ')}\n" for line in lines))


@contextmanager
def bytes_progress(what: str) -> Iterator[Any]:
    """A progress bar on stderr; yields the call-back ``(bytes so far, bytes in all)``."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TimeRemainingColumn(),
        console=stderr(),
        transient=True,
    ) as progress:
        task = progress.add_task(what, total=None)

        def tell(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total or None)

        yield tell
