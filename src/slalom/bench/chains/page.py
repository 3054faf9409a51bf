"""The page of the benchmark of chains: what was sent, who was on time, in which way.

Owns the wording. Measures nothing. Called by the command.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from slalom.bench.chains.loads import BY_ITSELF, CHAINED, SPLIT, STEPS, WAYS, Mixture
from slalom.metrics.confidence import Estimate, estimate
from slalom.metrics.results import RunResult

#: Figure -> (heading, factor, digits).
_ROWS = (
    ("chain_attainment", "whole chains on time, %", 100.0, 1),
    ("on_time_per_s", "calls and whole chains on time per second", 1.0, 2),
    ("chains_broken_off", "chains refused after their first call", 1.0, 1),
    ("chain_e2e_ms.p50", "a chain's time from first call to last answer, p50, ms", 1.0, 0),
    ("chain_e2e_ms.p95", "the same, p95, ms", 1.0, 0),
    ("people", "people's own requests on time, %", 100.0, 1),
    ("refused", "requests refused", 1.0, 1),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One way under one load, once."""

    way: str
    repeat: int
    #: Of all requests, and of people's own.
    result: RunResult
    people: RunResult
    #: Share of the machine that other programs took.
    disturbed: float = 0.0

    def figures(self) -> dict[str, float]:
        """What the page shows, by name; a run of which no chain ended has none of chains."""
        return {**self.result.figures(), "people": self.people.total.attainment}


@dataclass(frozen=True, slots=True)
class Facts:
    """Of the whole measurement."""

    command: str
    model: str
    what: Mixture
    #: Of the deadline, by call, seconds; and what a whole chain takes alone.
    shares: Sequence[float]
    alone_s: float
    saturated_per_s: float
    #: Of the rate that fills the engine, that of chains and people together.
    fill: float
    repeats: int
    took_s: float
    separate_cores: bool


def page(facts: Facts, runs: Sequence[Run]) -> str:
    """The page."""
    rows = []
    for name, heading, factor, digits in _ROWS:
        cells = [_cell(_of(runs, way, name), factor, digits) for way in WAYS]
        rows.append(f"| {heading} | {' | '.join(cells)} |")
    parts = [
        "# Chains",
        _made(facts, max((run.disturbed for run in runs), default=0.0)),
        _sent(facts),
        "\n".join(_ways(facts)),
        (
            "A chain is on time if its last call ended before the deadline, counted from the "
            "scheduled arrival of its first call; refused and failed ones are not. ± is half of "
            "the 95 % interval over the repeats."
        ),
        "\n".join([f"| | {' | '.join(WAYS)} |", f"| --- |{' ---: |' * len(WAYS)}", *rows]),
        "In pairs, repeat by repeat:",
        "\n".join(_pairs(runs)),
    ]
    return "\n\n".join(parts) + "\n"


def _made(facts: Facts, disturbed: float) -> str:
    cores = "one core for the engine, another for all else" if facts.separate_cores else "one core"
    return (
        f"Written by `{facts.command}` in {facts.took_s:.0f} s ({cores}; other programs took at "
        f"most {disturbed:.0%} of the machine)."
    )


def _sent(facts: Facts) -> str:
    what = facts.what
    steps = ", ".join(
        f"{step.name} ({step.prompt[0]} to {step.prompt[1]} tokens more, "
        f"{step.output[0]} to {step.output[1]} written)"
        for step in STEPS
    )
    times = what.deadline_s / facts.alone_s
    return (
        f"One Slalom server, `plan-and-trim`, one llama.cpp engine with {facts.model}. Agents run "
        f"chains of {len(STEPS)} calls with one deadline: {steps}. Each prompt begins with all "
        f"that was said before. A chain has {what.deadline_s:.2f} s, {times:.1f} times what it "
        "takes alone. Beside them people send completions, generations, summaries and "
        f"translations with targets of their own. Chains ({what.chains_per_s:.2f}/s) and people "
        f"({what.people_per_s:.2f}/s) together ask for {facts.fill:.0%} of what the engine writes "
        f"at most ({facts.saturated_per_s:.1f} of these requests per second). Each of "
        f"{facts.repeats} repeats is one load of {what.seconds:.0f} s, sent in three ways, in turn:"
    )


def _ways(facts: Facts) -> list[str]:
    shares = ", ".join(f"{share:.2f} s" for share in facts.shares)
    return [
        f"- *{BY_ITSELF}*: the server is not told of chains; each call has its task's targets.",
        (
            f"- *{SPLIT}*: nor here, but each call carries its share of the deadline as an E2E "
            f"target, in proportion to what it takes alone ({shares}): what a client can do by "
            "itself."
        ),
        f"- *{CHAINED}*: the calls say which chain they are of, by headers.",
    ]


def _of(runs: Sequence[Run], way: str, name: str) -> list[float]:
    found = [run.figures().get(name) for run in runs if run.way == way]
    return [one for one in found if one is not None]


def _cell(values: Sequence[float], factor: float, digits: int) -> str:
    return _text(estimate([value * factor for value in values]), digits) if values else "–"


def _text(found: Estimate, digits: int) -> str:
    text = f"{found.mean:.{digits}f}"
    return text if found.margin is None else f"{text} ± {found.margin:.{digits}f}"


def _pairs(runs: Sequence[Run]) -> list[str]:
    """What telling of chains changed, against each of the other ways."""
    lines = []
    for other in (BY_ITSELF, SPLIT):
        gains = []
        for _, together in groupby(sorted(runs, key=lambda run: run.repeat), lambda r: r.repeat):
            by_way = {run.way: run.figures().get("chain_attainment") for run in together}
            ours, theirs = by_way.get(CHAINED), by_way.get(other)
            if ours is not None and theirs is not None:
                gains.append(100 * (ours - theirs))
        if gains:
            lines.append(
                f"- against *{other}*: {_text(estimate(gains), 1)} points of chains on time."
            )
    return lines
