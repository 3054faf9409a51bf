"""`niyama`: deadline plus remaining work orders the queue, and what will miss is relegated.

Owns what a gateway can do of Niyama (arXiv 2503.22562, published as QoServe at ASPLOS 2026), whose
scheduler sits inside the engine: hybrid priority and eager relegation as they are, its dynamic
prefill chunk as a bound on the prompts that are being read. Preemption of prompts is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from slalom.core.planning import Moment, Observation, Plan, Planner, PlanView, Start, WaitingView
from slalom.core.request import ModelSpec, Request
from slalom.policies.due import expected_tokens, first_due_ns, reading_ns, writing_ns
from slalom.policies.places import Places
from slalom.units import MS

#: Waiting requests looked at in one plan beyond the free places.
_SEEN_BEYOND = 64
#: Finished answers of a task before their lengths say more than the prediction.
_LENGTHS_MIN = 5


@dataclass(frozen=True, slots=True)
class Niyama:
    """`niyama`: the earliest deadline plus weighted remaining work first; misses are relegated.

    Niyama / QoServe (arXiv 2503.22562). Priority of an interactive request (one with a TTFT) is
    arrival + TTFT + `work_ms` x prompt tokens, of another one arrival + E2E + `work_ms` x (prompt +
    output tokens): between earliest deadline and shortest job. Output lengths are those of the
    task's earlier answers, mean plus two standard deviations. What has missed its deadline, or
    would if it began now, goes behind all others (eager relegation) and is still served.
    """

    #: Weight of a token of remaining work, ms; 0 is earliest deadline first. The paper's best is 8.
    work_ms: float = 8.0
    #: Prompt tokens that a replica may be reading when it gets another prompt; 0 for any. The
    #: stand-in for the chunk of the paper, whose largest was about 2,500.
    chunk_tokens: int = 2_500

    def begin(self, models: Sequence[ModelSpec]) -> Planner:
        """A planner without history."""
        return _NiyamaPlanner(self)


class _Lengths:
    """Mean and spread of the lengths of one task's answers."""

    __slots__ = ("count", "mean", "squares")

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, tokens: int) -> None:
        self.count += 1
        off = tokens - self.mean
        self.mean += off / self.count
        self.squares += off * (tokens - self.mean)

    def high(self) -> float:
        """Mean plus two standard deviations."""
        return self.mean + 2 * sqrt(self.squares / self.count)


class _NiyamaPlanner:
    def __init__(self, options: Niyama) -> None:
        self._options = options
        self._lengths: dict[str, _Lengths] = {}

    def key(self, request: Request, default_deadline_ns: int) -> int:
        """Deadline plus weighted work, as of the arrival."""
        work = float(request.prompt_tokens)
        if request.sla.ttft_ns is not None:
            limit_ns = request.sla.ttft_ns
        else:
            work += self._output_tokens(request)
            limit_ns = default_deadline_ns if request.sla.e2e_ns is None else request.sla.e2e_ns
        return request.arrived_ns + limit_ns + round(self._options.work_ms * MS * work)

    def observe(self, seen: Observation, model: PlanView, now_ns: int) -> None:
        """Note the length of a whole answer."""
        if seen.moment is Moment.OVER and seen.finished and seen.attempt is not None:
            lengths = self._lengths.setdefault(seen.request.task, _Lengths())
            lengths.add(seen.attempt.resumed_tokens + seen.attempt.output_tokens)

    def plan(self, model: PlanView, now_ns: int) -> Plan:
        """Start the first while places are left and their prompts fit into the chunk."""
        places = Places(model)
        reading = {
            replica.id: sum(a.request.prompt_tokens for a in replica.active() if a.first_ns < 0)
            for replica in model.ready()
        }
        starts: list[Start] = []
        relegated: list[str] = []
        for one in model.waiting(places.left + _SEEN_BEYOND):
            if not places.left:
                break
            replica_id = places.emptiest()
            before, beside = reading[replica_id], places.running(replica_id)
            if 0 < self._options.chunk_tokens <= before:
                chunk_ns = max(reading_ns(model.spec, before, beside), MS)
                return Plan(starts, demotions=relegated, look_ns=now_ns + chunk_ns)
            if not one.demoted and self._will_miss(one, model.spec, before, beside, now_ns):
                relegated.append(one.request.id)
                continue
            reading[replica_id] += one.request.prompt_tokens
            starts.append(Start(one.request.id, places.take()))
        # What was relegated just now stands behind the rest, and may still find a place.
        look_ns = now_ns + 1 if relegated and places.left else -1
        return Plan(starts, demotions=relegated, look_ns=look_ns)

    def _output_tokens(self, request: Request) -> float:
        """Tokens of its answer, rather too many than too few."""
        known = self._lengths.get(request.task)
        if known is None or known.count < _LENGTHS_MIN:
            return expected_tokens(request)
        return min(known.high(), request.max_tokens)

    def _will_miss(
        self, one: WaitingView, spec: ModelSpec, before: int, beside: int, now_ns: int
    ) -> bool:
        """Whether it misses a deadline even if it begins now, behind the prompts before it."""
        request = one.request
        first_ns = now_ns + reading_ns(spec, before + request.prompt_tokens, beside)
        due_ns = first_due_ns(request)
        if due_ns is not None and one.first_token_ns < 0 and first_ns > due_ns:
            return True
        if request.sla.e2e_ns is None:
            return False
        rest_ns = writing_ns(spec, round(self._output_tokens(request)), beside)
        return first_ns + rest_ns > request.arrived_ns + request.sla.e2e_ns
