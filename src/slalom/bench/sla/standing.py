"""Part 2: the standing loads from half the knee to two and a half times it, under every policy.

Owns the cells, the ranking and the tables, on the engines of the files and on a llama.cpp server
that stands in for them. Called by the command.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slalom.bench.sla.cells import Cell, Load, Result
from slalom.bench.sla.choices import OURS, PROGRAM, REFUSING, Choice, for_any_engine
from slalom.bench.sla.knees import LLAMA_CPP, knees, rate_per_s, standing
from slalom.bench.sla.running import Runner
from slalom.bench.sla.settings import Part, Settings
from slalom.bench.sla.tables import cell, percent, points, table
from slalom.metrics.confidence import Estimate, estimate

#: Of the knee.
MULTIPLES = (0.5, 1.0, 1.5, 2.0, 2.5)
#: Below the knee a policy may be so far behind the best, share.
_NEAR = 0.01
_QUICK_MULTIPLES = (1.0, 2.0)
#: Variants that belong to SABER's grid.
_LEFT_OUT = (PROGRAM.name, REFUSING.name)
#: Title -> whether it is the stand-in.
_ENGINES = {
    "the files' engines": False,
    f"llama.cpp, {LLAMA_CPP}": True,
}


@dataclass(frozen=True, slots=True)
class Board:
    """One load on one engine: what every policy made of it at every multiple of the knee."""

    name: str
    #: Factor of the file's rate, and the rate itself, requests per second.
    knee: float
    knee_per_s: float
    multiples: Sequence[float]
    #: policy -> multiple -> results by seed.
    runs: Mapping[str, Mapping[float, Sequence[Result]]]

    def figure(self, policy: str, multiple: float, name: str) -> list[float]:
        """One figure by seed."""
        return [float(result.get(name, 0.0)) for result in self.runs[policy][multiple]]

    def mean(self, policy: str, multiple: float, name: str) -> float:
        """Its mean."""
        return statistics.fmean(self.figure(policy, multiple, name))

    def best(self, multiple: float, without: str = "") -> str:
        """The policy with the highest goodput, without one and its variants."""
        names = [name for name in self.runs if not without or not name.startswith(without)]
        return max(names, key=lambda name: self.mean(name, multiple, "goodput_per_s"))


def part(settings: Settings, runner: Runner) -> Part:
    """Run it."""
    chosen = [choice for choice in for_any_engine(settings.only) if choice.name not in _LEFT_OUT]
    texts = [_ABOUT.format(seeds=settings.seeds)]
    documents: dict[str, Any] = {}
    for title, llama_cpp in _ENGINES.items():
        loads = {
            one.name: one.load(settings.folder, llama_cpp=llama_cpp)
            for one in standing(settings)
            if one.stand_in or not llama_cpp
        }
        found = list(boards(settings, runner, loads, chosen, title))
        drawn = f"sla-standing-{len(documents)}.svg"
        texts.append("\n".join(section(title, found)))
        texts.append(f"![Good answers per second against the load]({drawn})")
        documents[title] = {board.name: _document(board) for board in found}
    return Part("\n\n".join(texts), documents)


def boards(
    settings: Settings,
    runner: Runner,
    loads: Mapping[str, Load],
    chosen: Sequence[Choice],
    title: str,
) -> Iterator[Board]:
    """Play the loads under these policies."""
    multiples = _QUICK_MULTIPLES if settings.quick else MULTIPLES
    found = knees(settings, runner, loads, title)
    cells = {
        (name, choice.name, multiple, seed): Cell(
            replace(load, rate=found[name] * multiple), seed, choice
        )
        for name, load in loads.items()
        for choice in chosen
        for multiple in multiples
        for seed in range(settings.seeds)
    }
    results = runner.play(cells.values(), title)
    for name, load in loads.items():
        runs = {
            choice.name: {
                multiple: [
                    results[cells[name, choice.name, multiple, seed]]
                    for seed in range(settings.seeds)
                ]
                for multiple in multiples
            }
            for choice in chosen
        }
        yield Board(name, found[name], found[name] * rate_per_s(load), multiples, runs)


def section(title: str, found: Sequence[Board]) -> Iterator[str]:
    """The part of the page for one engine, line by line."""
    yield f"### {title[0].upper()}{title[1:]}\n"
    ranked = [board for board in found if OURS.name in board.runs]
    if ranked:
        yield "Plan-and-trim's goodput against the best of the others, %:\n"
        multiples = ranked[0].multiples
        heads = ["load", "knee, req/s", *(f"{multiple:g} × knee" for multiple in multiples)]
        yield from table(heads, [_against_best(board) for board in ranked])
        yield f"\n{_score(ranked)}"
    for board in found:
        yield f"\n**{board.name}**, knee at {board.knee_per_s:.3g} arrivals/s. "
        yield "Goodput in good answers/s, and the worst task's attainment in %:\n"
        heads = ["policy", *(f"{multiple:g} × knee" for multiple in board.multiples)]
        yield from table(heads, [_row(board, name) for name in board.runs])


def gap(board: Board, multiple: float) -> tuple[Estimate, str]:
    """Ours over the best other policy, relative to that one's mean; and that one's name."""
    other = board.best(multiple, without=OURS.name)
    theirs = board.figure(other, multiple, "goodput_per_s")
    ours = board.figure(OURS.name, multiple, "goodput_per_s")
    scale = statistics.fmean(theirs) or 1.0
    return estimate([(a - b) / scale for a, b in zip(ours, theirs, strict=True)]), other


def _score(boards: Sequence[Board]) -> str:
    """In how many cells ours is first, surely not first, and near the first below the knee."""
    beyond = [gap(one, m)[0] for one in boards for m in one.multiples if m >= 1]
    below = [gap(one, m)[0] for one in boards for m in one.multiples if m < 1]
    first = sum(one.mean >= 0 for one in beyond)
    behind = sum(one.high is not None and one.high < 0 for one in beyond)
    near = sum(one.mean >= -_NEAR for one in below)
    return (
        f"At and beyond the knee it is first in {first} of {len(beyond)} cells, and behind by more "
        f"than the interval in {behind}; below it, it is within 1 % of the first in {near} of "
        f"{len(below)}.\n"
    )


def _against_best(board: Board) -> list[str]:
    row = [board.name, f"{board.knee_per_s:.3g}"]
    for multiple in board.multiples:
        made, other = gap(board, multiple)
        row.append(f"{points(made)} ({other})")
    return row


def _row(board: Board, name: str) -> list[str]:
    row = [name]
    for multiple in board.multiples:
        good = cell(estimate(board.figure(name, multiple, "goodput_per_s")), digits=2)
        worst = percent(board.mean(name, multiple, "attainment_min"), 0)
        row.append(f"{good} / {worst}")
    return row


def _document(board: Board) -> dict[str, Any]:
    return {
        "knee_per_s": board.knee_per_s,
        "multiples": list(board.multiples),
        "policies": {
            name: {
                figure: [board.mean(name, multiple, figure) for multiple in board.multiples]
                for figure in ("goodput_per_s", "attainment", "attainment_min", "refused")
            }
            for name in board.runs
        },
    }


_ABOUT = """\
## The standing loads

The loads in `scenarios/`, shortened to some hundreds of requests, from half the knee to two and a
half times it, over {seeds} seeds. The knee is where a plain first-come proxy's share of good
answers falls to nine tenths of what it is at an eighth of the file's rate. Slices of four minutes
stand for seeds where a trace is played. Differences are paired by seed."""
