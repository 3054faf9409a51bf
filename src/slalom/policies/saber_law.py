"""SABER's offline half: the speed of a request as a function of how many run.

Owns the three laws that the paper compares and their fits to its published means. Source: arXiv
2506.19677 (R^2 there: universal scalability 0.99, logistic 0.97, linear 0.91). The paper gives the
coefficients of the first only; those of the others are ours, least squares on the same means.
"""

from collections.abc import Callable
from math import exp
from typing import Literal

from slalom.core.request import StepCost
from slalom.units import SECOND

LawName = Literal["usl", "logistic", "linear", "fit"]

#: Tokens per second of each request at a load.
Law = Callable[[int], float]

#: law -> (a, s, k).
PUBLISHED_FITS: dict[str, tuple[float, float, float]] = {
    "usl": (102.55, 0.0300, -0.0001),
    "logistic": (311.602, 0.018408, -45.400),
    "linear": (92.243, 0.90976, 0.0),
}
#: As typed in the published program, in place of 0.03 and -0.0001.
PROGRAM_FIT = (102.55, 0.003, -0.001)


def speed_law(
    name: LawName, coefficients: tuple[float, float, float] | None, cost: StepCost | None
) -> Law:
    """The law of a model's engine.

    Args:
        name: Which.
        coefficients: a, s, k; the published fit if None.
        cost: What is calibrated, for `fit`; without it the published law stands in.
    """
    if name == "fit" and cost is not None:
        return lambda load: SECOND / max(cost.of(load, 0, 0), 1.0)
    name = "usl" if name == "fit" else name
    a, s, k = coefficients or PUBLISHED_FITS[name]
    if name == "linear":
        return lambda load: a - s * load
    if name == "logistic":
        return lambda load: a / (1 + exp(s * (load - k)))
    #: A negative k turns the polynomial back there: beyond, the speed stays as it is.
    turn = -s / (2 * k) if k < 0 else float("inf")

    def usl(load: int) -> float:
        held = min(load, turn)
        return a / (1 + s * held + k * held * held)

    return usl


def program_law(load: int) -> float:
    """What the published program computes: each request counted twice, coefficients as typed.

    The denominator falls and changes its sign at a load of 33, so that nothing is admitted beside
    17 others or more: a fixed cap.
    """
    a, s, k = PROGRAM_FIT
    counted = 2 * load - 1
    return a / (1 + s * counted + k * counted * counted)
