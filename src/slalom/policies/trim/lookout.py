"""Which replicas a plan looks at, and what they should have read of a prompt.

Owns the choice: all of a few; of many, those that matter to what waits, and some that are empty or
nearly full, so that a plan costs the same however many there are. Called by `planner`.
"""

from collections.abc import Iterable, Mapping, Sequence

from slalom.core.planning import PlanView, RunningView
from slalom.core.request import Request
from slalom.policies.prediction.predictor import Predictor
from slalom.policies.trim.jobs import Job

#: Up to so many replicas are all looked at; of more, about so many.
LOOKED_AT = 8
#: Replicas that one plan looks at because they are named, at most.
_NAMED_MAX = 32


def looked_at(
    model: PlanView, jobs: Iterable[Job] = (), promised: Mapping[str, str] | None = None
) -> Sequence[RunningView]:
    """The replicas that a plan is made over, by name.

    Args:
        model: Which.
        jobs: What waits: where their prompts or chains were is looked at.
        promised: Where those wait that were let in, by request: that must be looked at.
    """
    if model.ready_count() <= LOOKED_AT:
        return model.ready()
    named = dict.fromkeys(promised.values()) if promised else {}
    for job in jobs:
        if len(named) >= _NAMED_MAX:
            break
        if job.near:
            named[job.near] = None
        named.update(dict.fromkeys(job.cached))
    return model.some_ready(LOOKED_AT, list(named))


def fastest(shown: Sequence[RunningView]) -> float:
    """Speed of the fastest device of these replicas'; what waits is measured by it.

    Whoever would be late even there is late everywhere.
    """
    return max([one.speed for one in shown], default=1.0)


def likeliest(model: PlanView, job: Job, shown: Sequence[RunningView]) -> RunningView:
    """The replica to try first: as the draft orders them, without a look at what runs there.

    Args:
        model: Which.
        job: The only one that waits.
        shown: Those that are looked at whoever waits; at least one.
    """
    if job.near or job.cached:
        shown = looked_at(model, (job,))
    return min(shown, key=lambda one: preference(job, one))


def preference(job: Job, replica: RunningView) -> tuple[object, ...]:
    """By this replicas are tried: where its prompt is, where its chain ran, then by what runs."""
    is_urgent = job.request.sla.ttft_ns is not None
    return (
        -job.cached.get(replica.id, 0.0),
        replica.id != job.near,
        replica.free_places <= 0,
        by_load(len(replica.active()), replica.speed, is_urgent=is_urgent),
        replica.id,
    )


def by_load(running: int, speed: float, *, is_urgent: bool) -> tuple[float, float]:
    """What is urgent goes where least runs, in view of the speed; what is loose to the fullest."""
    return ((running + 1) / speed, 0.0) if is_urgent else (-speed, -running)


class Memory:
    """What the replicas should have read.

    Args:
        predictor: What is known of them.
    """

    __slots__ = ("_predictor",)

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def cached(self, model: PlanView, request: Request, produced: int) -> Mapping[str, float]:
        """Tokens of a prompt that replicas should have; none where none has any."""
        if not (request.prefix_tokens or produced):
            return {}
        heads = self._predictor.heads(model.spec.id)
        found = {}
        for replica in self._renewed(model, request):
            expected = heads.known(request, produced, replica.id).expected
            if expected > 0.0:
                found[replica.id] = expected
        return found

    def version(self, model: PlanView, request: Request) -> object:
        """A name of what is known that changes with it."""
        ready = self._renewed(model, request)
        return (self._predictor.heads(model.spec.id).version, *(one.id for one in ready))

    def _renewed(self, model: PlanView, request: Request) -> Sequence[RunningView]:
        """The replicas that may have any of it; what they had before they were ready is gone."""
        heads = self._predictor.heads(model.spec.id)
        if model.ready_count() <= LOOKED_AT:
            ready = model.ready()
        else:
            name = model.reader(request.prefix_from or request.prefix)
            ready = model.some_ready(0, [name] if name else [])
        for replica in ready:
            heads.renew(replica.id, replica.ready_ns)
        return ready
