"""One request between its client's task and the driver.

Owns the hand-over: the driver puts the next step (an assignment or the end) into the ticket and
wakes the task that waits for it. No queue, no token passes here.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from slalom.core.actions import AnswerKept, EndRequest, ModelChosen
from slalom.core.events import Verdict
from slalom.core.request import Request
from slalom.runtime.sink import Assignment, MakeGate
from slalom.runtime.transcript import Transcript


@dataclass(slots=True, eq=False)
class Ticket:
    """A request that has been submitted and not yet ended."""

    request: Request
    #: The task that serves the client; the driver interrupts it to abort an attempt.
    task: "asyncio.Task[object] | None"
    #: Makes what looks at an answer from which another model could take over.
    make_gate: MakeGate | None = None
    #: The running attempt.
    assignment: Assignment | None = None
    #: Interrupts by the driver that the task has not noticed yet.
    interrupts: int = 0
    #: The scheduler has been told how the request ends.
    settled: bool = False
    #: The client's task has left; nothing may be assigned any more.
    left: bool = False
    #: The terminal outcome, once there is one.
    end: EndRequest | None = None
    next_step: Assignment | EndRequest | None = None
    #: The client may be told that it still waits.
    nudged: bool = False
    waiter: "asyncio.Future[None] | None" = field(default=None, repr=False)
    #: What the client has got, where its answer may be paused.
    transcript: Transcript | None = None
    #: Asks the running attempt to pause; it says whether the task is to be interrupted for that.
    pause: Callable[[], bool] | None = None
    #: Lets the client have the running attempt's answer although it is doubted.
    keep: Callable[[], None] | None = None
    #: Why another model has taken over, for people; empty if none has.
    doubted: str = ""
    #: What was thought of an answer of it.
    judged: Verdict | None = None

    def told(self, action: ModelChosen | AnswerKept) -> None:
        """Take what is decided about who answers."""
        if isinstance(action, AnswerKept):
            self._kept(action.attempt)
        else:
            self._chosen(action.model)

    def _chosen(self, model: str) -> None:
        """Note which of its models serves the request."""
        if self.judged is not None:
            self.doubted = f"{self.judged.value}; taken over from {self.request.model}"
        self.request = replace(self.request, model=model)

    def _kept(self, attempt: int) -> None:
        """Let the client have the answer of the running attempt, if it is this one."""
        if self.assignment is not None and self.assignment.attempt == attempt and self.keep:
            self.keep()

    def give(self, step: Assignment | EndRequest) -> None:
        """Hand over the next step and wake the task."""
        self.next_step = step
        self.wake()

    def wake(self) -> None:
        """Wake the task if it waits."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def abort(self, attempt: int, *, pause: bool = False) -> bool:
        """Interrupt the running attempt if it is this one.

        Args:
            attempt: Its number.
            pause: Only if it can be continued later.

        Returns:
            Whether it had not even begun: then nobody else will report it.
        """
        given = self.next_step
        if isinstance(given, Assignment) and given.attempt == attempt:
            self.next_step = None
            return True
        if self.assignment is None or self.assignment.attempt != attempt or not self.task:
            return False
        if self.interrupts or (pause and not (self.pause and self.pause())):
            return False
        self.interrupts += 1
        self.task.cancel()
        return False

    def was_interrupted(self) -> bool:
        """Whether a `CancelledError` just caught was the driver's and not the client's.

        Takes the interrupt back, so that the task can go on.
        """
        if not self.interrupts or self.task is None:
            return False
        self.interrupts -= 1
        return self.task.uncancel() == 0
