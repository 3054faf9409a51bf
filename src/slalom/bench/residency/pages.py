"""The tables of the page: one for each scenario, the aims, and what ablations cost.

Owns their wording in Markdown. The command calls it with results.
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from slalom.bench.residency.cells import Result
from slalom.bench.residency.choices import CLAIRVOYANT
from slalom.bench.sla.tables import table
from slalom.metrics.confidence import estimate

#: Results of one scenario: by row, one for each seed.
Board = Mapping[str, Sequence[Result]]

_HEADS = (
    *("policy", "seeds", "attained %", "TTFT s", "TTFT p95 s", "E2E s", "E2E p95 s"),
    *("evictions", "cold s", "swapped GiB"),
)
_KEYS = (
    *("attainment", "ttft_s", "ttft_p95_s", "e2e_s", "e2e_p95_s"),
    *("evictions", "cold_start_s", "swapped_gib"),
)
_SAVED = {"mean TTFT": "ttft_s", "mean E2E": "e2e_s", "evictions": "evictions"}


def board(name: str, about: str, rows: Board) -> Iterator[str]:
    """Everything about one scenario, line by line."""
    yield f"## {name}"
    yield f"\n{about}\n"
    shown = [
        [who, str(len(found)), *(_figure(key, found) for key in _KEYS)]
        for who, found in rows.items()
    ]
    yield from table(_HEADS, shown)
    tasks = sorted({key.partition(".")[2] for key in next(iter(rows.values()))[0] if "." in key})
    for task in tasks:
        yield f"\nOf {task} alone:\n"
        keys = [f"{key}.{task}" for key in _KEYS[:5]]
        yield from table(
            ["policy", *_HEADS[2:7]],
            [[who, *(_figure(key, found) for key in keys)] for who, found in rows.items()],
        )


def savings(rows: Board) -> Iterator[str]:
    """What each row saves over `lru`, paired over the seeds that both have, line by line."""
    yield "\nLess than `lru`, %, over paired seeds; after it the share of the best clairvoyant's:\n"
    lines = []
    for who in rows:
        cells = []
        for key in _SAVED.values():
            mine = saved(rows, who, key)
            best, same = max(
                (saved(_cut(rows, who), one.name, key), saved(_cut(rows, one.name), who, key))
                for one in CLAIRVOYANT
                if one.name in rows
            )
            share = f" ({100 * same / best:.0f})" if best > 0 else ""
            cells.append(f"{-100 * mine:+.1f}{share}")
        lines.append([who, *cells, f"{worst(rows, who):+.1f}"])
    yield from table(["policy", *_SAVED, "attained, worst seed, points"], lines)


def _cut(rows: Board, who: str) -> Board:
    """The same with no more seeds than one of the rows has."""
    return {name: found[: len(rows[who])] for name, found in rows.items()}


def saved(rows: Board, who: str, key: str) -> float:
    """Share of `lru`'s figure that a row saves, over the seeds that both have."""
    pairs = list(zip(rows["lru"], rows[who], strict=False))
    before = fmean(first[key] for first, _ in pairs)
    return 1 - fmean(second[key] for _, second in pairs) / before if before else 0.0


def worst(rows: Board, who: str) -> float:
    """What a row attains beyond `lru`, percentage points, on the seed where that is least."""
    pairs = zip(rows["lru"], rows[who], strict=False)
    return min(100 * (mine["attainment"] - base["attainment"]) for base, mine in pairs)


def _figure(key: str, found: Sequence[Result]) -> str:
    factor = 100.0 if key.startswith("attainment") else 1.0
    one = estimate([row[key] * factor for row in found])
    digits = 0 if one.mean >= 100 else 1
    margin = "" if one.margin is None else f" ±{one.margin:.{digits}f}"
    return f"{one.mean:.{digits}f}{margin}"
