"""The scheduler's own numbers, plain and frozen; config and scenarios both end here.

Owns no policy options: each policy brings its own dataclass (see `slalom.policies.registry`).
"""

from dataclasses import dataclass

from slalom.units import SECOND


@dataclass(frozen=True, slots=True)
class SchedulerParams:
    """Bounds and patience. Every wait in the core is bounded by one of these."""

    #: Requests waiting over all models; above it an arrival is refused.
    queue_max: int = 10_000
    #: Longest wait for a dispatch; then the request is refused.
    queue_timeout_ns: int = 300 * SECOND
    #: Dispatches of one request before it fails.
    attempts_max: int = 3
    #: How long a request for an absent model waits for idle victims before busy ones drain.
    swap_patience_ns: int = 2 * SECOND
    #: The longest that a residency policy may hold such a request back because what would give
    #: way is worth more; then it is overruled.
    swap_hold_ns: int = 30 * SECOND
    #: A replica that became ready is not evicted before it has been ready for this long.
    min_residency_ns: int = 1 * SECOND
    #: A draining replica's attempts are aborted after this.
    swap_drain_timeout_ns: int = 30 * SECOND
    #: Back-off after a failed load; doubles with each further failure.
    load_backoff_ns: int = 1 * SECOND
    load_backoff_max_ns: int = 60 * SECOND
    #: Failed loads in a row after which the waiting requests fail instead of waiting on.
    load_failures_max: int = 2
    #: A load that has not reported ready by then has failed.
    load_timeout_ns: int = 600 * SECOND
    #: A load that has told progress and then told none for so long has failed; 0 for never.
    load_stall_ns: int = 300 * SECOND
    #: A replica that does not sleep by then has failed. Waking is bounded like a load.
    sleep_timeout_ns: int = 120 * SECOND
    #: An unload that is not confirmed is asked for again after this.
    unload_timeout_ns: int = 60 * SECOND
    #: An attempt without any event for this long is stalled, and its replica is replaced.
    attempt_silence_ns: int = 900 * SECOND
    #: Order of a request whose task has neither TTFT nor E2E objective: due after this.
    default_deadline_ns: int = 60 * SECOND
    #: Chains that are remembered; the one unheard of for longest is forgotten beyond it.
    chains_max: int = 4_096
    #: A chain of which nothing is heard for this long is given up.
    chain_idle_ns: int = 300 * SECOND
