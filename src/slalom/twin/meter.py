"""What a run of the twin is worth: what became of its requests, and what the devices did.

Owns the counting, entry by entry of the journal and end by end of the clients, so that neither
need be kept. Device time is shared evenly by the attempts that run on a device at a time. Called
by `compare`.
"""

from collections.abc import Callable

from slalom.core.actions import (
    Action,
    Dispatch,
    LoadReplica,
    SleepReplica,
    UnloadCause,
    UnloadReplica,
    WakeReplica,
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
from slalom.metrics.records import Fate, RequestRecord
from slalom.metrics.results import Usage
from slalom.metrics.summaries import Tallies
from slalom.twin.clients import ClientEnd
from slalom.twin.scenario import Scenario
from slalom.units import SECOND


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
    """Counts one run: its `observer`.

    Args:
        scenario: What is run.
        warm_up_ns: Requests that arrive before this leave no record.
        record: Told each record; without it they go to `records`.
    """

    def __init__(
        self,
        scenario: Scenario,
        warm_up_ns: int = 0,
        record: Callable[[RequestRecord], None] | None = None,
    ) -> None:
        self._warm_up_ns = warm_up_ns
        home = {model.spec.id: model.spec.device for model in scenario.all_models()}
        self._home = home
        homes = [name for model in scenario.all_models() for name in model.spec.homes]
        self._devices = {device_id: _Device() for device_id in homes}
        #: (request, attempt) -> (replica, its device, the device's share clock at the start).
        self._running: dict[tuple[str, int], tuple[str, _Device, float]] = {}
        self._replica_device: dict[str, _Device] = {}
        self._loading: dict[tuple[str, int], int] = {}
        #: Device time of requests that have run and not ended.
        self._spent_ns: dict[str, float] = {}
        self._late_ns = self._wasted_ns = 0.0
        self._tokens = self._good_tokens = 0
        self._loads = self._evictions = self._cold_ns = 0
        self._sleeps = self._wakes = self._wake_ns = 0
        self._waking: dict[tuple[str, int], int] = {}
        #: The last end of a request: what comes after it is not part of the run.
        self._ended_ns = 0
        #: Good requests, those of the warm-up included; answers cut short by a clamp are not.
        self.good_whole = 0
        #: Good answers that a clamp cut short, after the warm-up.
        self.cut = 0
        #: The most that one request was paused.
        self.pauses_max = 0
        #: What became of the requests, by task.
        self.tallies = Tallies()
        #: In the order of their ends, unless they are told to somebody.
        self.records: list[RequestRecord] = []
        self._record = record or self.records.append

    def watch_entry(self, entry: Entry) -> None:
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
            sleeps=self._sleeps,
            wakes=self._wakes,
            cold_start_s=self._cold_ns / SECOND,
            wake_s=self._wake_ns / SECOND,
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
            self._spent_ns.setdefault(action.request_id, 0.0)
        elif isinstance(action, LoadReplica):
            self._loads += 1
            where = action.device or self._home[action.model]
            self._replica_device[action.replica_id] = self._devices[where]
            self._loading[action.replica_id, action.epoch] = now_ns
        elif isinstance(action, UnloadReplica) and action.cause is UnloadCause.EVICTED:
            self._evictions += 1
        elif isinstance(action, SleepReplica):
            self._evictions += 1
            self._sleeps += 1
        elif isinstance(action, WakeReplica):
            self._wakes += 1
            self._waking[action.replica_id, action.epoch] = now_ns

    def _came_up(self, life: tuple[str, int], now_ns: int) -> None:
        since_ns = self._loading.pop(life, None)
        if since_ns is not None:
            self._cold_ns += now_ns - since_ns
        since_ns = self._waking.pop(life, None)
        if since_ns is not None:
            self._wake_ns += now_ns - since_ns

    def _stop(self, fence: tuple[str, int], now_ns: int) -> None:
        found = self._running.pop(fence, None)
        if found is None:
            return
        _, device, started_ns = found
        device.change(-1, now_ns)
        spent_ns = device.share_ns - started_ns
        if fence[0] in self._spent_ns:
            self._spent_ns[fence[0]] += spent_ns
        else:  # its request has ended without it
            self._wasted_ns += spent_ns

    def watch_end(self, told: ClientEnd) -> None:
        """Count how a try ended for its client."""
        end = told.end
        spent_ns = self._spent_ns.pop(end.request_id, 0.0)
        self._ended_ns = max(self._ended_ns, end.ended_ns)
        self.pauses_max = max(self.pauses_max, end.pauses)
        if told.good:
            self.good_whole += not told.cut
            self._good_tokens += end.output_tokens
        elif told.fate is Fate.DONE:
            self._late_ns += spent_ns
        else:
            self._wasted_ns += spent_ns
        if told.returns or told.arrived_ns < self._warm_up_ns:
            return
        self.cut += told.good and told.cut
        row = told.record()
        self.tallies.add(row)
        self._record(row)
