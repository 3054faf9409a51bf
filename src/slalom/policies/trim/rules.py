"""What a plan may do: options of the policy, as those read them who make a plan.

Owns what may be done to some for the sake of others, how those are treated that cannot be helped,
and how both follow from the options. Owns no decision. Made by `planner`, read by `fitting` and
`draft`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from slalom.units import MS

if TYPE_CHECKING:
    from slalom.policies.trim.plan_and_trim import PlanAndTrim


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

    @classmethod
    def of(cls, options: "PlanAndTrim") -> "Rules":
        """As the options say."""
        return cls(
            defer_max=options.defer_max,
            displace_max=options.displace_max,
            displace_factor=options.displace_factor,
            pauses_max=options.pauses_max,
            defer_pauses_max=options.defer_pauses_max,
            weigh_chances=options.weigh_chances,
        )


@dataclass(frozen=True, slots=True)
class Manners:
    """How a plan treats those that it cannot help."""

    #: What becomes of requests that can be on time no more.
    late: Literal["demote", "refuse"]
    #: Whether it matters whose fault it is that one is late.
    spares: bool
    #: How long one may wait that can be on time no more: share of its first objective, and at
    #: most so long, ns.
    late_patience: float
    late_patience_ns: int
    #: A prompt is sent to an engine that has no more than this to read before it, ns.
    read_ahead_ns: int
    #: Forecasts that one plan may make.
    effort: int

    @classmethod
    def of(cls, options: "PlanAndTrim", *, shares: bool) -> "Manners":
        """As the options say.

        Args:
            options: The policy's.
            shares: Whether the model shares a device with others.
        """
        late = options.late
        if late == "auto":
            late = "refuse" if shares else "demote"
        return cls(
            late=late,
            spares=options.late == "auto",
            late_patience=options.late_patience,
            late_patience_ns=options.late_patience_ms * MS,
            read_ahead_ns=options.read_ahead_ms * MS if options.read_ahead_ms else 1 << 62,
            effort=options.effort,
        )
