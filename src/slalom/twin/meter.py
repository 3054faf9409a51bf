"""What a run of the twin is worth: one record for each request, and what the devices did.

Owns the counting, entry by entry of the journal, so that no journal need be kept. Device time is
shared evenly by the attempts that run on a device at a time. Called by `compare`.
"""

from slalom.core.actions import (
    Action,
    Dispatch,
    EndRequest,
    LoadReplica,
    Outcome,
    UnloadCause,
    UnloadReplica,
)
from slalom.core.events import (
    AttemptFailed,
    AttemptFinished,
    Event,
    ReplicaFailed,
    ReplicaGone,
    ReplicaReady,
)
from slalom.core.journal import Entry
from slalom.metrics.records import NEVER, Fate, RequestRecord
from slalom.metrics.results import Usage
from slalom.twin.scenario import Scenario
from slalom.units import SECOND

_FATES = {
    Outcome.DONE: Fate.DONE,
    Outcome.CANCELLED: Fate.CANCELLED,
    Outcome.REJECTED: Fate.REFUSED,
    Outcome.FAILED: Fate.FAILED,
}


class _Device:
    """The attempts on one device, and the clock of the time each of them was given."""

    __slots__ = ("busy_ns", "running", "share_ns", "since_ns")

    def __init__(self) -> None:
        self.running = 0
        self.busy_ns = 0
        #: Time one attempt would have been given that ran all along.
        self.share_ns = 0.0
        self.since_ns = 0

    def change(self, by: int, now_ns: int) -> None:
        if self.running:
            span_ns = now_ns - self.since_ns
            self.busy_ns += span_ns
            self.share_ns += span_ns / self.running
        self.since_ns = now_ns
        self.running += by


class Meter:
    """Counts one run.

    Args:
        scenario: What is run.
        warm_up_ns: Requests that arrive before this leave no record.
    """

    def __init__(self, scenario: Scenario, warm_up_ns: int = 0) -> None:
        self._warm_up_ns = warm_up_ns
        home = {model.spec.id: model.spec.device for model in scenario.models}
        self._home = home
        self._devices = {device.id: _Device() for device in scenario.devices}
        #: (request, attempt) -> (replica, its device, the device's share clock at the start).
        self._running: dict[tuple[str, int], tuple[str, _Device, float]] = {}
        self._replica_device: dict[str, _Device] = {}
        self._loading: dict[tuple[str, int], int] = {}
        #: Device time of requests that have not ended.
        self._spent_ns: dict[str, float] = {}
        self._late_ns = self._wasted_ns = 0.0
        self._tokens = self._good_tokens = 0
        self._loads = self._evictions = self._cold_ns = 0
        #: The last end of a request: what comes after it is not part of the run.
        self._ended_ns = 0
        #: Good requests, those of the warm-up included.
        self.good = 0
        #: In the order of their ends.
        self.records: list[RequestRecord] = []

    def watch(self, entry: Entry) -> None:
        """Count one call of the scheduler."""
        for event in entry.events:
            self._event(event, entry.now_ns)
        for action in entry.actions:
            self._action(action, entry.now_ns)

    def usage(self) -> Usage:
        """What the devices did, up to the last end of a request."""
        span_ns = max(self._ended_ns, 1)
        busy = [device.busy_ns / span_ns for device in self._devices.values()]
        return Usage(
            loads=self._loads,
            evictions=self._evictions,
            cold_start_s=self._cold_ns / SECOND,
            busy_share=sum(busy) / len(busy),
            useful_token_share=self._good_tokens / self._tokens if self._tokens else 1.0,
            wasted_device_s=(self._wasted_ns + sum(self._spent_ns.values())) / SECOND,
            late_device_s=self._late_ns / SECOND,
        )

    def _event(self, event: Event, now_ns: int) -> None:
        if isinstance(event, AttemptFinished | AttemptFailed):
            self._stop((event.request_id, event.attempt), now_ns)
            # What an aborted attempt wrote is told after its request's end.
            self._tokens += event.output_tokens
        elif isinstance(event, ReplicaReady | ReplicaFailed):
            self._came_up((event.replica_id, event.epoch), now_ns)
        elif isinstance(event, ReplicaGone):
            self._came_up((event.replica_id, event.epoch), now_ns)
            # Attempts whose end was never told end with their process.
            lost = [fence for fence, at in self._running.items() if at[0] == event.replica_id]
            for fence in lost:
                self._stop(fence, now_ns)

    def _action(self, action: Action, now_ns: int) -> None:
        if isinstance(action, Dispatch):
            device = self._replica_device[action.replica_id]
            device.change(1, now_ns)
            fence = (action.request_id, action.attempt)
            self._running[fence] = (action.replica_id, device, device.share_ns)
        elif isinstance(action, EndRequest):
            self._end(action)
        elif isinstance(action, LoadReplica):
            self._loads += 1
            self._replica_device[action.replica_id] = self._devices[self._home[action.model]]
            self._loading[action.replica_id, action.epoch] = now_ns
        elif isinstance(action, UnloadReplica) and action.cause is UnloadCause.EVICTED:
            self._evictions += 1

    def _came_up(self, life: tuple[str, int], now_ns: int) -> None:
        since_ns = self._loading.pop(life, None)
        if since_ns is not None:
            self._cold_ns += now_ns - since_ns

    def _stop(self, fence: tuple[str, int], now_ns: int) -> None:
        found = self._running.pop(fence, None)
        if found is None:
            return
        _, device, started_ns = found
        device.change(-1, now_ns)
        spent_ns = device.share_ns - started_ns
        self._spent_ns[fence[0]] = self._spent_ns.get(fence[0], 0.0) + spent_ns

    def _end(self, end: EndRequest) -> None:
        spent_ns = self._spent_ns.pop(end.request_id, 0.0)
        self._ended_ns = max(self._ended_ns, end.ended_ns)
        if end.good:
            self.good += 1
            self._good_tokens += end.output_tokens
        elif end.outcome is Outcome.DONE:
            self._late_ns += spent_ns
        else:
            self._wasted_ns += spent_ns
        if end.arrived_ns >= self._warm_up_ns:
            self.records.append(_record(end))


def _record(end: EndRequest) -> RequestRecord:
    return RequestRecord(
        request_id=end.request_id,
        task=end.task,
        model=end.model,
        scheduled_ns=end.arrived_ns,
        sent_ns=end.arrived_ns,
        first_token_ns=end.first_token_ns if end.first_token_ns >= 0 else NEVER,
        ended_ns=end.ended_ns,
        output_tokens=end.output_tokens,
        fate=_FATES[end.outcome],
        good=end.good,
        reason=str(end.reason),
    )
