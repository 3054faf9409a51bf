"""The page of the fidelity comparison: errors of the twin by model, load and policy.

Owns the arithmetic of errors, the verdicts against the aims and the words. Measures nothing.
Called by `fidelity`.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slalom.bench.fidelity_cores import DISTURBED
from slalom.metrics.records import Fate, RequestRecord
from slalom.metrics.results import RunResult
from slalom.metrics.summaries import percentile
from slalom.units import MS

#: Measure -> (its name, the most its error should be, the quantity).
MEASURES: Mapping[str, tuple[float, Callable[[RequestRecord], float | None]]] = {
    "TTFT": (0.20, lambda record: record.ttft_ns),
    "TPOT": (0.10, lambda record: record.tpot_ns),
    "E2E": (0.10, lambda record: record.e2e_ns),
}
_ABOUT = """Each bundled model on llama.cpp behind a real `slalom serve`, and the twin with the step
profile that `slalom calibrate` made of the same engine, on the arrivals that the live server's
journal holds. Live times are the load client's over HTTP, from the moment it sends; answers have
forced lengths. An error is twin over live, less one, of the percentile over whole answers.

Every place has its own part of the engine's KV cache (`extra: {kv_unified: false}`). With one pool
for all, which llama.cpp searches from end to end, a step also looks at what the other places hold,
idle ones too, wherever it lies: no law of lengths tells that time.
"""
DIRECT = """## The engine alone, in its own processor time

Without server and policies: first come first served, one request for each place at a time, and time
is what the engine's threads compute while it has requests. Other programs hardly count in that, so
it can be measured where they run (`python -m slalom.bench.fidelity --direct`); times as short as
slalom-mini's have the client's delays in them where its core is not free.
"""
_KNOWN = """## What decides a step of llama.cpp

Seen with one engine on a core of its own; what the twin has no term for is said.

- **One KV cache for all places** (`kv_unified`, the default here). A prompt of 200 tokens takes
  slalom-mini 8.3 ms while the other places have held next to nothing, 13.9 ms once they hold 3,000
  tokens and 23.9 ms with 5,700, whether they are at work or idle: every token looks past what they
  hold, and freed cells are filled in any order. With a cache for each place it is 7.9 to 8.1 ms
  throughout, and six clients that never pause get 58 instead of 40 answers a second from
  slalom-mini, 16.4 instead of 11.9 from slalom-small. The twin has no term for the shared cache.
- **A cache for each place** is computed in pieces of neighbours: two streams in places 0 and 1 take
  0.34 ms a step, in 0 and 2 0.55 ms; a prompt beside streams gives them one token and makes a piece
  of the rest. The twin divides its steps in the same way.
- **The core is shared** by computing and HTTP: streaming a token takes 0.05 ms of a step of
  0.24 ms, taking a request in about 1 ms, tokenising included, while others wait. Calibration
  finds both (`decode_seq_ns`, `join_ns`).
- **After a pause** of 0.1 s a first token comes 0.5 ms later. Calibration pauses too.
- **Requests that wait inside** slow those that run: 12 instead of 4 open ones, of which 4 run, cost
  15% more processor time for each answer. Slalom sends no more than there are places; the twin has
  no term for it.
- **Sampling** (greedy or the default) and prompt caching make no difference that could be seen.
"""
#: Difference of the shares of good answers that is aimed at, and below which two policies tie.
GOODPUT_AIM = 0.05
_TOO_MUCH = """That is too much: calibration and runs were slowed at different times, and the errors
below are mostly theirs. Measure again on an idle machine."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One load under one policy, live and in the twin."""

    model: str
    load: str
    policy: str
    rate_per_s: float
    live: RunResult
    twin: RunResult
    live_records: tuple[RequestRecord, ...]
    twin_records: tuple[RequestRecord, ...]
    #: What live requests took between the client and the scheduler, ns; the twin has no such way.
    way_ns: int = 0
    #: Share of the machine that other programs took while it ran.
    disturbed: float = 0.0

    def times_ms(self, measure: str, share: float) -> tuple[float, float]:
        """(live, twin) percentile of a measure over whole answers, ms; NaN without any."""
        _, quantity = MEASURES[measure]
        return (
            _percentile(self.live_records, quantity, share),
            _percentile(self.twin_records, quantity, share),
        )

    def error(self, measure: str, share: float) -> float:
        """How far the twin's percentile is from the live one, as a share of it."""
        live, twin = self.times_ms(measure, share)
        return twin / live - 1

    @property
    def goodput_points(self) -> float:
        """Difference of the shares of good answers, twin minus live."""
        return self.twin.total.attainment - self.live.total.attainment


def _percentile(
    records: Sequence[RequestRecord],
    quantity: Callable[[RequestRecord], float | None],
    share: float,
) -> float:
    values = sorted(
        value
        for record in records
        if record.fate is Fate.DONE and (value := quantity(record)) is not None
    )
    return percentile(values, share) / MS if values else math.nan


