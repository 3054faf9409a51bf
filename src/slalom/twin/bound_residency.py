"""The rows that models of one device share: attempts in flight, and memory with its loads.

Owns the cost-aware clairvoyant residency of the bound: replicas come and go in parts, each part
paying its part of a load with its bytes booked meanwhile. Called by `bound_upper`.
"""

from collections.abc import Sequence
from math import inf

import numpy as np

from slalom.core.request import DeviceSpec
from slalom.twin.bound_cells import Floats, Ints
from slalom.twin.bound_program import Program
from slalom.twin.bound_rows import Side
from slalom.twin.scenario import TwinModel
from slalom.units import SECOND


def share_window(
    program: Program, sides: Sequence[Side], device: DeviceSpec, borders: Floats
) -> None:
    """(D) attempts in flight over all replicas of a device whose window is bounded."""
    if not device.window or not sides:
        return
    terms = []
    for side in sides:
        each = np.ones(len(side.pairs))
        terms.append((side.pairs.cell, side.tokens, each / side.curve.alone_per_s))
        terms.append((side.pairs.cell, side.reading, each))
    program.limit(np.diff(borders) * device.window, *terms)


def share_memory(
    program: Program, sides: Sequence[Side], device: DeviceSpec, borders: Floats
) -> None:
    """(M) ready and loading replicas within the budget; nothing to do where all fit together."""
    wanted = sum(side.model.spec.bytes_needed * side.model.spec.replicas for side in sides)
    if wanted <= device.budget_bytes:
        return
    spans = np.diff(borders)
    cells = np.arange(len(spans))
    over_time, at_borders = [], []
    for side in sides:
        if side.model.spec.bytes_needed == 0:
            continue
        share = np.full(len(cells), side.model.spec.bytes_needed / device.budget_bytes)
        held, booked, loading = _add_loads(program, side, spans)
        over_time += [(cells, booked, share), (cells, loading, share)]
        at_borders.append((cells, held, share))
        _need_a_replica(program, side)
    program.limit(spans, *over_time)
    program.limit(np.ones(len(cells)), *at_borders)


def _add_loads(program: Program, side: Side, spans: Floats) -> tuple[Ints, Ints, Ints]:
    """(L) a replica is ready only after a load, or at least a wake, which takes its time.

    Returns:
        Replicas held at the beginning of each cell; seconds of booked ready replicas in it;
        seconds of loads in it.
    """
    cells, replicas = np.arange(len(spans)), float(side.model.spec.replicas)
    zeros, ones = np.zeros(len(cells)), np.ones(len(cells))
    load_s = max(min(side.load_s, _wake_s(side.model)), 1e-9)
    # Nothing is held, and no load is paid for, at the beginning.
    later_ones = np.where(cells == 0, 0.0, 1.0)
    held = program.add(later_ones * replicas)
    paid_s = program.add(later_ones * replicas * float(spans.sum()))
    kept = program.add(ones * replicas)
    booked = program.add(spans * replicas)
    loading = program.add(spans * replicas)
    loaded = program.add(ones * replicas * (float(spans.sum()) / load_s + 1.0))
    program.limit(
        zeros, (cells, side.ready, 1.0 / spans), (cells, held, -ones), (cells, loaded, -ones)
    )
    # What is there at both ends of a cell without a new load was there all the time.
    program.limit(zeros, (cells, kept, ones), (cells, held, -ones))
    program.limit(zeros, (cells, kept, spans), (cells, booked, -ones))
    program.limit(zeros, (cells, side.ready, ones), (cells, booked, -ones))
    rows, later, before = cells[:-1], cells[1:], cells[:-1]
    more = np.ones(len(rows))
    program.limit(
        np.zeros(len(rows)),
        (rows, held[later], more),
        (rows, kept[before], -more),
        (rows, loaded[before], -more),
    )
    # Time paid for loads: what was paid before and in this cell, less what it bought.
    program.limit(
        np.zeros(len(rows)),
        (rows, paid_s[later], more),
        (rows, paid_s[before], -more),
        (rows, loading[before], -more),
        (rows, loaded[before], load_s * more),
    )
    program.limit(
        zeros, (cells, loaded, load_s * ones), (cells, paid_s, -ones), (cells, loading, -ones)
    )
    return held, booked, loading


def _wake_s(model: TwinModel) -> float:
    """Least time in which a replica that has slept comes up again, seconds."""
    if not model.spec.sleep_level:
        return inf
    law = model.sleep
    return law.fixed_ns / SECOND + law.weights(model.spec) / law.bytes_per_s


def _need_a_replica(program: Program, side: Side) -> None:
    """(Q) a request works only while a replica of its model is ready."""
    pairs = side.pairs
    rows = np.arange(len(pairs))
    program.limit(
        np.zeros(len(rows)),
        (rows, side.tokens, np.full(len(rows), 1.0 / side.curve.alone_per_s)),
        (rows, side.reading, np.ones(len(rows))),
        (rows, side.ready[pairs.cell], -np.ones(len(rows))),
    )
