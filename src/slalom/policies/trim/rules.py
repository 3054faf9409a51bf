"""What a plan may do to some for the sake of others: options of the policy, as fitting reads them.

Owns no decision. Made by `planner`, read by `fitting`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """What fitting may do."""

    #: Jobs that may wait, or be paused, for the sake of one that is tighter; 0 for none.
    defer_max: int
    #: Costlier jobs that may give way to one newcomer; 0 for none.
    displace_max: int
    #: How many times as costly they must be at least.
    displace_factor: float
    #: Pauses of one job at most, and pauses after which it is paused for no deferral any more.
    pauses_max: int
    defer_pauses_max: int
    #: Whether a job waits where the chances of others lose more than its own.
    weigh_chances: bool
