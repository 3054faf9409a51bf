"""Judges a scheduler from outside: it sees the journal, and nothing else.

Owns the rules that every journal must keep, whatever happens inside: one end for each request,
fences, places, bytes, order, time-outs, liveness. Shares no code with the scheduler's own
bookkeeping, because a state that is consistently wrong passes its own checks. Called by the
recorder, the swarm and the mutants.
"""

from collections.abc import Iterable
from functools import singledispatchmethod
from typing import Any

from slalom.core.actions import (
    AbortAttempt,
    AnswerKept,
    AskRefused,
    Dispatch,
    DrainComplete,
    EndRequest,
    EvictionDecided,
    LoadReplica,
    ModelChosen,
    Outcome,
    Reason,
    SetTimer,
    SizeDecided,
    SleepReplica,
    UnloadCause,
    UnloadReplica,
    WakeReplica,
)
from slalom.core.journal import Entry
from slalom.core.params import SchedulerParams
from slalom.core.planning import Planning
from slalom.core.policy import Policies
from slalom.core.request import DeviceSpec, ModelSpec
from slalom.core.scheduler import Scheduler
from slalom.testing.checker_asks import due_ns as ask_due_ns
from slalom.testing.checker_asks import (
    judge_decision,
    judge_leaving,
    judge_place,
    judge_refusal,
    judge_size,
)
from slalom.testing.checker_books import Books, SeenReplica, SeenRequest
from slalom.testing.checker_choice import judge_choice, judge_doubts, judge_good
from slalom.testing.checker_events import Witness
from slalom.testing.checker_order import promised_order
from slalom.testing.checker_reload import judge_no_model, judge_retired
from slalom.testing.checker_sleep import due_ns, judge_sleep, judge_wake

#: Pauses of one request.
_PAUSES_MAX = 16


class ViolationError(AssertionError):
    """A journal breaks a rule; the message names the rule, the time and the object."""


