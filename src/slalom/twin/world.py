"""What surrounds the scheduler in the twin: clients, engines, processes, a timer.

Owns the performing of actions and what follows from it. Engines follow the scenario's
engine models, loads their `LoadLaw`, mishaps `faults`. Knows each request's true length, which
the scheduler never does. Called by `kernel`.
"""

from collections.abc import Callable, Iterator
from typing import Any

from slalom.core.actions import (
    AbortAttempt,
    Action,
    AnswerKept,
    AskRefused,
    Dispatch,
    DrainComplete,
    EndRequest,
    EvictionDecided,
    LoadReplica,
    ModelChosen,
    SetTimer,
    SizeDecided,
    SleepReplica,
    UnloadReplica,
    WakeReplica,
)
from slalom.core.events import (
    AnswerJudged,
    AttemptFailed,
    AttemptFinished,
    DrainRequested,
    FailureKind,
    FirstToken,
    Progress,
    RequestArrived,
    RequestCancelled,
    TimerFired,
    Verdict,
)
from slalom.twin.clients import ClientEnd, Clients
from slalom.twin.doubts import Doubts
from slalom.twin.engine_model import Milestone, Stage
from slalom.twin.engine_protocol import Prefix
from slalom.twin.faults import Faults, Strike
from slalom.twin.kernel import (
    Agenda,
    ClientArrives,
    ClientLeaves,
    EnginesChange,
    EngineStruck,
    EngineWakes,
    LoadAdvances,
    NapOver,
    Occurrence,
    ProcessEnded,
    TimerDue,
    TransferOver,
)
from slalom.twin.processes import Fence, Process, Processes
from slalom.twin.scenario import Arrival, Scenario
from slalom.twin.sharing import Sharing
from slalom.units import SECOND

#: Actions that are records for people.
_RECORDS = (AskRefused, EvictionDecided, ModelChosen, SizeDecided)
#: How many times slower a struck engine becomes.
_SLOWDOWN = 4
#: Where a request without a deadline stands among those that have one.
_NO_DEADLINE_NS = 60 * SECOND


