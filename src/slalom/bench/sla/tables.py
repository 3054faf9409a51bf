"""Cells and tables of the page.

Owns their wording in Markdown. Called by the parts.
"""

from collections.abc import Iterable, Iterator, Sequence

from slalom.metrics.confidence import Estimate


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table, line by line; all columns but the first are numbers."""
    yield f"| {' | '.join(heads)} |"
    yield "| --- |" + " ---: |" * (len(heads) - 1)
    for row in rows:
        yield f"| {' | '.join(row)} |"


def cell(found: Estimate, factor: float = 1.0, digits: int = 1) -> str:
    """`mean ±half of the 95 per cent interval`."""
    margin = "" if found.margin is None else f" ±{found.margin * factor:.{digits}f}"
    return f"{found.mean * factor:.{digits}f}{margin}"


def points(found: Estimate) -> str:
    """A difference of shares in percentage points, with its sign."""
    margin = "" if found.margin is None else f" ±{found.margin * 100:.1f}"
    return f"{found.mean * 100:+.1f}{margin}"


def percent(share: float, digits: int = 1) -> str:
    """A share as per cent."""
    return f"{share * 100:.{digits}f}"
