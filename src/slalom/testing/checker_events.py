"""What events, and time alone, mean to somebody who watches a scheduler from outside.

Owns the conclusions: which request must now end and how, which replica has failed, which place
is free. A stale fence means nothing. Called by `checker`, before it judges the actions.
"""

from functools import singledispatchmethod
from typing import Any

from slalom.core.actions import Outcome
from slalom.core.events import (
    AnswerJudged,
    AttemptFailed,
    AttemptFinished,
    ChainAbandoned,
    ConfigChanged,
    DeviceSampled,
    FailureKind,
    FirstToken,
    LoadProgress,
    MemorySampled,
    ModelAsked,
    Progress,
    ReplicaAsleep,
    ReplicaFailed,
    ReplicaFound,
    ReplicaGone,
    ReplicaReady,
    RequestArrived,
    RequestCancelled,
    Verdict,
)
from slalom.core.params import SchedulerParams
from slalom.testing import checker_asks, checker_reload, checker_sleep
from slalom.testing.checker_books import Books, Fence, SeenAttempt, SeenReplica, SeenRequest


class Witness:
    """Reads events into the books."""

    def __init__(self, books: Books, params: SchedulerParams) -> None:
        self._books = books
        self._params = params
        self._now_ns = -1

    def take_event(self, event: object, now_ns: int) -> None:
        """Conclude what follows from an event."""
        self._now_ns = now_ns
        self._take(event)

    def take_time(self, now_ns: int) -> None:
        """Conclude what follows from the time alone: silent attempts and endless loads."""
        self._now_ns = now_ns
        self._books.silenced.clear()
        for attempt in list(self._books.attempts.values()):
            if now_ns - attempt.heard_ns >= self._params.attempt_silence_ns:
                attempt.replica.failed = True
                self._books.silenced.add(attempt.fence)
                self._attempt_failed(attempt, FailureKind.STALLED)
        for replica in self._books.replicas.values():
            loading = replica.ready_ns < 0 and not replica.leaving
            if loading and replica.load_due_ns(self._params) <= now_ns:
                self._replica_failed(replica)
            due = () if replica.leaving else checker_sleep.due_ns(replica, self._params)
            if any(at_ns <= now_ns for at_ns in due) and not replica.failed:
                self._replica_failed(replica)

    @singledispatchmethod
    def _take(self, event: Any) -> None:
        """Events that say nothing about who must do what."""

    @_take.register
    def _(self, event: RequestArrived) -> None:
        if event.request.id in self._books.requests:
            return
        self._books.keeps = self._books.keeps or event.request.keep_ns >= 0
        older = self._books.replaced_by(event.request)
        if older is not None:
            older.must = Outcome.SUPERSEDED
        self._books.requests[event.request.id] = SeenRequest(event.request, self._now_ns)

    @_take.register
    def _(self, event: ModelAsked) -> None:
        checker_asks.take_ask(event, self._books, self._now_ns)

    @_take.register
    def _(self, event: ConfigChanged) -> None:
        checker_reload.take_change(event, self._books, self._now_ns)

    @_take.register
    def _(self, event: RequestCancelled) -> None:
        request = self._books.requests.get(event.request_id)
        if request is not None and request.must is None:
            request.must = Outcome.CANCELLED

    @_take.register
    def _(self, event: ChainAbandoned) -> None:
        for request in self._books.requests.values():
            link = request.request.link
            its = link is not None and (request.request.key, link.chain) == (event.key, event.chain)
            if its and request.must is None:
                request.must = Outcome.CANCELLED

    @_take.register
    def _(self, event: FirstToken) -> None:
        attempt = self._heard((event.request_id, event.attempt))
        request = self._books.requests.get(event.request_id)
        if attempt is None or request is None or request.current != attempt.fence:
            return
        if request.must is None:
            attempt.first_ns = self._now_ns if attempt.first_ns < 0 else attempt.first_ns
            if request.first_token_ns < 0 and not request.request.stand_in:
                request.first_token_ns = self._now_ns

    @_take.register
    def _(self, event: AnswerJudged) -> None:
        fence = (event.request_id, event.attempt)
        request = self._books.requests.get(event.request_id)
        attempt = self._books.attempts.get(fence)
        live = request is not None and request.current == fence and request.must is None
        if attempt is None or request is None or not live or attempt.aborted:
            return
        attempt.heard_ns = self._now_ns
        if event.verdict is not Verdict.TRUSTED:
            attempt.doubted = event.verdict.value
        elif request.request.streamed:
            request.first_token_ns = self._now_ns

    @_take.register
    def _(self, event: Progress) -> None:
        self._heard((event.request_id, event.attempt))

    @_take.register
    def _(self, event: AttemptFinished) -> None:
        attempt = self._heard((event.request_id, event.attempt))
        request = self._books.close(attempt) if attempt else None
        if request is not None:
            request.must = Outcome.DONE
            request.output_tokens = request.produced_tokens + event.output_tokens

    @_take.register
    def _(self, event: AttemptFailed) -> None:
        attempt = self._heard((event.request_id, event.attempt))
        if attempt is None:
            return
        if event.kind is FailureKind.STALLED and not attempt.replica.leaving:
            attempt.replica.failed = True
        paused = attempt.pausing and event.kind is FailureKind.ABORTED
        request = self._books.requests.get(event.request_id)
        if paused and request is not None and request.current == attempt.fence:
            request.pauses += 1
            request.produced_tokens += event.output_tokens
        moving = attempt.moving and event.kind is FailureKind.ABORTED
        if moving and request is not None and request.current == attempt.fence:
            request.moves, request.moved, request.first_token_ns = attempt.doubted, True, -1
            request.expected = None
        stays = paused or moving
        self._attempt_failed(attempt, event.kind, delivered=event.delivered, paused=stays)

    @_take.register
    def _(self, event: LoadProgress) -> None:
        replica = self._books.replicas.get((event.replica_id, event.epoch))
        if replica is not None and event.fraction > replica.fraction:
            replica.fraction, replica.advanced_ns = event.fraction, self._now_ns

    @_take.register
    def _(self, event: ReplicaReady) -> None:
        replica = self._books.replicas.get((event.replica_id, event.epoch))
        if replica is None or replica.leaving or replica.failed or not replica.coming_up:
            return
        if event.turn != replica.turn:
            return
        checker_sleep.awake(replica, self._now_ns)
        self._books.load_failed_ns.pop(replica.model.id, None)
        self._books.asked.pop(replica.model.id, None)
        self._books.measure(replica, event.measured_bytes, self._now_ns, self._now_ns)

    @_take.register
    def _(self, event: ReplicaAsleep) -> None:
        replica = self._books.replicas.get((event.replica_id, event.epoch))
        checker_sleep.asleep(replica, event.turn, self._now_ns)

    @_take.register
    def _(self, event: DeviceSampled) -> None:
        self._books.foreign(event.device, event.foreign_bytes, event.as_of_ns, self._now_ns)

    @_take.register
    def _(self, event: MemorySampled) -> None:
        replica = self._books.replicas.get((event.replica_id, event.epoch))
        if replica is not None:
            self._books.measure(replica, event.measured_bytes, event.as_of_ns, self._now_ns)

    @_take.register
    def _(self, event: ReplicaFound) -> None:
        self._books.found[event.model] = self._books.found.get(event.model, 0) + 1

    @_take.register
    def _(self, event: ReplicaFailed) -> None:
        replica = self._books.replicas.get((event.replica_id, event.epoch))
        if replica is not None and not replica.leaving and not replica.failed:
            self._replica_failed(replica)

    @_take.register
    def _(self, event: ReplicaGone) -> None:
        replica = self._books.replicas.get((event.replica_id, event.epoch))
        if replica is None:
            return
        if replica.coming_up and not replica.leaving and not replica.failed:
            self._replica_failed(replica)
        for attempt in list(replica.running.values()):
            self._attempt_failed(attempt, FailureKind.CRASHED)
        del self._books.replicas[replica.key]

    def _heard(self, fence: Fence) -> SeenAttempt | None:
        attempt = self._books.attempts.get(fence)
        if attempt is not None:
            attempt.heard_ns = self._now_ns
        return attempt

    def _attempt_failed(
        self,
        attempt: SeenAttempt,
        kind: FailureKind,
        *,
        delivered: bool | None = None,
        paused: bool = False,
    ) -> None:
        """Without a word on delivery, whoever saw the first token knows."""
        request = self._books.close(attempt)
        if request is None:
            return
        if delivered is None:
            delivered = attempt.first_ns >= 0
        exhausted = request.tries >= self._params.attempts_max
        if not paused and (delivered or kind is FailureKind.REFUSED or exhausted):
            request.must = Outcome.FAILED
            return
        request.current = None
        request.waits_since_ns = self._now_ns
        if not paused and not request.produced_tokens:
            request.first_token_ns = -1

    def _replica_failed(self, replica: SeenReplica) -> None:
        replica.failed = True
        if replica.coming_up:
            self._books.load_failed_ns[replica.model.id] = self._now_ns
