"""What the completions of one way came to: device time, latencies, who answered, what it is worth.

Owns the arithmetic. Measures nothing. Filled by `live`, read by the page.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from slalom.bench.confidence.asking import Heard
from slalom.bench.confidence.holes import Hole
from slalom.bench.confidence.setting import ALL_LARGE, LARGE, SMALL
from slalom.metrics.summaries import percentile
from slalom.models import syntax
from slalom.units import MS


@dataclass(frozen=True, slots=True)
class Row:
    """One completion by one way."""

    way: str
    repeat: int
    hole: Hole
    heard: Heard
    #: Model -> processor time of its engine meanwhile, seconds.
    cpu_s: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Run:
    """One way, once."""

    way: str
    repeat: int
    named: Mapping[str, float]

    def figures(self) -> Mapping[str, float]:
        """By name; times in ms, shares from 0 to 1."""
        return self.named


def runs(rows: Sequence[Row], spent_ns: Mapping[str, Mapping[str, int]]) -> list[Run]:
    """The figures of each way in each repeat.

    Args:
        rows: All completions.
        spent_ns: Request -> model -> time of its engine.
    """
    large = {
        (row.repeat, id(row.hole)): row.heard.text for row in rows if row.way == ALL_LARGE.name
    }
    grouped: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        grouped.setdefault((row.way, row.repeat), []).append(row)
    return [
        Run(
            way,
            repeat,
            {
                **_times(mine, spent_ns),
                **_shares(mine),
                "agrees": _share(
                    row.heard.text == large.get((row.repeat, id(row.hole))) for row in mine
                ),
            },
        )
        for (way, repeat), mine in grouped.items()
    ]


def _times(rows: Sequence[Row], spent_ns: Mapping[str, Mapping[str, int]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, of in (("device_ms", (SMALL, LARGE)), ("small_ms", (SMALL,)), ("large_ms", (LARGE,))):
        spent = [
            sum(spent_ns.get(row.heard.request_id, {}).get(model, 0) for model in of)
            for row in rows
        ]
        found[name] = statistics.fmean(spent) / MS
    # Time of a model whose answer nobody got.
    unused = [
        sum(
            spent
            for model, spent in spent_ns.get(row.heard.request_id, {}).items()
            if model != row.heard.model
        )
        for row in rows
    ]
    found["unused_ms"] = statistics.fmean(unused) / MS
    found["cpu_ms"] = 1_000 * statistics.fmean(sum(row.cpu_s.values()) for row in rows)
    for name, values in (
        ("ttft_ms", sorted(row.heard.first_ns / MS for row in rows)),
        ("e2e_ms", sorted(row.heard.whole_ns / MS for row in rows)),
    ):
        for rank in (50, 95):
            found[f"{name}.p{rank}"] = percentile(values, rank)
    return found


def _shares(rows: Sequence[Row]) -> dict[str, float]:
    verdicts = [row.heard.judged.partition(";")[0] for row in rows]
    return {
        "by_small": _share(row.heard.model == SMALL for row in rows),
        "unsure": _share(verdict == "unsure" for verdict in verdicts),
        "broken": _share(verdict == "broken" for verdict in verdicts),
        "parses": _share(not _breaks(row) for row in rows),
        "right": _share(row.heard.text.strip() == row.hole.line.strip() for row in rows),
        "tokens": statistics.fmean(row.heard.tokens for row in rows),
    }


def _breaks(row: Row) -> bool:
    """Whether the text is no program because of the answer; what cannot be told does not count."""
    hole, heard = row.hole, row.heard
    filled = syntax.Filled(hole.before, heard.text, hole.after, cut=heard.was_cut)
    return syntax.is_program("python", filled) is False


def _share(found: Iterable[bool]) -> float:
    values = list(found)
    return sum(values) / len(values) if values else 0.0
