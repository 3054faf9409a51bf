"""`plan-and-trim`: the options of Slalom's own policy.

Owns the options and what each of them stands for; `planner` owns the decisions. Each part can be
switched off, which is how it is shown what it earns.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from slalom.core.planning import Planner
from slalom.core.request import ModelSpec
from slalom.policies.trim.planner import Trimmer


@dataclass(frozen=True, slots=True)
class PlanAndTrim:
    """`plan-and-trim`: plans when everything would end, and trims what would make others late.

    A request starts as soon as the plan says that it will be on time and makes nobody late who was
    let in before. Loose requests wait or are paused for tight ones; where not everybody can be on
    time, the costliest give way.
    """

    #: What becomes of a request that can be on time no more: it waits behind all others and is
    #: served when nobody is hurt by it (`demote`), or it is refused at once (`refuse`); `auto`
    #: refuses it where models share a device, because whoever waits for one keeps it loaded, but
    #: nobody whose model had to be loaded, or whose objectives its engine could not meet.
    late: Literal["auto", "demote", "refuse"] = "auto"
    #: How long a demoted request of which nothing has begun waits from the moment from which it
    #: cannot be on time, before it is refused: a share of its first objective, no less than 100 ms.
    #: What can be served without harm to others is served even after that, and whoever is late by
    #: a load, or by objectives beyond the engine, waits on.
    late_patience: float = field(default=0.25, metadata={"ge": 0})
    #: The most that this comes to, ms. So long a request also waits, once it was due, for a model
    #: that is kept out for the sake of others.
    late_patience_ms: int = 2_000
    #: The longest that a model which is asked for is kept out because those that would give way to
    #: it are worth more, ms; 0 to bring it up as soon as somebody waits for it.
    hold_ms: int = 10_000
    #: Whether a request waits where the chances of others would lose more than its own.
    weigh_chances: bool = True
    #: Loose requests that may wait, or be paused, at a time for tighter ones; 0 for none.
    defer_max: int = 4
    #: A prompt is sent to an engine that has no more than this to read before it, ms: what is
    #: cheaper or more urgent can still overtake it. Five times as much where all are sure to be on
    #: time; 0 for no such limit.
    read_ahead_ms: int = 5
    #: Costlier requests that may give way to one newcomer; 0 for none.
    displace_max: int = 8
    #: How many times as costly as the newcomer they must be.
    displace_factor: float = 1.5
    #: Pauses of one request at most; 0 to pause none.
    pauses_max: int = 8
    #: Pauses after which a request is not paused again unless it gives way.
    defer_pauses_max: int = 2
    #: Share of each task's requests that should be on time: tasks below it weigh more; 0 for none.
    floor: float = field(default=0.0, metadata={"ge": 0, "le": 1})
    #: Whether a call of a chain with a deadline is due when what remains of the chain says so, by
    #: its prediction; else each call is due as its task says, as if there were no chain.
    chains: bool = True
    #: Whether step times are learned from traffic.
    calibrate: bool = True
    #: Whether output lengths are learned from traffic.
    learn_lengths: bool = True
    #: Waiting requests that one plan looks at.
    horizon: int = 128
    #: Forecasts that one plan may make.
    effort: int = 12

    def begin(self, models: Sequence[ModelSpec]) -> Planner:
        """A planner that has seen nothing yet."""
        return Trimmer(models, self)
