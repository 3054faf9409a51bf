"""What a run looked like over time: how many wait by task, which models are resident.

Owns the curves, taken from the journal entry by entry. Called by `plots`.
"""

from slalom.core.actions import Dispatch, EndRequest, LoadReplica, SleepReplica, UnloadReplica
from slalom.core.events import (
    AttemptFailed,
    ReplicaFailed,
    ReplicaGone,
    ReplicaReady,
    RequestArrived,
)
from slalom.core.journal import Entry
from slalom.units import SECOND


class Timeline:
    """The curves of one run; times in seconds."""

    def __init__(self) -> None:
        #: task -> ([time], [how many wait])
        self.queues: dict[str, tuple[list[float], list[int]]] = {}
        #: model -> [(ready, gone)]
        self.residency: dict[str, list[tuple[float, float]]] = {}
        #: Requests that have not ended: the task, and the attempt that runs; 0 if it waits.
        self._live: dict[str, tuple[str, int]] = {}
        self._ready: dict[str, tuple[str, float]] = {}
        self._models: dict[str, str] = {}
        self._now_s = 0.0

    def watch(self, entry: Entry) -> None:
        """Take in one call of the scheduler."""
        self._now_s = entry.now_ns / SECOND
        for event in entry.events:
            if isinstance(event, RequestArrived):
                self._live[event.request.id] = (event.request.task, 0)
                self._count(event.request.task, 1)
            elif isinstance(event, AttemptFailed):
                self._stop(event)
            elif isinstance(event, ReplicaReady):
                self._ready[event.replica_id] = (self._models[event.replica_id], self._now_s)
            elif isinstance(event, ReplicaGone | ReplicaFailed):
                self._gone(event.replica_id)
        for action in entry.actions:
            if isinstance(action, Dispatch | EndRequest):
                task, attempt = self._live.pop(action.request_id)
                if not attempt:
                    self._count(task, -1)
                if isinstance(action, Dispatch):
                    self._live[action.request_id] = (task, action.attempt)
            elif isinstance(action, LoadReplica):
                self._models[action.replica_id] = action.model
            elif isinstance(action, UnloadReplica | SleepReplica):
                self._gone(action.replica_id)

    def close(self) -> None:
        """End what is resident still."""
        for replica_id in list(self._ready):
            self._gone(replica_id)

    def _stop(self, event: AttemptFailed) -> None:
        """Let a request wait again whose attempt failed or was paused; it may end at once."""
        task, attempt = self._live.get(event.request_id, ("", -1))
        if attempt == event.attempt:
            self._live[event.request_id] = (task, 0)
            self._count(task, 1)

    def _count(self, task: str, by: int) -> None:
        times, counts = self.queues.setdefault(task, ([0.0], [0]))
        times.append(self._now_s)
        counts.append(counts[-1] + by)

    def _gone(self, replica_id: str) -> None:
        found = self._ready.pop(replica_id, None)
        if found is not None:
            model, since_s = found
            self.residency.setdefault(model, []).append((since_s, self._now_s))
