"""One call of `handle` while it is under way: what every transition and every pass is given.

Owns nothing but the joining of state, rules and the actions collected so far. Made by `scheduler`.
"""

from dataclasses import dataclass, field

from slalom.core.actions import Action
from slalom.core.events import AnswerJudged
from slalom.core.keeping import Keeper
from slalom.core.params import SchedulerParams
from slalom.core.policy import Policies
from slalom.core.state import State


@dataclass(slots=True)
class Step:
    """One call of `handle`: the state, the rules, and the actions collected so far."""

    state: State
    params: SchedulerParams
    policies: Policies
    #: Who chooses what gives way.
    keeper: Keeper
    actions: list[Action]
    #: Answers that are doubted: what becomes of them is decided once all events are known.
    doubts: list[AnswerJudged] = field(default_factory=list)
