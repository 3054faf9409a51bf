"""Results as rows of text: one column for each policy, a figure with its interval in each row.

Owns the choice, order and wording of the figures people see; `--json` has all of them. Draws no
table itself. Called by the `twin` commands.
"""

from collections.abc import Iterator, Mapping

from slalom.metrics.confidence import Estimate
from slalom.metrics.results import Results

#: Figure -> (what people call it, factor, digits). A name that ends in "*" stands for all with
#: that beginning, in their order.
_ROWS: Mapping[str, tuple[str, float, int]] = {
    "goodput_per_s": ("goodput, good answers/s", 1, 3),
    "attainment": ("attainment, %", 100, 1),
    "attainment.*": ("  {}, %", 100, 1),
    "attainment_min": ("worst task, %", 100, 1),
    "chain_attainment": ("whole chains on time, %", 100, 1),
    "on_time_per_s": ("calls and whole chains on time/s", 1, 3),
    "bound_share": ("no policy above, % of requests", 100, 1),
    "schedule_share": ("clairvoyant schedule, %", 100, 1),
    "good_of_bound": ("good of what is possible, %", 100, 1),
    "ttft_ms.p50": ("TTFT p50, ms", 1, 1),
    "ttft_ms.p95": ("TTFT p95, ms", 1, 1),
    "ttft_ms.p99": ("TTFT p99, ms", 1, 1),
    "tpot_ms.p50": ("TPOT p50, ms", 1, 2),
    "tpot_ms.p95": ("TPOT p95, ms", 1, 2),
    "tpot_ms.p99": ("TPOT p99, ms", 1, 2),
    "e2e_ms.p50": ("E2E p50, ms", 1, 1),
    "e2e_ms.p95": ("E2E p95, ms", 1, 1),
    "e2e_ms.p99": ("E2E p99, ms", 1, 1),
    "chain_e2e_ms.p50": ("chains' E2E p50, ms", 1, 1),
    "chain_e2e_ms.p95": ("chains' E2E p95, ms", 1, 1),
    "injected": ("requests", 1, 0),
    "chains": ("chains", 1, 0),
    "chains_broken_off": ("chains refused after their first call", 1, 1),
    "throughput_per_s": ("throughput, answers/s", 1, 3),
    "refused": ("shed", 1, 1),
    "failed": ("failed", 1, 1),
    "cancelled": ("cancelled by clients", 1, 1),
    "superseded": ("superseded by newer ones", 1, 1),
    "cut_short": ("good, but cut short", 1, 1),
    "loads": ("loads", 1, 1),
    "evictions": ("evictions", 1, 1),
    "cold_start_s": ("cold starts, s", 1, 1),
    "sleeps": ("evictions into sleep", 1, 1),
    "wakes": ("wakes", 1, 1),
    "wake_s": ("wakes, s", 1, 1),
    "busy_share": ("devices busy, %", 100, 1),
    "useful_token_share": ("useful tokens, %", 100, 1),
    "wasted_device_s": ("wasted device time, s", 1, 1),
    "late_device_s": ("device time of late answers, s", 1, 1),
}
#: Rows that are left out where they are 0 under every policy.
_RARE = ("cut_short",)


def table(results: Results) -> tuple[list[str], list[list[str]]]:
    """Headings and rows; a cell is `mean ±half of the 95 per cent interval`."""
    policies = results.policies
    known = {policy: results.estimates(policy) for policy in policies}
    names = list(dict.fromkeys(name for found in known.values() for name in found))
    rows = []
    for name, label, factor, digits in _labels(names):
        if name in _RARE and not any(found[name].mean for found in known.values()):
            continue
        cells = [_cell(known[policy].get(name), factor, digits) for policy in policies]
        rows.append([label, *cells])
    return ["", *policies], rows


def _labels(names: list[str]) -> Iterator[tuple[str, str, float, int]]:
    for pattern, (label, factor, digits) in _ROWS.items():
        if pattern.endswith("*"):
            start = pattern[:-1]
            for name in names:
                if name.startswith(start):
                    yield name, label.format(name.removeprefix(start)), factor, digits
        elif pattern in names:
            yield pattern, label, factor, digits


def _cell(found: Estimate | None, factor: float, digits: int) -> str:
    if found is None:
        return "–"
    text = f"{found.mean * factor:.{digits}f}"
    if found.margin is None:
        return text
    return f"{text} ±{found.margin * factor:.{digits}f}"
