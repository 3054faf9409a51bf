"""The rows of the linear program: what every run of the twin obeys, model by model.

Owns the variables and inequalities; docs/explanation/bound.md derives each of them under the
same letters. Owns neither the choice of models and requests nor the solving. Called by
`bound_upper`.
"""

from dataclasses import dataclass

import numpy as np

from slalom.twin.bound_cells import Floats, Ints, Overlaps, Windows, overlaps
from slalom.twin.bound_curve import RateCurve
from slalom.twin.bound_program import Program
from slalom.twin.scenario import TwinModel


@dataclass(frozen=True, slots=True)
class Side:
    """One model in the program: its data, and the numbers of its variables."""

    model: TwinModel
    curve: RateCurve
    windows: Windows
    #: Time of its shortest load, s.
    load_s: float
    #: x: share of each request that is good.
    good: Ints
    #: Z: seconds of ready replicas in each cell.
    ready: Ints
    #: Where the requests' windows meet the cells; y and p are parallel to it.
    pairs: Overlaps
    #: y: tokens written.
    tokens: Ints
    #: p: seconds of reading the prompt.
    reading: Ints


def add_model(
    program: Program,
    model: TwinModel,
    curve: RateCurve,
    windows: Windows,
    load_s: float,
    borders: Floats,
) -> Side:
    """The variables and rows of one model that need no other model."""
    lit_s = np.clip(borders[1:] - load_s, 0.0, np.diff(borders)) * model.spec.replicas
    pairs = overlaps(windows, borders)
    side = Side(
        model=model,
        curve=curve,
        windows=windows,
        load_s=load_s,
        good=program.add(np.ones(len(windows)), value=1.0),
        ready=program.add(lit_s),
        pairs=pairs,
        tokens=program.add(pairs.write_s * curve.alone_per_s),
        reading=program.add(pairs.read_s),
    )
    _demand(program, side)
    _one_at_a_time(program, side)
    _rates(program, side)
    return side


def _demand(program: Program, side: Side) -> None:
    """(W) all tokens and (F) the first token inside their windows, (P) the prompt before them."""
    windows, pairs = side.windows, side.pairs
    jobs = np.arange(len(windows))
    given = _gifts(program, side)
    own = [(jobs, given, -np.ones(len(jobs)))] if len(given) else []
    program.limit(
        np.zeros(len(jobs)),
        (jobs, side.good, windows.tokens),
        (pairs.job, side.tokens, -np.ones(len(pairs))),
        *own,
    )
    early = pairs.early
    program.limit(
        np.zeros(len(jobs)),
        (jobs, side.good, windows.first_tokens),
        (pairs.job[early], side.tokens[early], -np.ones(int(early.sum()))),
        *own,
    )
    program.limit(
        np.zeros(len(jobs)),
        (jobs, side.good, windows.prefill_s),
        (pairs.job, side.reading, -np.ones(len(pairs))),
    )


def _gifts(program: Program, side: Side) -> Ints:
    """(G) tokens under way keep their pace when others start: few, in all and for each."""
    curve, tokens = side.curve, side.windows.tokens
    if curve.gift_tokens <= 0.0:
        return np.zeros(0, dtype=np.int64)
    jobs = np.arange(len(tokens))
    given = program.add(tokens * curve.gift_share)
    program.limit(
        np.zeros(len(jobs)),
        (jobs, given, np.ones(len(jobs))),
        (jobs, side.good, -tokens * curve.gift_share),
    )
    total = np.zeros(len(jobs), dtype=np.int64)
    program.limit(
        np.zeros(1),
        (total, given, np.ones(len(jobs))),
        (total, side.good, -curve.gift_tokens * side.windows.starts),
    )
    return given


def _one_at_a_time(program: Program, side: Side) -> None:
    """(S) a request reads or writes, alone at best, for no longer than it is in the cell."""
    pairs = side.pairs
    rows = np.arange(len(pairs))
    span_s = np.where(pairs.read_s > 0.0, pairs.any_s, pairs.write_s)
    program.limit(
        np.zeros(len(rows)),
        (rows, side.tokens, np.full(len(rows), 1.0 / side.curve.alone_per_s)),
        (rows, side.reading, np.ones(len(rows))),
        (rows, side.good[pairs.job], -span_s),
    )


def _rates(program: Program, side: Side) -> None:
    """(N) no more than its places work at a time; (R) no more tokens than the curve allows."""
    pairs, curve = side.pairs, side.curve
    cells = np.arange(len(side.ready))
    zeros, ones, each = np.zeros(len(cells)), np.ones(len(cells)), np.ones(len(pairs))
    program.limit(
        zeros,
        (pairs.cell, side.tokens, each / curve.alone_per_s),
        (pairs.cell, side.reading, each),
        (cells, side.ready, -curve.places * ones),
    )
    # Sums over the requests of a cell: tokens written, time in which they could have been.
    most_s = np.zeros(len(cells))
    np.add.at(most_s, pairs.cell, pairs.write_s)
    written = program.add(most_s * curve.alone_per_s)
    open_s = program.add(most_s)
    program.limit(zeros, (pairs.cell, side.tokens, each), (cells, written, -ones))
    program.limit(zeros, (pairs.cell, side.good[pairs.job], -pairs.write_s), (cells, open_s, ones))
    for line in curve.lines:
        program.limit(
            zeros,
            (cells, written, ones),
            (cells, open_s, -line.each_per_s * ones),
            (cells, side.ready, -line.idle_per_s * ones),
        )
    if not side.windows.shared_s.any():
        return
    # (T) whatever the batching, tokens and prompts take their time of the replica.
    windows = side.windows
    taken = windows.shared_s / np.maximum(windows.prefill_s, 1e-12)
    program.limit(
        zeros,
        (pairs.cell, side.tokens, curve.token_s * each),
        (pairs.cell, side.reading, taken[pairs.job]),
        (cells, side.ready, -ones),
    )
