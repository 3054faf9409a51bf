"""What the runtime tells of a request that has not come: the planner's view, and the model's state.

Owns the shape only. Made by `driver`, read by the gateway.
"""

from dataclasses import dataclass

from slalom.core.planning import Expectation
from slalom.core.snapshot import ModelSnapshot


@dataclass(frozen=True, slots=True)
class Forecast:
    """An answer to "what if it came now"."""

    #: Whether the configured admission makes predictions at all.
    predicts: bool
    #: The scheduler's time; what is expected counts on the same clock.
    now_ns: int
    #: None where nothing can be told: no replica is ready, or too little was seen.
    expected: Expectation | None
    #: None for an unknown model.
    model: ModelSnapshot | None
