"""Who waits in vain for a model that is not loaded: it would be late even if the model came up now.

Owns that decision, and its words. One of them waits on where nobody else does: someone has to want
the model. Called by `planner`.
"""

from collections.abc import Sequence

from slalom.core.planning import Plan, Refuse
from slalom.policies.trim.draft import LOOK_NS, due_ns
from slalom.policies.trim.jobs import NEVER, Job
from slalom.policies.trim.rules import Manners
from slalom.units import SECOND


def find_hasty(waiting: Sequence[Job], manners: Manners) -> list[Job]:
    """Those that are refused if they are late."""
    strict = manners.late == "refuse"
    return [job for job in waiting if strict or job.request.drop_when_late]


def find_lost(
    hasty: Sequence[Job],
    waiting: Sequence[Job],
    manners: Manners,
    ready_ns: int,
    now_ns: int,
    *,
    kept_out: bool,
) -> tuple[list[Job], int]:
    """Those that are refused now, and when to look again; -1 for no need.

    Args:
        hasty: Those that are refused if they are late.
        waiting: All that wait.
        manners: How late ones are treated.
        ready_ns: When the model is ready at the earliest.
        now_ns: Now.
        kept_out: Whether the model is kept out for the sake of others: somebody wants it for a
            while only.
    """
    hasty = [job for job in hasty if not job.admitted]
    lost = [job for job in hasty if job.latest_ns < ready_ns and job.client_first_ns < 0]
    looks = [job.latest_ns - ready_ns + now_ns for job in hasty if job.latest_ns >= ready_ns]
    if len(lost) == len(waiting):
        wants = max(lost, key=lambda job: (job.request.arrived_ns, job.request.id))
        until_ns = due_ns(wants.request) + manners.late_patience_ns
        if not kept_out:
            lost.remove(wants)
        elif now_ns <= until_ns:
            lost.remove(wants)
            looks.append(until_ns)
    look_ns = min(looks, default=NEVER)
    return lost, -1 if look_ns == NEVER else max(round(look_ns), now_ns + LOOK_NS)


def refuse_all(lost: Sequence[Job], wait_ns: int, look_ns: int) -> Plan:
    """The plan that refuses those that would be late because their model is not loaded.

    Args:
        lost: Whom.
        wait_ns: Until the model is ready at the earliest.
        look_ns: When to look again.
    """
    detail = (
        f"its model is not loaded and would be ready in {wait_ns / SECOND:.2f} s at the earliest, "
        "which is too late; keep the model loaded, or allow for the time that a load takes"
    )
    retry_ns = max(wait_ns, SECOND)
    refusals = [Refuse(job.request.id, retry_after_ns=retry_ns, detail=detail) for job in lost]
    return Plan(refusals=refusals, look_ns=look_ns)
