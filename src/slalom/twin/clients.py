"""The clients of the twin: whose request is under way, and what they do when it ends.

Owns the view from outside: what a client calls its request, whether it still wanted the answer,
whether it comes again after a refusal, what it asks next. The scheduler sees each try as a request
of its own, as a server does. Called by `world`; the meter is told each `ClientEnd`.
"""

from dataclasses import dataclass, replace

from slalom.core.actions import EndRequest, Outcome, Reason
from slalom.metrics.records import NEVER, Fate, RequestRecord
from slalom.twin import noise
from slalom.twin.scenario import Arrival

_FATES = {
    Outcome.DONE: Fate.DONE,
    Outcome.CANCELLED: Fate.CANCELLED,
    Outcome.SUPERSEDED: Fate.SUPERSEDED,
    Outcome.REJECTED: Fate.REFUSED,
    Outcome.FAILED: Fate.FAILED,
}
#: Refusals that say: do not come again.
_FINAL = frozenset({Reason.UNKNOWN_MODEL, Reason.DOES_NOT_FIT})


@dataclass(frozen=True, slots=True)
class ClientEnd:
    """How a try to get an answer ended for its client."""

    end: EndRequest
    #: The id of the client's first try.
    name: str
    #: Scheduled arrival of its first try, ns.
    arrived_ns: int
    fate: Fate
    #: Whether every objective held, counted from the first try, and the answer was still wanted.
    good: bool
    #: Whether the client tries again: its request is not over.
    returns: bool = False
    #: Whether a clamp cut the answer short.
    cut: bool = False

    def record(self) -> RequestRecord:
        """What the client saw."""
        end = self.end
        return RequestRecord(
            request_id=self.name,
            task=end.task,
            model=end.model,
            scheduled_ns=self.arrived_ns,
            sent_ns=self.arrived_ns,
            first_token_ns=end.first_token_ns if end.first_token_ns >= 0 else NEVER,
            ended_ns=end.ended_ns,
            output_tokens=end.output_tokens,
            fate=self.fate,
            good=self.good,
            reason=str(end.reason),
            chain=end.chain,
            step=end.step,
            steps=end.steps,
        )


@dataclass(frozen=True, slots=True)
class _Tries:
    """A client that was refused before."""

    first: Arrival
    number: int


class Clients:
    """Everybody with a request under way.

    Args:
        seed: Of the waits between tries.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._live: dict[str, Arrival] = {}
        self._tries: dict[str, _Tries] = {}
        #: Requests whose present attempt will not write the whole answer.
        self._clamped: set[str] = set()

    def __len__(self) -> int:
        return len(self._live)

    def __repr__(self) -> str:
        return f"Clients({len(self._live)})"

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._live

    def arrive(self, arrival: Arrival) -> None:
        """A request is sent."""
        self._live[arrival.request.id] = arrival

    def find(self, request_id: str) -> Arrival | None:
        """A request that has not ended."""
        return self._live.get(request_id)

    def clamp(self, arrival: Arrival, max_tokens: int) -> int:
        """Tokens that an attempt writes, earlier ones' included, if it is clamped to so many."""
        clamped = 0 < max_tokens < arrival.output_tokens
        (self._clamped.add if clamped else self._clamped.discard)(arrival.request.id)
        return max_tokens if clamped else arrival.output_tokens

    def ended(self, end: EndRequest) -> tuple[ClientEnd, Arrival | None]:
        """How a request ended for its client, and what the client sends next, with its time."""
        arrival = self._live.pop(end.request_id)
        tries = self._tries.pop(end.request_id, None)
        first = arrival if tries is None else tries.first
        again = self._again(first, tries.number if tries else 0, end)
        clamped = end.request_id in self._clamped
        self._clamped.discard(end.request_id)
        fate = _fate(first, end)
        good = fate is Fate.DONE and end.good and (tries is None or _held(first, end))
        told = ClientEnd(
            end=end,
            name=first.request.id,
            arrived_ns=first.request.arrived_ns,
            fate=fate,
            good=good,
            returns=again is not None,
            cut=clamped and fate is Fate.DONE,
        )
        if again is None and fate is Fate.DONE and arrival.then is not None:
            again = _at(arrival.then, end.ended_ns + arrival.gap_ns)
        return told, again

    def _again(self, first: Arrival, number: int, end: EndRequest) -> Arrival | None:
        """The next try of a refused client, if it makes one."""
        rule = first.retries
        if rule is None or end.outcome is not Outcome.REJECTED or end.reason in _FINAL:
            return None
        if number >= rule.tries:
            return None
        point = noise.fraction(self._seed, "retry", first.request.id, number)
        at_ns = end.ended_ns + rule.wait_ns(number, end.retry_after_ns, point)
        gone_ns = at_ns - first.request.arrived_ns
        if 0 <= first.patience_ns <= gone_ns or 0 <= first.stale_ns <= gone_ns:
            return None
        name = f"{first.request.id}~{number + 1}"
        self._tries[name] = _Tries(first, number + 1)
        patience_ns = first.patience_ns - gone_ns if first.patience_ns >= 0 else -1
        again = replace(first, request=replace(first.request, id=name), patience_ns=patience_ns)
        return _at(again, at_ns)


def _fate(first: Arrival, end: EndRequest) -> Fate:
    """How a request ended in the eyes of a client that may have asked anew meanwhile."""
    took_ns = end.ended_ns - first.request.arrived_ns
    if 0 <= first.stale_ns < took_ns:
        return Fate.SUPERSEDED
    fate = _FATES[end.outcome]
    if fate is Fate.SUPERSEDED and 0 <= first.patience_ns <= took_ns:
        return Fate.CANCELLED  # It was taken back and replaced at the same instant.
    return fate


def _held(first: Arrival, end: EndRequest) -> bool:
    """Whether the objectives held from the first try on."""
    return first.request.was_good(
        first_token_ns=end.first_token_ns,
        ended_ns=end.ended_ns,
        output_tokens=end.output_tokens,
    )


def _at(arrival: Arrival, at_ns: int) -> Arrival:
    return replace(arrival, request=replace(arrival.request, arrived_ns=at_ns))
