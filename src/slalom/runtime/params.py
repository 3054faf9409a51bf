"""The live world's own numbers.

Owns their defaults; the scheduler's are `slalom.core.params`. Made by the assembly, used by the
driver.
"""

from dataclasses import dataclass, field

from slalom.runtime.supervisor import WatchParams


@dataclass(frozen=True, slots=True)
class RuntimeParams:
    """The live world's own numbers."""

    #: Requests that are in the house at a time, waiting or running; above it they are refused.
    in_flight_max: int = 12_000
    #: How often waiting clients may be told that they wait, and the journal is flushed, s.
    tick_s: float = 0.25
    watch: WatchParams = field(default_factory=WatchParams)
