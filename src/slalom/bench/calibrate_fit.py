"""From observed steps to the coefficients of a step profile, with the error that remains.

Owns the law's terms as columns, a non-negative least-squares fit of the logarithms' errors in which
outliers (a busy machine) lose their weight, and the table of errors. Asks no engine. Called by
`calibrate`.
"""

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from slalom.bench.calibrate_probe import Kind, Observation
from slalom.bench.calibrate_work import Work
from slalom.errors import EngineError
from slalom.twin.step_time import StepProfile

#: Batches up to which a step may cost the same, tokens; the one that fits best is taken.
_FLAT_TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 192, 256)
#: A flat part must be better by this share than none, or none is taken.
_FLAT_GAIN = 0.1
#: An observation that is off by more than this share loses weight.
_OUTLIER = 0.05
#: An observation of all places kept busy counts as so many: it is what a load is like.
_BUSY_WEIGHT = 3.0
_ROUNDS = 200
#: Terms that add less than this share of the shortest observation anywhere are left out.
_NOTHING = 1e-3


@dataclass(frozen=True, slots=True)
class FitError:
    """How far the law is from what was observed with one kind of experiment, as shares."""

    kind: Kind
    observations: int
    median: float
    p90: float
    largest: float


@dataclass(frozen=True, slots=True)
class Fit:
    """The coefficients and what they leave unexplained."""

    profile: StepProfile
    errors: tuple[FitError, ...]


def fit(observations: Sequence[Observation], *, name: str, source: str) -> Fit:
    """Fit a profile.

    Args:
        observations: At least one with and one without a prompt.
        name: Of the profile.
        source: Of the profile: what was measured, for people.

    Raises:
        EngineError: Too little was observed.
    """
    kinds = {row.kind for row in observations}
    if not {Kind.DECODE, Kind.PREFILL} <= kinds:
        raise EngineError(
            f"the probe saw only {', '.join(sorted(kinds)) or 'nothing'}: the engine was too slow "
            "for it, or does not stream; try a smaller model or an idle machine"
        )
    observations = _typical(observations)
    best = _fit(observations, _FLAT_TOKENS[0])
    for flat_tokens in _FLAT_TOKENS[1:]:
        other = _fit(observations, flat_tokens)
        if other.error < best.error * (1 - _FLAT_GAIN):
            best = other
    profile = best.profile(name, source)
    errors = _relative_errors(observations, best)
    return Fit(profile, _by_kind(observations, errors))


def _typical(observations: Sequence[Observation]) -> list[Observation]:
    """One observation for each experiment: the lower quartile of its repeats, for their tokens.

    What disturbs a machine makes steps longer, hardly ever shorter.
    """
    repeats: dict[int, list[Observation]] = {}
    for row in observations:
        repeats.setdefault(row.experiment, []).append(row)
    return [sorted(rows, key=_ns_per_token)[len(rows) // 4] for rows in repeats.values()]


def _ns_per_token(row: Observation) -> float:
    return row.ns / sum(row.work.pieces)


@dataclass(frozen=True, slots=True)
class _Candidate:
    flat_tokens: int
    coefficients: NDArray[np.float64]
    matrix: NDArray[np.float64]
    error: float
    error_max: float

    def profile(self, name: str, source: str) -> StepProfile:
        step, token, seq, kv, pair, ingest, join = (float(value) for value in self.coefficients)
        # What the host and what a flat batch costs cannot be told apart from outside.
        return StepProfile(
            name=name,
            source=source,
            dense_flat_tokens=self.flat_tokens,
            dense_flat_ns=max(step, 1.0),
            dense_ns_per_token=token,
            decode_seq_ns=seq,
            decode_kv_ns_per_token=kv,
            prefill_attention_ns_per_token_ctx=pair,
            ingest_ns=ingest,
            join_ns=join,
            fit_error=self.error,
            fit_error_max=self.error_max,
        )


def _row(work: Work, flat_tokens: int) -> list[float]:
    """The terms of the law, in the order in which `_Candidate.profile` takes them."""
    return [
        len(work.pieces),
        sum(max(piece - flat_tokens, 0) for piece in work.pieces),
        work.decode_seqs,
        work.kv_tokens,
        work.prefill_pairs,
        float(work.from_idle),
        work.requests,
    ]


def _fit(observations: Sequence[Observation], flat_tokens: int) -> _Candidate:
    matrix = np.array([_row(row.work, flat_tokens) for row in observations], dtype=float)
    if all(row.kind is not Kind.MIXED for row in observations):
        # Only requests to an idle engine were seen: what is ingestion cannot be told.
        matrix[:, -1] = 0.0
    seen = np.array([max(row.ns, 1) for row in observations], dtype=float)
    sizes = matrix.max(axis=0) + 1e-30
    scaled = matrix / sizes
    begin = _non_negative(matrix / seen[:, None], np.ones(len(seen))) * sizes
    # Least squares of relative errors say too little where much is disturbed: begin in the middle.
    begin = np.maximum(begin * float(np.median(seen / np.maximum(scaled @ begin, 1.0))), 1.0)
    weights = np.array([_BUSY_WEIGHT if row.work.requests > 1 else 1.0 for row in observations])
    found = least_squares(
        lambda solution: weights * np.log(np.maximum(scaled @ solution, 1e-3) / seen),
        begin,
        jac=lambda solution: (weights / np.maximum(scaled @ solution, 1e-3))[:, None] * scaled,
        bounds=(0.0, np.inf),
        loss="soft_l1",
        f_scale=_OUTLIER,
        x_scale="jac",
        max_nfev=_ROUNDS,
    )
    solution = np.asarray(found.x, dtype=np.float64) / sizes
    # The solver stays a hair away from zero.
    solution[found.x < _NOTHING * seen.min()] = 0.0
    errors = np.abs(matrix @ solution / seen - 1)
    error = float(np.median(errors))
    return _Candidate(flat_tokens, solution, matrix, error, float(errors.max()))


def _non_negative(matrix: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """The least-squares solution without negative parts.

    With so few columns every choice of those that stay is tried: the best solution is the
    ordinary one of some choice.
    """
    columns = matrix.shape[1]
    # Columns of like size, so that none is lost to rounding.
    sizes = np.maximum(np.abs(matrix).max(axis=0), 1e-30)
    matrix = matrix / sizes
    best, least = np.zeros(columns), float(wanted @ wanted)
    for size in range(1, columns + 1):
        for chosen in itertools.combinations(range(columns), size):
            part = matrix[:, chosen]
            found = np.linalg.lstsq(part, wanted, rcond=None)[0]
            left = float(np.sum((part @ found - wanted) ** 2))
            if left < least and found.min() >= 0:
                best, least = np.zeros(columns), left
                best[list(chosen)] = found
    scaled: NDArray[np.float64] = best / sizes
    return scaled


def _relative_errors(observations: Sequence[Observation], best: _Candidate) -> list[float]:
    said = best.matrix @ best.coefficients
    return [abs(float(law) / row.ns - 1) for law, row in zip(said, observations, strict=True)]


def _by_kind(observations: Sequence[Observation], errors: Sequence[float]) -> tuple[FitError, ...]:
    found = []
    for kind in Kind:
        own = [e for e, row in zip(errors, observations, strict=True) if row.kind is kind]
        if own:
            p90 = float(np.percentile(own, 90))
            found.append(FitError(kind, len(own), statistics.median(own), p90, max(own)))
    return tuple(found)
