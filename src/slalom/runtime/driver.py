"""The driver: the single writer of the scheduler, live.

Owns the inbox, the clock reading of each step, the journal and the performing of actions. One
event loop, one thread: `post` may be called from that thread only. Everything that takes time
happens in tasks around it (`supervisor`, `relay`) and comes back as an event.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress

from slalom.clock import Clock, MonotonicClock
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
    SleepReplica,
    UnloadReplica,
    WakeReplica,
)
from slalom.core.dry_run import ResidencyPlan
from slalom.core.events import (
    AttemptFailed,
    ConfigChanged,
    DrainRequested,
    Event,
    FailureKind,
    ModelAsked,
    RequestArrived,
    RequestCancelled,
    TimerFired,
)
from slalom.core.journal import Entry
from slalom.core.request import Request
from slalom.core.scheduler import Scheduler
from slalom.core.snapshot import Snapshot
from slalom.engines.protocol import Capabilities, Engine
from slalom.errors import OverloadedError, RequestError
from slalom.journal.files import JournalWriter
from slalom.runtime.forecast import Forecast, forecast_of
from slalom.runtime.params import RuntimeParams
from slalom.runtime.serving import Serving
from slalom.runtime.sink import (
    Assignment,
    MakeCall,
    MakeGate,
    Served,
    Sink,
    assignment_of,
    waiting_of,
)
from slalom.runtime.supervisor import ExplainMemory, Launchers, Supervisor
from slalom.runtime.ticket import Ticket
from slalom.runtime.transcript import Transcript
from slalom.units import SECOND, seconds_to_ns

_log = logging.getLogger(__name__)


class Runtime:
    """The live scheduler with its replicas.

    Args:
        scheduler: The core; from now on nobody else calls `handle`.
        launchers: As the supervisor takes them.
        capabilities: What each model's engine can do, as far as known before it runs.
        journal: Takes every step, if there is one.
        clock: The time.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        launchers: Launchers,
        *,
        capabilities: Mapping[str, Capabilities] | None = None,
        journal: JournalWriter | None = None,
        clock: Clock | None = None,
        params: RuntimeParams | None = None,
    ) -> None:
        self._scheduler = scheduler
        #: What a call that is yet to come would take, ns.
        self.foretell = scheduler.foretell
        self._clock = clock or MonotonicClock()
        self._params = params or RuntimeParams()
        self._journal = journal
        self._capabilities = dict(capabilities or {})
        self._supervisor = Supervisor(launchers, self.post, self._clock, self._params.watch)
        self._tickets: dict[str, Ticket] = {}
        self._inbox: list[Event] = []
        self._step_due = False
        self._stepped = False
        #: The last action of each kind that asks for nothing.
        self._records: dict[type, EvictionDecided | AskRefused] = {}
        #: Whether an attempt was told to stop since this was last cleared.
        self._interrupted = False
        self._timer: asyncio.TimerHandle | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._drained = asyncio.Event()
        #: Set when the scheduler raised: half of a step is done, and nothing can be relied on.
        self.failed = asyncio.Event()
        #: Called with the record of each request, at its end.
        self.on_end: list[Callable[[EndRequest], None]] = []
        #: Called with each step, after its actions were begun; for tests and tools.
        self.on_step: list[Callable[[Entry], None]] = []

    def __repr__(self) -> str:
        return f"Runtime(tickets={len(self._tickets)}, {self._scheduler!r})"

    # -- life ------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin: load what is pinned. Call inside the event loop."""
        self._ticker = asyncio.get_running_loop().create_task(self._tick(), name="runtime tick")
        self._wake()

    async def drain(self, seconds: float) -> int:
        """Take nothing new, finish what is here, unload everything.

        Returns:
            The number of requests that did not finish within `seconds`.
        """
        deadline_ns = self.now_ns() + seconds_to_ns(seconds)
        self.post(DrainRequested(deadline_ns))
        await self._drained.wait()
        return dict(self.snapshot().counters).get("drain_unfinished", 0)

    async def close(self) -> None:
        """Stop at once: end every replica and close the journal. Idempotent."""
        if self._ticker is not None:
            self._ticker.cancel()
            with suppress(asyncio.CancelledError):
                await self._ticker
        await self._supervisor.stop_all()
        if self._timer is not None:
            self._timer.cancel()
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    # -- what others see --------------------------------------------------------------------

    def explain_memory_by(self, explain: ExplainMemory) -> None:
        """Ask this where a load dies of memory: its words end the error that clients get."""
        self._supervisor.explain_memory = explain

    def now_ns(self) -> int:
        """The scheduler's time."""
        return self._clock.now_ns()

    def engine(self, replica_id: str, epoch: int) -> Engine | None:
        """The engine of a ready replica, to be looked at; None in any other life."""
        return self._supervisor.engine(replica_id, epoch)

    def snapshot(self) -> Snapshot:
        """What there is to see, as of the last step."""
        return self._scheduler.snapshot()

    def capabilities(self, model_id: str) -> Capabilities:
        """What the model's engine can do, as far as known before it runs."""
        return self._capabilities.get(model_id, Capabilities())

    def engine_of(self, model_id: str) -> Engine | None:
        """A ready engine of a model, for questions that need no place; None where none runs."""
        model = self._scheduler.model_snapshot(model_id)
        for replica in model.replicas if model is not None else ():
            engine = self._supervisor.engine(replica.id, replica.epoch)
            if engine is not None and replica.state == "ready":
                return engine
        return None

    def estimate(self, request: Request) -> Forecast:
        """What is to be expected if a request came now; changes nothing."""
        self._advance(told=True)
        return forecast_of(self._scheduler, request)

    def ask(self, event: ModelAsked) -> AskRefused | None:
        """Tell what an operator wants; what refuses it at once, if anything does."""
        self._inbox.append(event)
        self._step()
        told = self._records.get(AskRefused)
        return told if isinstance(told, AskRefused) and told.ask_id == event.ask_id else None

    def reload(
        self, change: ConfigChanged, launchers: Launchers, can: Mapping[str, Capabilities]
    ) -> None:
        """Let models come, change and go, at once; `Scheduler.judge` has let the change pass."""
        self._supervisor.launch_by(launchers)
        self._capabilities.update(can)
        self._inbox.append(change)
        self._step()

    def plan(self, model_id: str) -> ResidencyPlan | None:
        """What bringing a model up would take now; None if there is no such model."""
        return self._scheduler.plan(model_id)

    # -- serving ----------------------------------------------------------------------------

    async def serve(
        self,
        request: Request,
        make_call: MakeCall,
        sink: Sink,
        *,
        stream: bool,
        strip_usage: bool = False,
        make_gate: MakeGate | None = None,
    ) -> Served:
        """Serve one request in the caller's task; cancel that task to take the request back.

        Args:
            request: With an id that no live request has.
            make_call: Builds the call once the engine is known.
            sink: Takes the answer.
            stream: The client asked for SSE.
            strip_usage: Take the usage chunk out of the stream.
            make_gate: Makes what looks at an answer where another model could take over.

        Raises:
            OverloadedError: Too many requests are in the house.
            RequestError: The id is taken, or the call cannot be built for the engine.
        """
        self._interrupted = False
        ticket = self._open(request, make_gate, stream=stream)
        try:
            if self._interrupted:
                await asyncio.sleep(0)  # what gives way leaves the engine first, as in the twin
            while True:
                step = await self._next_step(ticket, sink)
                if isinstance(step, EndRequest):
                    return Served(assignment=None, end=step)
                serving = Serving(ticket, step, self.post, self._clock.now_ns)
                served = await serving.run(make_call, sink, stream=stream, strip_usage=strip_usage)
                if served is not None:
                    return served
        finally:
            self._leave(ticket)

    def _open(self, request: Request, make_gate: MakeGate | None, *, stream: bool) -> Ticket:
        if len(self._tickets) >= self._params.in_flight_max:
            raise OverloadedError(
                f"{len(self._tickets)} requests are in flight, the most this server takes; "
                "try again in a moment",
                code="too_many_in_flight",
                retry_after_s=1.0,
            )
        if request.id in self._tickets:
            raise RequestError(
                f"request id {request.id!r} belongs to a request that has not ended; send another",
                code="duplicate_request_id",
                param="x-request-id",
            )
        ticket = Ticket(request, asyncio.current_task(), make_gate)
        if stream and request.resumable and self._scheduler.state.planner is not None:
            ticket.transcript = Transcript()
        self._tickets[request.id] = ticket
        self._inbox.append(RequestArrived(request))
        # At once, with whatever else is in the inbox: on a busy loop the two turns it would take
        # otherwise (to step, to wake this task) are most of what a request waits here.
        self._step()
        return ticket

    async def _next_step(self, ticket: Ticket, sink: Sink) -> Assignment | EndRequest:
        while True:
            if ticket.end is not None:
                return ticket.end
            if ticket.next_step is not None:
                step, ticket.next_step = ticket.next_step, None
                return step
            if ticket.nudged:
                ticket.nudged = False
                await sink.waiting(waiting_of(ticket.request, self._scheduler, self.now_ns()))
                continue
            ticket.waiter = asyncio.get_running_loop().create_future()
            try:
                await ticket.waiter
            except asyncio.CancelledError:
                if not ticket.was_interrupted():
                    raise

    def _leave(self, ticket: Ticket) -> None:
        """The client's task goes; a request that has not ended is cancelled or was just over."""
        ticket.left = True
        if ticket.end is None and not ticket.settled:
            self.post(RequestCancelled(ticket.request.id))
        if isinstance(given := ticket.next_step, Assignment):
            self._never_started(given.request_id, given.attempt, FailureKind.ABORTED)

    def _never_started(self, request_id: str, attempt: int, kind: FailureKind) -> None:
        self.post(AttemptFailed(request_id, attempt, kind, delivered=False))

    # -- the step ---------------------------------------------------------------------------

    def post(self, *events: Event) -> None:
        """Put events into the inbox; they are handled together, soon, in this order."""
        self._inbox.extend(events)
        self._wake()

    def _wake(self) -> None:
        if not self._step_due:
            self._step_due = True
            asyncio.get_running_loop().call_soon(self._step)

    def _step(self) -> None:
        self._step_due = False
        if self._stepped and not self._inbox:
            return  # an arrival took what was here along
        self._stepped = True
        self._advance()

    def _advance(self, *, told: bool = False) -> None:
        """Let the scheduler see the present; `told` also journals a step without a consequence."""
        events, self._inbox = self._inbox, []
        now_ns = self._clock.now_ns()
        try:
            actions = self._scheduler.handle(events, now_ns)
        except Exception:
            self.failed.set()
            raise
        if events or actions or told:
            entry = Entry(now_ns, tuple(events), tuple(actions))
            if self._journal is not None:
                self._journal.append(entry)
            for action in actions:
                self._perform(action)
            for observe in self.on_step:
                observe(entry)

    def _perform(self, action: Action) -> None:
        match action:
            case Dispatch():
                self._dispatch(action)
            case EndRequest():
                self._end(action)
            case AbortAttempt():
                ticket = self._tickets.get(action.request_id)
                if ticket is not None and ticket.abort(action.attempt, pause=action.pause):
                    self._never_started(action.request_id, action.attempt, FailureKind.ABORTED)
                self._interrupted = True
            case ModelChosen() | AnswerKept():
                self._tickets[action.request_id].told(action)
            case LoadReplica() | UnloadReplica() | SleepReplica() | WakeReplica():
                self._supervisor.move(action)
            case EvictionDecided() | AskRefused():
                self._records[type(action)] = action
            case SetTimer():
                self._set_timer(action.at_ns)
            case DrainComplete():
                self._drained.set()

    def _dispatch(self, action: Dispatch) -> None:
        ticket = self._tickets.get(action.request_id)
        engine = self._supervisor.engine(action.replica_id, action.epoch)
        if ticket is None or ticket.left or engine is None:
            kind = FailureKind.CRASHED if engine is None else FailureKind.ABORTED
            self._never_started(action.request_id, action.attempt, kind)
            return
        now_ns = self._scheduler.state.now_ns
        ticket.give(assignment_of(action, engine, ticket.request, now_ns, ticket.doubted))

    def _end(self, action: EndRequest) -> None:
        ticket = self._tickets.pop(action.request_id, None)
        if ticket is not None:
            ticket.end = action
            if ticket.assignment is None and not ticket.left:
                ticket.give(action)
        for observe in self.on_end:
            observe(action)

    def _set_timer(self, at_ns: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay_s = max(at_ns - self._clock.now_ns(), 0) / SECOND
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._timer_due, at_ns)

    def _timer_due(self, at_ns: int) -> None:
        """Loops round their timers; an early one is set again, so that none is lost."""
        if self._clock.now_ns() < at_ns:
            self._timer = asyncio.get_running_loop().call_later(0.001, self._timer_due, at_ns)
        else:
            self.post(TimerFired())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._params.tick_s)
            for ticket in list(self._tickets.values()):
                ticket.nudged = True
                ticket.wake()
            if self._journal is not None:
                self._journal.flush()