class TwinWorld:
    """The world of one scenario.

    Args:
        scenario: What is played.
        agenda: Shared with the kernel.
        keep_ends: Whether `ends` is filled.
        ended: Told how each request ended for its client.
    """

    def __init__(
        self,
        scenario: Scenario,
        agenda: Agenda,
        *,
        keep_ends: bool = True,
        ended: Callable[[ClientEnd], None] | None = None,
    ) -> None:
        self._agenda = agenda
        self._host = scenario.host
        self._faults = Faults(scenario.faults, scenario.seed)
        self._processes = Processes(scenario, self._faults, agenda)
        self._arrivals: Iterator[Arrival] = iter(scenario.arrivals)
        self._sharing = Sharing(scenario.shared_devices)
        self._clients = Clients(scenario.seed)
        self._doubts = Doubts(scenario.doubts, scenario.seed)
        self._ended = ended
        #: Where each attempt runs, as long as its engine has not answered for it.
        self._where: dict[Fence, Process] = {}
        #: Attempts whose first token has left the engine.
        self._delivered: set[Fence] = set()
        self._timer = 0
        self._keep_ends = keep_ends
        #: How every request ended, in order, if that is kept.
        self.ends: list[EndRequest] = []
        #: Whether a requested drain was reported complete.
        self.drained = False
        #: Time of the last arrival of the scenario, ns; later steps of sessions are not counted.
        self.last_arrival_ns = 0
        # A table, because `singledispatchmethod` binds anew on every call: a tenth of a run.
        self._occur_by_type: dict[type, Callable[[Any, int], None]] = {
            ClientArrives: self._client_arrives,
            ClientLeaves: self._client_leaves,
            EngineWakes: self._engine_wakes,
            EngineStruck: self._engine_struck,
            LoadAdvances: self._load_advances,
            NapOver: self._processes.end_nap,
            TransferOver: self._transfer_over,
            ProcessEnded: self._process_ended,
            TimerDue: self._timer_due,
            EnginesChange: self._processes.change,
        }
        self._perform_by_type: dict[type, Callable[[Any, int], None]] = {
            Dispatch: self._dispatch,
            AbortAttempt: self._abort_attempt,
            EndRequest: self._end_request,
            LoadReplica: self._load_replica,
            UnloadReplica: self._unload_replica,
            **dict.fromkeys(_RECORDS, _take_note),
            AnswerKept: self._keep_answer,
            SleepReplica: self._processes.sleep,
            WakeReplica: self._processes.wake,
            SetTimer: self._set_timer,
            DrainComplete: self._drain_complete,
        }
        self._plan_ahead(scenario)
        self._pull_arrival()

    def __repr__(self) -> str:
        return f"TwinWorld(live={len(self._clients)}, running={len(self._where)})"

    def _plan_ahead(self, scenario: Scenario) -> None:
        """What the scenario says of people, besides arrivals."""
        if scenario.drain is not None:
            drain = DrainRequested(scenario.drain.deadline_ns)
            self._agenda.at(scenario.drain.at_ns, drain)
        for asked in scenario.asks:
            self._agenda.at(asked.at_ns, asked.event)
        for reload in scenario.reloads:
            self._agenda.at(reload.at_ns, EnginesChange(reload.models))
            self._agenda.at(reload.at_ns, reload.event)

    # -- what happens ---------------------------------------------------------------------

    def occur(self, occurrence: Occurrence, now_ns: int) -> None:
        """Play out what happens."""
        self._occur_by_type[type(occurrence)](occurrence, now_ns)

    def _client_arrives(self, occurrence: ClientArrives, now_ns: int) -> None:
        arrival = occurrence.arrival
        self._clients.arrive(arrival)
        self._agenda.at(now_ns, RequestArrived(arrival.request))
        if arrival.patience_ns >= 0:
            self._agenda.at(now_ns + arrival.patience_ns, ClientLeaves(arrival.request.id))
        if not occurrence.is_later_step:
            self.last_arrival_ns = now_ns
            self._pull_arrival()

    def _client_leaves(self, occurrence: ClientLeaves, now_ns: int) -> None:
        if occurrence.request_id in self._clients:
            self._agenda.at(now_ns, RequestCancelled(occurrence.request_id))

    def _engine_wakes(self, occurrence: EngineWakes, now_ns: int) -> None:
        process = self._processes.find(occurrence.replica_id, occurrence.epoch)
        if process is None or process.wake != occurrence.number or process.hung:
            return
        for _, milestone in process.engine.take_due(now_ns):
            self._report(milestone, now_ns)
        self._wake_later(process, now_ns)

    def _engine_struck(self, occurrence: EngineStruck, now_ns: int) -> None:
        process = self._processes.find(occurrence.replica_id, occurrence.epoch)
        fence = occurrence.attempt
        if process is None or process.hung or self._where.get(fence) is not process:
            return
        if occurrence.strike == Strike.SLOW:
            turns = self._sharing.turns(process)
            process.slowness = _SLOWDOWN
            process.engine.slow_down(_SLOWDOWN * turns, now_ns)
            self._wake_later(process, now_ns)
        elif occurrence.strike == Strike.ERROR:
            self._fail(fence, FailureKind.ENGINE_ERROR, now_ns)
            self._wake_later(process, now_ns)
        elif occurrence.strike == Strike.HANG:
            process.hung = True
            self._processes.notice_hang(process, now_ns)
        else:
            self._fail_all(process, FailureKind.CRASHED, now_ns)
            self._processes.crash(process, now_ns)

    def _load_advances(self, occurrence: LoadAdvances, now_ns: int) -> None:
        self._processes.advance(occurrence, now_ns)

    def _transfer_over(self, occurrence: TransferOver, now_ns: int) -> None:
        self._processes.transferred(occurrence.number, now_ns)

    def _process_ended(self, occurrence: ProcessEnded, now_ns: int) -> None:
        self._processes.end(occurrence.replica_id, occurrence.epoch, now_ns)

    def _timer_due(self, occurrence: TimerDue, now_ns: int) -> None:
        if occurrence.number == self._timer:
            self._agenda.at(now_ns, TimerFired())

    # -- what the scheduler asks for ------------------------------------------------------

    def perform(self, action: Action, now_ns: int) -> None:
        """Do what the scheduler asked for."""
        self._perform_by_type[type(action)](action, now_ns)

    def _dispatch(self, action: Dispatch, now_ns: int) -> None:
        fence = (action.request_id, action.attempt)
        process = self._processes.find(action.replica_id, action.epoch)
        if process is None or not process.serves:
            refused = AttemptFailed(*fence, FailureKind.CRASHED, delivered=False)
            self._agenda.at(now_ns + self._host.refuse_ns, refused)
            return
        arrival = self._clients.find(action.request_id)
        assert arrival is not None  # noqa: S101 - nothing is dispatched that has ended
        prompt_tokens = arrival.request.prompt_tokens + action.resumed_tokens
        output_tokens = self._clients.clamp(arrival, action.max_tokens)
        output_tokens = max(output_tokens - action.resumed_tokens, 1)
        self._where[fence] = process
        self._doubts.start(fence, arrival.request, process.model.spec.id)
        if process.hung:
            return
        prefix, priority = _said_of(arrival, action)
        process.engine.start(fence, prompt_tokens, output_tokens, now_ns, prefix, priority)
        strike = self._faults.strike(*fence, now_ns)
        if strike is not None:
            alone_ns = process.time_alone_ns(prompt_tokens, output_tokens)
            after_ns = self._faults.strike_after_ns(*fence, alone_ns)
            struck = EngineStruck(process.replica_id, process.epoch, strike, fence)
            self._agenda.at(now_ns + after_ns, struck)
        self._wake_later(process, now_ns)

    def _abort_attempt(self, action: AbortAttempt, now_ns: int) -> None:
        fence = (action.request_id, action.attempt)
        process = self._where.get(fence)
        if process is not None:
            paused = self._clients.find(action.request_id) if action.pause else None
            keep_as = _prefix_name(paused) if paused else ""
            self._fail(fence, FailureKind.ABORTED, now_ns, keep_as=keep_as)
            self._wake_later(process, now_ns)

    def _keep_answer(self, action: AnswerKept, now_ns: int) -> None:
        fence = (action.request_id, action.attempt)
        end = self._doubts.keep(fence)
        if fence not in self._where:
            return
        if end is None:
            self._delivered.add(fence)
        else:
            self._forget(fence)
            self._agenda.at(now_ns, end)

    def _end_request(self, action: EndRequest, now_ns: int) -> None:
        told, following = self._clients.ended(action)
        if self._keep_ends:
            self.ends.append(action)
        if self._ended is not None:
            self._ended(told)
        if following is not None:
            arrives = ClientArrives(following, is_later_step=True)
            self._agenda.at(following.request.arrived_ns, arrives)

    def _load_replica(self, action: LoadReplica, now_ns: int) -> None:
        self._processes.start(action, now_ns)

    def _unload_replica(self, action: UnloadReplica, now_ns: int) -> None:
        process = self._processes.find(action.replica_id, action.epoch)
        if process is not None:
            self._fail_all(process, FailureKind.CRASHED, now_ns)
        self._processes.stop(action, now_ns)

    def _set_timer(self, action: SetTimer, now_ns: int) -> None:
        self._timer += 1
        self._agenda.at(max(action.at_ns, now_ns), TimerDue(self._timer))

    def _drain_complete(self, action: DrainComplete, now_ns: int) -> None:
        self.drained = True

    # -- inside ---------------------------------------------------------------------------

    def _pull_arrival(self) -> None:
        arrival = next(self._arrivals, None)
        if arrival is not None:
            self._agenda.at(arrival.request.arrived_ns, ClientArrives(arrival))

    def _wake_later(self, process: Process, now_ns: int) -> None:
        """See to it that the engine's next milestone is not missed, nor one of its neighbours'."""
        for other in self._sharing.changed(process, now_ns):
            if other is not process:
                self._arm(other)
        self._arm(process)

    def _arm(self, process: Process) -> None:
        process.wake += 1
        next_ns = None if process.hung else process.engine.next_ns()
        if next_ns is not None:
            wakes = EngineWakes(process.replica_id, process.epoch, process.wake)
            self._agenda.at(next_ns, wakes)

    def _report(self, milestone: Milestone[Fence], now_ns: int) -> None:
        fence = milestone.job
        event: FirstToken | Progress | AttemptFinished
        verdict: Verdict | None = None
        if milestone.stage is Stage.FIRST_TOKEN:
            verdict = self._doubts.begun(fence)
            if not self._doubts.holds(fence):
                self._delivered.add(fence)
            event = FirstToken(*fence)
        elif milestone.stage is Stage.PROGRESS:
            event = Progress(*fence, milestone.tokens)
        else:
            arrival = self._clients.find(fence[0])
            prompt_tokens = arrival.request.prompt_tokens if arrival else -1
            event = AttemptFinished(*fence, milestone.tokens, prompt_tokens)
            verdict = self._doubts.ended(fence, event)
            if verdict is Verdict.BROKEN:  # its end is told when it is known who answers
                self._judged(fence, verdict, now_ns)
                return
            self._forget(fence)
        number = milestone.tokens * 1_000 + fence[1]
        self._processes.tell(event, f"{milestone.stage.name} {fence[0]}", number, now_ns)
        if verdict is not None:
            self._judged(fence, verdict, now_ns)

    def _judged(self, fence: Fence, verdict: Verdict, now_ns: int) -> None:
        """Tell what was found: found in the server's own process, so it is never lost."""
        self._agenda.at(now_ns + self._host.report_ns, AnswerJudged(*fence, verdict))

    def _fail(self, fence: Fence, kind: FailureKind, now_ns: int, *, keep_as: str = "") -> None:
        """End an attempt in its engine, and say so."""
        end = self._doubts.ends.get(fence)
        if end is not None:  # the engine is done with it
            tokens = end.output_tokens
        else:
            tokens = self._where[fence].engine.stop(fence, now_ns, keep_as)
        delivered = self._forget(fence)
        event = AttemptFailed(*fence, kind, delivered=delivered, output_tokens=tokens)
        self._processes.tell(event, f"failed {fence[0]}", fence[1], now_ns)

    def _fail_all(self, process: Process, kind: FailureKind, now_ns: int) -> None:
        for fence in [fence for fence, where in self._where.items() if where is process]:
            self._fail(fence, kind, now_ns)
        for other in self._sharing.changed(process, now_ns):
            self._arm(other)

    def _forget(self, fence: Fence) -> bool:
        """Drop what is known of an attempt; whether anything of it was delivered."""
        del self._where[fence]
        self._doubts.forget(fence)
        delivered = fence in self._delivered
        self._delivered.discard(fence)
        return delivered


def _prefix_name(arrival: Arrival) -> str:
    """Under which name an engine keeps what it has read of a request."""
    return arrival.session or arrival.request.id


def _said_of(arrival: Arrival, action: Dispatch) -> tuple[Prefix | None, int]:
    """The prefix of a request, and its priority: as planned, else its first deadline."""
    request = arrival.request
    prefix = Prefix(arrival.session, arrival.shared_tokens) if arrival.session else None
    if action.resumed_tokens:
        read = request.prompt_tokens + action.resumed_tokens
        prefix = Prefix(_prefix_name(arrival), read)
    if action.priority:
        return prefix, action.priority
    return prefix, request.sla.first_deadline_ns(request.arrived_ns, default_ns=_NO_DEADLINE_NS)


def _take_note(action: EvictionDecided, now_ns: int) -> None:
    """A record for people: nothing happens."""
