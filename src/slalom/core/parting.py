"""How models that must be apart change places: those that are up leave for the one that is wanted.

Owns who is sent away and when: the same patience as for memory, and never a pinned one. Called by
`residency`.
"""

from collections.abc import Sequence

from slalom.core.actions import UnloadCause
from slalom.core.entities import Replica
from slalom.core.giving_way import candidates_on, is_overdue, is_urgent, record_decision
from slalom.core.keeping import NOBODY, Need
from slalom.core.leaving import may_sleep, order_away
from slalom.core.request import Swap
from slalom.core.snapshot import ReplicaState
from slalom.core.state import Model
from slalom.core.step import Step


def part(step: Step, model: Model, foes: Sequence[Replica]) -> bool:
    """Send away what must not be up beside a model; whether all of it is on its way."""
    if model.swap is Swap.NEVER:
        return False
    urgent, overdue = is_urgent(step, model), is_overdue(step, model)
    may_go = {one.id for one in candidates_on(step, model.device, urgent=urgent, overdue=overdue)}
    leaving = [one for one in foes if one.state is ReplicaState.READY and one.id in may_go]
    if leaving:
        need = Need(model.spec, 0, model.wanted_ns, waiting_count=model.waiting_count)
        record_decision(step, model.device, need, leaving, NOBODY)
    for replica in leaving:
        step.state.counters["evictions"] += 1
        order_away(step, replica, UnloadCause.APART, sleeps=may_sleep(step, replica))
    for replica in foes:  # what gave way for memory's sake may not be taken back either
        if replica.state is ReplicaState.DRAINING and replica.leaves_as is UnloadCause.EVICTED:
            replica.leaves_as = UnloadCause.APART
    gone = (ReplicaState.DRAINING, ReplicaState.SLEEPING, ReplicaState.UNLOADING)
    return all(one.state in gone for one in foes)
