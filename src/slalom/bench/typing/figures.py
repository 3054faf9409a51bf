"""The figures of one run: how quick suggestions are, how many are of use, what was for nothing.

Owns their names and formulas. A suggestion that comes after the next key was hit is of no use, so
that it counts as never; only answers that a pause leaves time for are in the latencies. Pure;
called by the runs, read by the page.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from slalom.bench.typing.background import Asked
from slalom.bench.typing.counters import Computed
from slalom.bench.typing.typist import Completion
from slalom.metrics.records import NEVER
from slalom.units import MS

#: Begins the names of figures that count errors by their code.
REFUSED = "refused."


@dataclass(frozen=True, slots=True)
class Setting:
    """What typists do in a run."""

    typists: int
    #: Whether editors close the older request.
    cancels: bool


@dataclass(frozen=True, slots=True)
class Run:
    """One way in one setting, once."""

    way: str
    setting: Setting
    repeat: int
    #: Name -> value; a name is absent where nothing is known.
    figures: Mapping[str, float] = field(default_factory=dict)
    #: Share of the machine that other programs took.
    disturbed: float = 0.0


def figures(
    typed: Sequence[Completion],
    beside: Sequence[Asked],
    computed: Computed | None,
    seconds: float,
) -> dict[str, float]:
    """All figures of a run.

    Args:
        typed: Every keystroke's completion.
        beside: Every request of the background.
        computed: By the engine during the run; None where it does not say.
        seconds: Span of the keystrokes.
    """
    awaited = [one for one in typed if one.stroke.pause]
    in_time = [one for one in typed if one.in_time]
    found = {
        "keystrokes": float(len(typed)),
        "pauses": float(len(awaited)),
        "ttft_ms.p50": _percentile(map(_ttft_ms, awaited), 50),
        "ttft_ms.p95": _percentile(map(_ttft_ms, awaited), 95),
        "answer_ms.p50": _percentile(map(_answer_ms, awaited), 50),
        "answer_ms.p95": _percentile(map(_answer_ms, awaited), 95),
        "before_next_key": _share(len(in_time), len(typed)),
        "before_pause_ends": _share(sum(one.in_time for one in awaited), len(awaited)),
        "failed": float(sum(bool(one.heard.failed) for one in typed)),
        "replaced": float(sum(one.heard.replaced for one in typed)),
        "cache_hits": float(sum(one.heard.cached for one in typed)),
        "client_lag_ms.p99": _percentile(map(_lag_ms, typed), 99),
        **_background(beside, seconds),
        **_refusals(typed),
    }
    if computed is not None:
        found |= _waste(in_time, beside, computed)
        found["prompt_per_keystroke"] = computed.prompt / max(len(typed), 1)
        found["engine_cached_prompt"] = computed.cached
    return {name: value for name, value in found.items() if not math.isnan(value)}


def _waste(
    in_time: Sequence[Completion], beside: Sequence[Asked], computed: Computed
) -> dict[str, float]:
    """Tokens that were generated for nobody: neither in a suggestion of use nor beside."""
    of_use = sum(one.heard.tokens for one in in_time if not one.heard.cached)
    used = of_use + sum(one.heard.tokens for one in beside)
    wasted = max(computed.generated - used, 0.0)
    return {
        "generated": computed.generated,
        "wasted": wasted,
        "wasted_share": _share(wasted, computed.generated),
        "prompt": computed.prompt,
    }


def _refusals(typed: Sequence[Completion]) -> dict[str, float]:
    """Errors by their code, most frequent first."""
    codes = Counter(one.heard.failed for one in typed if one.heard.failed)
    return {f"{REFUSED}{code}": float(count) for code, count in codes.most_common()}


def _background(beside: Sequence[Asked], seconds: float) -> dict[str, float]:
    chats = [one for one in beside if one.task == "chat"]
    batch = [one for one in beside if one.task == "batch"]
    first_ms = [
        (one.heard.first_ns - one.at_ns) / MS if one.heard.first_ns != NEVER else math.inf
        for one in chats
    ]
    return {
        "chat_ttft_ms.p95": _percentile(first_ms, 95),
        "chats_whole": _share(sum(one.heard.whole_ns != NEVER for one in chats), len(chats)),
        "batch_tokens_per_s": sum(one.heard.tokens for one in batch) / seconds,
    }


def _ttft_ms(one: Completion) -> float:
    return _since_ms(one, one.heard.first_ns)


def _answer_ms(one: Completion) -> float:
    return _since_ms(one, one.heard.whole_ns)


def _since_ms(one: Completion, ns: int) -> float:
    """From the keystroke on; never for what came after the next one."""
    return (ns - one.at_ns) / MS if NEVER < ns <= one.next_ns else math.inf


def _lag_ms(one: Completion) -> float:
    """How late the simulator itself was."""
    return max(one.heard.sent_ns - one.at_ns, 0) / MS if one.heard.sent_ns != NEVER else 0.0


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _percentile(values: Iterable[float], share: float) -> float:
    """By the nearest rank: what never came may not be mixed with what did."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    return ordered[min(max(math.ceil(len(ordered) * share / 100) - 1, 0), len(ordered) - 1)]