class Checker:
    """Sees the entries of one journal in order.

    Args:
        models: As given to the scheduler.
        devices: The same.
        params: The same.
        policies: Only to know which order was promised.
    """

    def __init__(
        self,
        models: Iterable[ModelSpec],
        devices: Iterable[DeviceSpec],
        params: SchedulerParams,
        policies: Policies,
    ) -> None:
        self.books = Books(tuple(models), tuple(devices))
        self._params = params
        self._witness = Witness(self.books, params)
        #: A planner starts, pauses, clamps and refuses by itself, and promises no order.
        self._plans = isinstance(policies.admission, Planning)
        self._order = promised_order(policies, params)
        self._now_ns = -1
        self._epoch = 0
        self._timer_ns = -1
        self._drain_ns = -1
        self._drained = False

    @classmethod
    def of(cls, scheduler: Scheduler) -> "Checker":
        """A checker for a fresh scheduler."""
        state = scheduler.state
        return cls(
            (model.spec for model in state.models.values()),
            (device.spec for device in state.devices.values()),
            scheduler.params,
            scheduler.policies,
        )

    def __repr__(self) -> str:
        return f"Checker(at {self._now_ns} ns, {self.books!r})"

    def see(self, entry: Entry) -> None:
        """Judge one entry.

        Raises:
            ViolationError: It breaks a rule.
        """
        self._require(entry.now_ns >= self._now_ns, "time runs forward", entry.now_ns)
        self._now_ns = entry.now_ns
        for event in entry.events:
            kind = type(event).__name__
            if kind == "TimerFired":
                self._timer_ns = -1
            elif kind == "DrainRequested":
                deadline_ns: int = event.deadline_ns  # type: ignore[union-attr]  # by its name
                known = self._drain_ns >= 0
                self._drain_ns = min(self._drain_ns, deadline_ns) if known else deadline_ns
            else:
                self._witness.take_event(event, self._now_ns)
        self._witness.take_time(self._now_ns)
        for action in entry.actions:
            self._judge(action)
        self.books.found.clear()
        self._settle()

    def finish(self) -> None:
        """Judge the end of a run in which nothing was left to happen.

        Raises:
            ViolationError: Something never ended.
        """
        self._require(not self.books.requests, "every request ends", list(self.books.requests))
        self._require(not self.books.attempts, "every attempt ends", list(self.books.attempts))
        for replica in self.books.replicas.values():
            settled = replica.usable or replica.is_asleep
            self._require(settled, "every load, sleep, wake and unload ends", replica)
        if self._drain_ns >= 0:
            self._require(self._drained, "a drain completes", self)

    @singledispatchmethod
    def _judge(self, action: Any) -> None:
        self._require(holds=False, rule="known actions only", what=action)

    @_judge.register
    def _(self, action: Dispatch) -> None:
        books = self.books
        request = books.requests.get(action.request_id)
        self._require(request is not None, "dispatch only what lives", action)
        assert request is not None
        self._require(request.waits, "dispatch only what waits", action)
        number = request.number + 1
        while (action.request_id, number) in books.attempts:  # of an earlier request of this id
            number += 1
        self._require(action.attempt == number, "attempts count up", action)
        self._require(request.tries < self._params.attempts_max, "attempts bound", action)
        self._judge_plan(action, request)
        replica = books.replicas.get((action.replica_id, action.epoch))
        self._require(replica is not None, "dispatch to a life that exists", action)
        assert replica is not None
        self._require(replica.usable, "dispatch only to what is ready", (action, replica))
        self._require(replica.model.id == request.request.model, "the right model", action)
        told = request.chosen or request.request.alternatives is None
        self._require(told, "who serves is told before", action)
        self._require(len(replica.running) < replica.model.places, "places bound", action)
        window = books.devices[replica.device].window
        within = not window or books.running(replica.device) < window
        self._require(within, "device window", action)
        key = self._order(request.request)
        for other in books.waiting(replica.model.id) if key else ():
            other_key = self._order(other.request)
            self._require(not other_key or other_key >= key, "order", (action, other))
        books.open(request, action.attempt, replica, self._now_ns)

    @_judge.register
    def _(self, action: ModelChosen | AnswerKept) -> None:
        judge_choice(action, self.books, self._now_ns, self._require)

    @_judge.register
    def _(self, action: AbortAttempt) -> None:
        fence = (action.request_id, action.attempt)
        if fence in self.books.silenced:
            return
        attempt = self.books.attempts.get(fence)
        self._require(attempt is not None, "abort only what runs", action)
        assert attempt is not None
        overruled = attempt.pausing and not action.pause
        self._require(not attempt.aborted or overruled, "abort once", action)
        if action.pause:
            request = self.books.requests.get(action.request_id)
            live = request is not None and request.current == fence and request.must is None
            self._require(live, "pause only what lives", action)
            assert request is not None
            may = self._plans and request.request.resumable and request.pauses < _PAUSES_MAX
            self._require(may, "pause only what may be paused", action)
        attempt.aborted, attempt.pausing = True, action.pause
        attempt.moving = bool(attempt.doubted) and not action.pause

    @_judge.register
    def _(self, action: EndRequest) -> None:
        request = self.books.requests.pop(action.request_id, None)
        self._require(request is not None, "exactly one end for each request", action)
        assert request is not None
        self._judge_end(action, request)
        self._judge_stamps(action, request)
        judge_good(action, request.request, self._require)

    @_judge.register
    def _(self, action: LoadReplica) -> None:
        books, model = self.books, self.books.models[action.model]
        key = (action.replica_id, action.epoch)
        lives = books.of_model(model.id)
        self._require(action.epoch > self._epoch, "each life has a new epoch", action)
        staying = [life for life in lives if not (life.leaving or life.outdated)]
        self._require(len(staying) < model.replicas, "replicas bound", (action, staying))
        awake = not any(life.rests for life in staying)
        self._require(awake, "what sleeps is woken, not loaded again", (action, staying))
        device = judge_place(action, model, books, self._require)
        byte_count = books.bytes_to_book(model)
        booked = books.booked_bytes(device) + byte_count
        within = booked <= books.budget_bytes(device) or byte_count == 0
        self._require(within, "bytes within the budget", (action, booked))
        failed_ns = books.load_failed_ns.get(model.id, -self._params.load_backoff_ns)
        rested = self._now_ns - failed_ns >= self._params.load_backoff_ns
        self._require(rested, "a failed load backs off", action)
        self._epoch = action.epoch
        life = SeenReplica(key, model, byte_count, self._now_ns, device, ahead=action.ahead)
        books.replicas[key] = life

    @_judge.register
    def _(self, action: UnloadReplica) -> None:
        replica = self.books.replicas.get((action.replica_id, action.epoch))
        self._require(replica is not None, "unload only what exists", action)
        assert replica is not None
        patience_ns = self._params.unload_timeout_ns
        due = not replica.leaving or self._now_ns - replica.asked_ns >= patience_ns
        self._require(due, "unload is asked for once", action)
        if not replica.leaving:
            self._judge_unload(action, replica)
        replica.asked_ns = self._now_ns

    @_judge.register
    def _(self, action: SleepReplica) -> None:
        judge_sleep(action, self.books, self._params, self._now_ns, self._require)

    @_judge.register
    def _(self, action: WakeReplica) -> None:
        judge_wake(action, self.books, self._params, self._now_ns, self._require)

    @_judge.register
    def _(self, action: EvictionDecided) -> None:
        judge_decision(action, self.books, self._require)

    @_judge.register
    def _(self, action: AskRefused) -> None:
        judge_refusal(action, self.books, self._require)

    @_judge.register
    def _(self, action: SizeDecided) -> None:
        judge_size(action, self.books, self._require)

    @_judge.register
    def _(self, action: SetTimer) -> None:
        self._require(action.at_ns > self._now_ns, "timers lie ahead", action)
        self._timer_ns = action.at_ns

    @_judge.register
    def _(self, action: DrainComplete) -> None:
        self._require(self._drain_ns >= 0, "a drain ends only if asked for", action)
        self._require(not self._drained, "a drain ends once", action)
        over = not self.books.requests and not self.books.replicas
        self._require(over, "a drain ends when all is over", (action, self.books))
        self._drained = True

    # -- rules ----------------------------------------------------------------------------

    def _judge_plan(self, action: Dispatch, request: SeenRequest) -> None:
        """What only planners set, and that a paused request goes on where it was."""
        resumed = action.resumed_tokens == request.produced_tokens
        self._require(resumed, "goes on behind what there is", (action, request))
        clamp = action.max_tokens
        fits = clamp == 0 or (self._plans and clamp > request.produced_tokens)
        self._require(fits, "a clamp leaves something to say", (action, request))
        expected = (action.expected_first_ns, action.expected_end_ns, action.chance)
        silent = not action.priority and expected == (-1, -1, -1.0)
        self._require(self._plans or silent, "only planners foresee", action)
        request.expected = request.expected or expected
        request.clamped_tokens = clamp

    def _judge_end(self, action: EndRequest, request: SeenRequest) -> None:
        # Of several that replace each other at one instant, any may have been refused at the door.
        fresh = request.waits_since_ns == self._now_ns and not request.attempts
        at_door = fresh and request.must is Outcome.SUPERSEDED and action.outcome != request.must
        if request.must is not None and not at_door:
            self._require(action.outcome is request.must, "the outcome that was due", action)
            return
        self._require(
            action.outcome in {Outcome.REJECTED, Outcome.FAILED}, "an outcome with a cause", action
        )
        reason, now_ns = action.reason, self._now_ns
        unserved = request.current is None and request.first_token_ns < 0
        if reason in {Reason.QUEUE_TIMEOUT, Reason.DRAINING}:
            is_right = unserved == (action.outcome is Outcome.REJECTED)
            self._require(is_right, "refused only without any answer", action)
        if self._plans and action.outcome is Outcome.REJECTED and request.current is not None:
            self._require(request.first_token_ns < 0, "a plan refuses what gave nothing", action)
            attempt = self.books.attempts[request.current]
            self._require(attempt.aborted, "refused, so aborted", action)
        elif reason in {Reason.MODEL_REMOVED, Reason.UNKNOWN_MODEL}:
            judge_no_model(action, self.books, now_ns, self._require)
        elif request.current is not None:
            self._require(0 <= self._drain_ns <= now_ns, "what runs ends by itself", action)
            self._require(self.books.attempts[request.current].aborted, "ended, so aborted", action)
        elif reason == Reason.QUEUE_TIMEOUT:
            waited_ns = now_ns - request.waits_since_ns
            self._require(waited_ns >= self._params.queue_timeout_ns, "patience", action)
        elif reason == Reason.DRAINING:
            self._require(self._drain_ns >= 0, "draining only if asked for", action)
        elif action.outcome is Outcome.FAILED:
            failed_ns = self.books.load_failed_ns.get(action.model, -1)
            self._require(failed_ns == now_ns, "a failed load fails those who wait", action)

    def _judge_stamps(self, action: EndRequest, request: SeenRequest) -> None:
        said = (action.first_dispatch_ns, action.dispatch_ns, action.first_token_ns)
        seen = (request.first_dispatch_ns, request.dispatch_ns, request.first_token_ns)
        self._require(said == seen, "stamps are what was seen", (action, seen))
        self._require(action.ended_ns == self._now_ns, "ended now", action)
        self._require(action.attempts == request.attempts, "attempts were counted", action)
        self._require(action.pauses == request.pauses, "pauses were counted", action)
        expected = (action.expected_first_ns, action.expected_end_ns, action.chance)
        first = request.expected or (-1, -1, -1.0)
        self._require(expected == first, "expected is what was first expected", action)
        clamped = action.clamped_tokens == request.clamped_tokens
        self._require(clamped, "clamped is what was dispatched", action)
        demoted = action.demoted_ns < 0 or (self._plans and action.demoted_ns <= self._now_ns)
        self._require(demoted, "demoted only by a plan", action)
        self._require(action.arrived_ns == request.request.arrived_ns, "arrival kept", action)
        # One that was paused is dispatched again after its first token.
        told = (said[0], said[2]) if action.pauses else said
        stamps = [action.arrived_ns, *(at_ns for at_ns in told if at_ns >= 0), action.ended_ns]
        self._require(stamps == sorted(stamps), "causes come before effects", action)
        if action.outcome is Outcome.DONE:
            tokens = action.output_tokens == request.output_tokens
            self._require(tokens, "tokens were counted", action)

    def _judge_unload(self, action: UnloadReplica, replica: SeenReplica) -> None:
        if action.cause is UnloadCause.FAILED:
            self._require(replica.failed, "failed only if it has failed", action)
        elif action.cause is UnloadCause.SHUTDOWN:
            self._require(self._drain_ns >= 0, "shutdown only if asked for", action)
            self._require(not self.books.requests, "shutdown after the last request", action)
        else:
            judge_leaving(action, replica, self.books, self._params, self._now_ns, self._require)

    def _settle(self) -> None:
        """What must hold once an entry has been told."""
        books, now_ns = self.books, self._now_ns
        for request in books.requests.values():
            self._require(request.must is None, "what must end ends at once", request)
        judge_doubts(books, self._require)
        if 0 <= self._drain_ns <= now_ns:
            self._require(not books.requests, "a drain's deadline ends everything", books)
        judge_retired(books, now_ns, self._require)
        for replica in books.replicas.values():
            gone = not replica.failed or replica.leaving
            self._require(gone, "what has failed is reaped", replica)
            unwanted = not (books.wanted(replica.model) or books.in_use(replica.model.id))
            wasted = unwanted and not (replica.ready_ns >= 0 or replica.leaving or replica.ahead)
            self._require(not wasted, "a load that nobody wants is cancelled", replica)
        for device in books.devices.values():
            idles = self._drain_ns < 0 and books.idles(device)
            self._require(not idles, "what fits is loaded", (device, books))
        due = list(self._due_times())
        self._require(min(due, default=now_ns + 1) > now_ns, "nothing stays overdue", self)
        timed = not due or 0 <= self._timer_ns <= min(due)
        self._require(timed, "a timer is set for what falls due", (self._timer_ns, min(due or [0])))

    def _due_times(self) -> Iterable[int]:
        """When each thing seen runs out of time."""
        params = self._params
        for request in self.books.requests.values():
            if request.current is None:
                yield request.waits_since_ns + params.queue_timeout_ns
        for attempt in self.books.attempts.values():
            yield attempt.heard_ns + params.attempt_silence_ns
        for replica in self.books.replicas.values():
            if replica.leaving:
                yield replica.asked_ns + params.unload_timeout_ns
            elif replica.ready_ns < 0:
                yield replica.load_due_ns(params)
            else:
                yield from due_ns(replica, params)
        yield from ask_due_ns(self.books, params)
        if self.books.requests and self._drain_ns >= 0:
            yield self._drain_ns

    def _require(self, holds: bool, rule: str, what: object) -> None:  # noqa: FBT001 - a sentence
        if not holds:
            raise ViolationError(f"at {self._now_ns} ns: {rule}: {what!r}")