def page(
    cells: Sequence[Cell],
    calibrations: Mapping[str, Any],
    command: str,
    direct: Sequence[str] = (),
) -> str:
    """The report in Markdown."""
    lines = [
        "# The twin against a real engine",
        "",
        _ABOUT,
        f"Command: `{command}`",
        "",
        *_setting(cells, calibrations),
        f"Of a live answer's time {_way_ms(cells):.1f} ms (the median over the cells) pass between",
        "client and scheduler, both ways; the twin has no such way.",
        "",
        *_verdicts(cells),
        "",
        "## Errors",
        "",
        *_errors(cells),
        "",
        "## Good answers",
        "",
        *_goodput(cells),
        "",
        "## Calibration",
        "",
        *_calibrations(calibrations),
        "",
        DIRECT,
        *direct,
        "",
        _KNOWN.rstrip(),
    ]
    return "\n".join(lines) + "\n"


def _setting(cells: Sequence[Cell], calibrations: Mapping[str, Any]) -> list[str]:
    first = next(iter(calibrations.values()))
    cores = (
        "the engine's thread on one core, server and load client on the other"
        if first["separate_cores"]
        else "all programs on the same cores"
    )
    key = first["key"]
    shares = [cell.disturbed for cell in cells]
    shares += [found["disturbed"] for found in calibrations.values()]
    disturbed = max(shares)
    lines = [
        f"Machine: {key['device']}; {key['engine']}; {cores}.",
        f"Other programs took {statistics.median(shares):.1%} of the processors meanwhile,",
        f"{disturbed:.1%} in the worst run.",
    ]
    if disturbed > DISTURBED:
        lines += ["", _TOO_MUCH]
    return lines


def _way_ms(cells: Sequence[Cell]) -> float:
    return statistics.median(cell.way_ns for cell in cells) / MS


def _verdicts(cells: Sequence[Cell]) -> list[str]:
    """Each aim with what was reached."""
    rows = ["| measure | aim | median error, typical | median error, worst | cells within |"]
    rows.append("|---|---:|---:|---:|---:|")
    for measure, (aim, _) in MEASURES.items():
        errors = [abs(cell.error(measure, 50)) for cell in cells]
        known = [error for error in errors if not math.isnan(error)]
        rows.append(
            f"| {measure} | ≤ {aim:.0%} | {statistics.median(known):.1%} | {max(known):.1%} "
            f"| {sum(error <= aim for error in known)} of {len(known)} |"
        )
    points = [abs(cell.goodput_points) for cell in cells]
    rows.append(
        f"| good answers | ≤ {GOODPUT_AIM * 100:.0f} points | {statistics.median(points) * 100:.1f}"
        f" | {max(points) * 100:.1f} | {sum(p <= GOODPUT_AIM for p in points)} of {len(points)} |"
    )
    same = [_same_ranking(own) for own in _groups(cells)]
    rows.append(f"| ranking of policies | the same | | | {sum(same)} of {len(same)} |")
    return rows


def _errors(cells: Sequence[Cell]) -> list[str]:
    names = ("model", "load", "policy", "measure")
    figures = ("live p50", "twin p50", "error", "live p90", "twin p90", "error")
    rows = [f"| {' | '.join((*names, *figures))} |", f"|{'---|' * 4}{'---:|' * 6}"]
    for cell in cells:
        for measure in MEASURES:
            parts = []
            for share in (50, 90):
                live, twin = cell.times_ms(measure, share)
                parts.append(f"{live:.2f} | {twin:.2f} | {cell.error(measure, share):+.1%}")
            rows.append(
                f"| {cell.model} | {cell.load} | {cell.policy} | {measure}, ms "
                f"| {' | '.join(parts)} |"
            )
    return rows


def _goodput(cells: Sequence[Cell]) -> list[str]:
    rows = [
        "| model | load | requests/s | policy | live | twin | points | other programs |",
        "|---|---|---:|---|---:|---:|---:|---:|",
    ]
    rows += [
        f"| {cell.model} | {cell.load} | {cell.rate_per_s:.1f} | {cell.policy} "
        f"| {cell.live.total.attainment:.1%} | {cell.twin.total.attainment:.1%} "
        f"| {cell.goodput_points * 100:+.1f} | {cell.disturbed:.0%} |"
        for cell in cells
    ]
    return rows


def _calibrations(calibrations: Mapping[str, Any]) -> list[str]:
    rows = ["| model | steps | experiments | error p50 | p90 |", "|---|---|---:|---:|---:|"]
    rows += [
        f"| {model} | {error['kind']} | {error['observations']} | {error['median']:.1%} "
        f"| {error['p90']:.1%} |"
        for model, found in calibrations.items()
        for error in found["errors"]
    ]
    return rows


def _groups(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Cells of one model and load: those whose policies can be ranked."""
    found: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        found.setdefault((cell.model, cell.load), []).append(cell)
    return list(found.values())


def _same_ranking(cells: Sequence[Cell]) -> bool:
    """Whether no pair of policies is clearly the other way round in the twin."""
    for one in cells:
        for other in cells:
            live = one.live.total.attainment - other.live.total.attainment
            twin = one.twin.total.attainment - other.twin.total.attainment
            if live > GOODPUT_AIM and twin < 0:
                return False
    return True
