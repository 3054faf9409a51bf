"""One attempt from assignment to report: what every way of ending means to the scheduler.

Owns the mapping of exceptions to events: the engine failed, the driver interrupted, the client
went away. The bytes themselves are `relay`'s. Called by `driver.Runtime.serve`.
"""

import asyncio
from collections.abc import Callable

from slalom.core.actions import Outcome, Reason
from slalom.core.events import (
    AnswerJudged,
    FailureKind,
    ReplicaFailed,
    RequestCancelled,
    Verdict,
)
from slalom.errors import EngineError, RequestError
from slalom.runtime.holding import Hold
from slalom.runtime.relay import PausedError, Relay
from slalom.runtime.sink import Assignment, MakeCall, Served, Sink
from slalom.runtime.ticket import Ticket


class Serving:
    """An attempt being served in its client's task.

    Args:
        ticket: The request.
        assignment: Where the attempt runs.
        post: Takes events for the scheduler.
        now_ns: The clock.
    """

    __slots__ = ("_assignment", "_post", "_relay", "_ticket")

    def __init__(
        self,
        ticket: Ticket,
        assignment: Assignment,
        post: Callable[..., None],
        now_ns: Callable[[], int],
    ) -> None:
        self._ticket = ticket
        self._assignment = assignment
        self._post = post
        self._relay = Relay(
            assignment, post, now_ns, ticket.transcript, _tokens_max(ticket, assignment)
        )

    def __repr__(self) -> str:
        return f"Serving({self._assignment.request_id}, attempt={self._assignment.attempt})"

    async def run(
        self, make_call: MakeCall, sink: Sink, *, stream: bool, strip_usage: bool
    ) -> Served | None:
        """Run the attempt; None if the scheduler will say how it goes on.

        Raises:
            RequestError: The call cannot be built for this engine.
        """
        ticket = self._ticket
        ticket.assignment = self._assignment
        ticket.pause = self._relay.pause
        if ticket.make_gate is not None and ticket.request.stand_in:
            self._relay.hold = hold = Hold(ticket.make_gate(), self._judged)
            ticket.keep = hold.keep
        try:
            await self._relay.run(make_call, sink, stream=stream, strip_usage=strip_usage)
        except PausedError:
            return None
        except EngineError as error:
            if self._relay.finished:
                ticket.settled = True
                return Served(self._assignment)
            ticket.assignment = None
            failure = await self._engine_failed(error)
        except RequestError:
            ticket.settled = True
            self._relay.fail(FailureKind.REFUSED)
            raise
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError) or not ticket.was_interrupted():
                self._client_gone()
                raise
            failure = self._interrupted()
        else:
            ticket.settled = True
            return Served(self._assignment)
        finally:
            ticket.assignment = ticket.pause = ticket.keep = None
        return self._given_up(failure)

    def _judged(self, verdict: Verdict) -> None:
        self._ticket.judged = verdict
        self._post(AnswerJudged(self._assignment.request_id, self._assignment.attempt, verdict))

    def _given_up(self, failure: EngineError) -> Served | None:
        """What an attempt that broke off means for the client."""
        end = self._ticket.end
        superseded = end is not None and end.outcome is Outcome.SUPERSEDED
        if not self._relay.delivered or (self._relay.paused and not superseded):
            return None
        self._ticket.settled = True
        if superseded:
            return Served(self._assignment, end=end)
        return Served(self._assignment, failure=failure)

    async def _engine_failed(self, error: EngineError) -> EngineError:
        """Report a failed attempt, and the replica with it if that no longer answers."""
        assignment = self._assignment
        kind = FailureKind(error.code)
        healthy = True
        if kind is FailureKind.CRASHED:
            try:
                healthy = await assignment.engine.health()
            except asyncio.CancelledError:
                if not self._ticket.was_interrupted():
                    self._client_gone()
                    raise
        if not healthy:
            self._post(ReplicaFailed(assignment.replica_id, assignment.epoch, kind, str(error)))
        self._relay.fail(kind)
        return error

    def _interrupted(self) -> EngineError:
        self._relay.fail(FailureKind.ABORTED)
        end = self._ticket.end
        if end is not None and end.reason == Reason.MODEL_REMOVED:
            return EngineError(
                f"model {end.model} was removed by a reload, and the answer was not complete in "
                "the time that was left (server.drain_seconds)",
                code=end.reason,
            )
        return EngineError(
            f"replica {self._assignment.replica_id} had to give way before the answer was complete",
            code=FailureKind.ABORTED,
        )

    def _client_gone(self) -> None:
        """The order matters: a request that was cancelled is not one that failed."""
        self._ticket.settled = True
        if self._relay.finished:
            return
        self._post(RequestCancelled(self._ticket.request.id))
        self._relay.fail(FailureKind.ABORTED)


def _tokens_max(ticket: Ticket, assignment: Assignment) -> int:
    asked = ticket.request.max_tokens
    return min(asked, assignment.max_tokens) if assignment.max_tokens else asked
