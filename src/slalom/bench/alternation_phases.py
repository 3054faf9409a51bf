"""What the time of a request went to whose model was not there, read from the server's journal.

Owns the phases and how events and actions bound them. Called by `alternation`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from slalom.core.actions import Action, LoadReplica, UnloadReplica
from slalom.core.events import Event, FirstToken, ReplicaReady, RequestArrived
from slalom.core.journal import Entry


@dataclass(frozen=True, slots=True)
class Phases:
    """One request, from its arrival at the scheduler to its first token, ns.

    A phase that did not happen is 0; together they are the whole time.
    """

    #: Until the model that gives way is told to end: what runs on it comes first.
    drain_ns: int
    #: Until its process has ended and its memory is back.
    free_ns: int
    #: Until the engine's process serves: start, mapping of the file, reading it.
    map_ns: int
    #: Until the first token.
    first_token_ns: int

    @property
    def total_ns(self) -> int:
        """All of it."""
        return self.drain_ns + self.free_ns + self.map_ns + self.first_token_ns


@dataclass(slots=True)
class _Open:
    """A request that has no first token yet, and what has happened since it came."""

    model: str
    arrived_ns: int
    unloading_ns: int = -1
    loading_ns: int = -1
    ready_ns: int = -1

    def phases(self, first_ns: int) -> Phases:
        if self.loading_ns < 0:
            return Phases(0, 0, 0, first_ns - self.arrived_ns)
        unloading_ns = self.unloading_ns if self.unloading_ns >= 0 else self.arrived_ns
        return Phases(
            drain_ns=unloading_ns - self.arrived_ns,
            free_ns=self.loading_ns - unloading_ns,
            map_ns=self.ready_ns - self.loading_ns,
            first_token_ns=first_ns - self.ready_ns,
        )


def phases_of(entries: Iterable[Entry]) -> dict[str, Phases]:
    """The phases of every request that got a first token, by request id.

    Meant for one request for an absent model at a time: what is unloaded meanwhile is unloaded
    for it.
    """
    reader = _Reader()
    for entry in entries:
        for event in entry.events:
            reader.heard(event, entry.now_ns)
        for action in entry.actions:
            reader.asked(action, entry.now_ns)
    return reader.found


@dataclass(slots=True)
class _Reader:
    """Reads a journal step by step."""

    found: dict[str, Phases] = field(default_factory=dict)
    waiting: dict[str, _Open] = field(default_factory=dict)

    def heard(self, event: Event, now_ns: int) -> None:
        match event:
            case RequestArrived(request):
                self.waiting[request.id] = _Open(request.model, now_ns)
            case ReplicaReady():
                for one in self._of(_model(event.replica_id)):
                    one.ready_ns = now_ns
            case FirstToken() if event.request_id in self.waiting:
                done = self.waiting.pop(event.request_id)
                self.found[event.request_id] = done.phases(now_ns)

    def asked(self, action: Action, now_ns: int) -> None:
        match action:
            case UnloadReplica():
                # Of requests whose model does not come up yet, it is what gives way.
                for one in self.waiting.values():
                    if one.loading_ns < 0 and one.model != _model(action.replica_id):
                        one.unloading_ns = now_ns
            case LoadReplica():
                for one in self._of(action.model):
                    one.loading_ns = now_ns

    def _of(self, model: str) -> Iterator[_Open]:
        return (one for one in self.waiting.values() if one.model == model)


def _model(replica_id: str) -> str:
    return replica_id.rpartition("#")[0]
