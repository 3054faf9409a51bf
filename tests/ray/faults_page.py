"""The page of what happens when parts of a cluster die: one row for each fault.

Owns the file's wording. Rows are kept beside the page's place while the tests run, one test after
the other. Written where `SLALOM_RAY_FAULTS_PAGE` says, by `make bench-ray-faults`.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

_VARIABLE = "SLALOM_RAY_FAULTS_PAGE"
_HEAD = """# Faults on a Ray cluster

Written by `make bench-ray-faults`. A cluster of {raylets} raylets on one machine, `slalom serve
--on ray` on it: the core, two ingresses, two models of two replicas each on engines that answer
{tokens} tokens in {answer_s:.1f} s and name the request in every token. {per_s:g} requests per
second by both ingresses in turn for {seconds:g} s; after a quarter of that, one part is killed with
SIGKILL. An ingress holds a request of which no part of an answer was passed on for {hold_s:g} s at
most.

*Whole* answers have every token once and in order; an *error* is one with a code and a message by
which a client knows to come again; a *lost* connection is what remains where the ingress itself
died. *Begun twice* are requests that two engines worked on, one after the other: each client got
one answer nevertheless, or the test would have failed. *Away* is the longest that a request took
beyond its answer alone; *settled* is the time from the kill until every replica and every ingress
is back and no engine lives beside the replicas. Afterwards the books say what the engines hold, and
nothing runs: the test waits for that.

| killed | requests | whole | errors | lost | begun twice | away, s | settled, s |
| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One fault."""

    killed: str
    requests: int
    whole: int
    #: Code -> how many.
    errors: dict[str, int]
    lost: int
    begun_twice: int
    away_s: float
    settled_s: float


def note(row: Row, **facts: float) -> None:
    """Add a row to the page, where one is wanted; facts are the head's."""
    if not os.environ.get(_VARIABLE):
        return
    page = Path(os.environ[_VARIABLE])
    kept = page.with_suffix(".rows.json")
    rows = json.loads(kept.read_text("utf-8")) if kept.exists() else []
    rows = [one for one in rows if one["killed"] != row.killed] + [asdict(row)]
    kept.write_text(json.dumps(rows), encoding="utf-8")
    lines = [_line(Row(**one)) for one in rows]
    page.write_text(_HEAD.format(**facts) + "\n".join(lines) + "\n", encoding="utf-8")


def _line(row: Row) -> str:
    errors = ", ".join(f"{count} {code}" for code, count in sorted(row.errors.items())) or "0"
    cells = (row.requests, row.whole, errors, row.lost, row.begun_twice)
    times = (f"{row.away_s:.1f}", f"{row.settled_s:.1f}")
    return f"| {row.killed} | {' | '.join(map(str, (*cells, *times)))} |"
