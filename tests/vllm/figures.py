"""What a run of real vLLM behind Slalom measured: kept, and printed as a page's table.

Owns times side by side (asked directly and through Slalom, in turns) and the table.
Asserts nothing.
"""

import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.vllm.server import RealServer, completion

#: Pairs of requests; and tokens of each request where it is tokens a second that count.
PAIRS = 60
RATE_TOKENS = 128


@dataclass
class Figures:
    """Rows of a table, in the order in which they were measured."""

    rows: list[tuple[str, str]] = field(default_factory=list)

    def add(self, what: str, seen: str) -> None:
        self.rows.append((what, seen))

    def table(self) -> str:
        """As Markdown."""
        lines = [
            "| what | seen |",
            "|---|---|",
            *(f"| {what} | {seen} |" for what, seen in self.rows),
        ]
        return "\n".join(lines)

    def tell(self) -> None:
        """Print the table, and write it where `SLALOM_VLLM_FIGURES` says."""
        print(f"\n{self.table()}")  # noqa: T201 - asked for with -s
        if path := os.environ.get("SLALOM_VLLM_FIGURES"):
            Path(path).write_text(self.table() + "\n", encoding="utf-8")


def machine() -> str:
    """What it ran on, and how busy that was."""
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


async def side_by_side(server: RealServer, figures: Figures) -> None:
    """One token, the same question directly and through Slalom, in turns: what Slalom adds."""
    took: dict[str, list[float]] = {server.engine_url: [], server.url: []}
    for number in range(PAIRS + 5):
        # Who is first changes, so that neither has the warmer caches.
        for where in list(took)[:: 1 if number % 2 else -1]:
            began = time.perf_counter()
            await server.post("/v1/completions", completion(1), url=where)
            took[where].append((time.perf_counter() - began) * 1e3)
    direct, ours = (times[5:] for times in took.values())
    added = [mine - other for mine, other in zip(ours, direct, strict=True)]
    ratio = statistics.median(ours) / statistics.median(direct)
    figures.add("one token, asked of vLLM directly, ms", spread(direct))
    figures.add("the same through Slalom, ms", f"{spread(ours)}, ×{ratio:.2f}")
    figures.add("added by Slalom, pair by pair, ms", spread(added, 2))


async def rates(server: RealServer, figures: Figures, rounds: int = 3) -> None:
    """Tokens a second, directly and through Slalom, in turns."""
    for width in (1, 4):
        seen: dict[str, list[float]] = {server.engine_url: [], server.url: []}
        for _ in range(rounds):
            for where, values in seen.items():
                values.append(await server.tokens_per_s(where, width, RATE_TOKENS))
        direct, ours = (statistics.median(values) for values in seen.values())
        how = "alone" if width == 1 else f"{width} at a time"
        figures.add(
            f"tokens a second, {how}: directly, through Slalom",
            f"{direct:.0f}, {ours:.0f} (×{ours / direct:.2f})",
        )
