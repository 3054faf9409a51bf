"""One record for each request, as its client saw it.

Owns the fields and the times derived from them. Latency counts from the scheduled arrival, not
from the sending, so a slow server cannot hide behind a client that waits for it (coordinated
omission). Pure; filled by load clients, read by `summaries`.
"""

from dataclasses import dataclass
from enum import StrEnum

#: Times that never came.
NEVER = -1


class Fate(StrEnum):
    """How a request ended for its client."""

    #: A whole answer arrived.
    DONE = "done"
    #: The server refused it with a reason, before any of its answer.
    REFUSED = "refused"
    #: An error: a status, an error event in the stream, a broken connection, time out.
    FAILED = "failed"
    #: The client itself gave up, as it had planned; no fault of the server.
    CANCELLED = "cancelled"
    #: Its client had sent a newer request in its place before the answer was whole, so that nobody
    #: waited for it any more; whether the server knew or not.
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """What a client saw of one request. Times are ns since the start of the load."""

    request_id: str
    task: str
    model: str
    #: When it was to be sent.
    scheduled_ns: int
    #: When it was sent.
    sent_ns: int
    #: First token that was not empty; `NEVER` if none came.
    first_token_ns: int
    #: Last byte, or the moment of failure.
    ended_ns: int
    #: Tokens of the answer; 0 where it is not known.
    output_tokens: int
    fate: Fate
    #: Whether every objective of its task was met; only a whole answer can be good.
    good: bool
    #: HTTP status; 0 if there was none.
    status: int = 0
    #: Machine-readable reason of a refusal or failure.
    reason: str = ""
    #: Its chain, which call of it this is, and of how many; empty for a request by itself.
    chain: str = ""
    step: int = 0
    steps: int = 0

    @property
    def ttft_ns(self) -> int | None:
        """Time to first token; None if none came."""
        if self.first_token_ns == NEVER:
            return None
        return self.first_token_ns - self.scheduled_ns

    @property
    def e2e_ns(self) -> int:
        """Time from the scheduled arrival to the end, whatever the end was."""
        return self.ended_ns - self.scheduled_ns

    @property
    def tpot_ns(self) -> float | None:
        """Mean time of each token after the first; None for answers of fewer than two tokens."""
        if self.first_token_ns == NEVER or self.output_tokens < 2:
            return None
        return (self.ended_ns - self.first_token_ns) / (self.output_tokens - 1)

    @property
    def send_lag_ns(self) -> int:
        """How late the load client itself was: a measure of its own quality."""
        return self.sent_ns - self.scheduled_ns
