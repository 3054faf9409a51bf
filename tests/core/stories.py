"""What the core's tests tell the scheduler: small worlds, requests, and a watched scheduler.

Owns builders. Every scheduler they make is checked after each call, from inside and outside.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from slalom.core.actions import (
    Action,
    Dispatch,
    LoadReplica,
    SleepReplica,
    UnloadReplica,
    WakeReplica,
)
from slalom.core.events import (
    AttemptFinished,
    Event,
    ReplicaAsleep,
    ReplicaGone,
    ReplicaReady,
    RequestArrived,
)
from slalom.core.params import SchedulerParams
from slalom.core.policy import Policies
from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla
from slalom.core.scheduler import Scheduler
from slalom.policies.registry import policies as policies_by_name
from slalom.testing.recorder import Recorder
from slalom.units import GIB

A = TypeVar("A", bound=Action)
E = TypeVar("E", bound=Event)

#: No patience and no minimum residency: what may go, goes at once.
AT_ONCE = SchedulerParams(swap_patience_ns=0, min_residency_ns=0)


def gpu(gib: int) -> DeviceSpec:
    """The one device, of another size."""
    return DeviceSpec("gpu", gib * GIB)


def ram(gib: int) -> DeviceSpec:
    """The memory in which its models sleep."""
    return DeviceSpec("ram", gib * GIB)


GPU, RAM = gpu(10), ram(100)


def model(name: str = "a", gib: int = 4, places: int = 2, **other: object) -> ModelSpec:
    """A model on the one device."""
    return ModelSpec(name, "gpu", gib * GIB, places, **other)  # type: ignore[arg-type]


def request(name: str, of: str = "a", at_ns: int = 0, sla: Sla | None = None) -> Request:
    """A request of 10 prompt tokens."""
    return Request(name, of, "task", sla or Sla(), at_ns, 10, 64, 32)


def watched(
    *models: ModelSpec,
    device: DeviceSpec = GPU,
    host: DeviceSpec | None = None,
    params: SchedulerParams | None = None,
    policies: Policies | None = None,
) -> Recorder:
    """A fresh scheduler under watch, for the one device; model `a` if none is named.

    With a host, that is the memory in which the device's models sleep.
    """
    chosen = policies or policies_by_name()
    devices = (device,) if host is None else (replace(device, host=host.id), host)
    return Recorder(Scheduler(models or (model(),), devices, chosen, params))


def arrive(
    recorder: Recorder, *names: str, of: str = "a", after_ns: int = 0, sla: Sla | None = None
) -> list[Action]:
    """Requests arrive together."""
    at_ns = recorder.now_ns + after_ns
    return recorder.tell(
        *(RequestArrived(request(name, of, at_ns, sla)) for name in names), after_ns=after_ns
    )


def ready(recorder: Recorder, *, after_ns: int = 0) -> list[Action]:
    """Every replica that loads becomes ready."""
    over = {(a.replica_id, a.epoch) for a in recorder.actions(UnloadReplica)}
    books = recorder.checker.books if recorder.checker else None
    assert books is not None
    loading = [key for key, replica in books.replicas.items() if replica.ready_ns < 0]
    events = [ReplicaReady(*key) for key in loading if key not in over]
    return recorder.tell(*events, after_ns=after_ns)


def asleep(recorder: Recorder, *, after_ns: int = 0) -> list[Action]:
    """Every replica that falls asleep sleeps."""
    told = {(e.replica_id, e.epoch, e.turn) for e in _events(recorder, ReplicaAsleep)}
    events = [
        ReplicaAsleep(a.replica_id, a.epoch, a.turn)
        for a in recorder.actions(SleepReplica)
        if (a.replica_id, a.epoch, a.turn) not in told
    ]
    return recorder.tell(*events, after_ns=after_ns)


def woken(recorder: Recorder, *, after_ns: int = 0) -> list[Action]:
    """Every replica that wakes is ready."""
    told = {(e.replica_id, e.epoch, e.turn) for e in _events(recorder, ReplicaReady)}
    events = [
        ReplicaReady(a.replica_id, a.epoch, turn=a.turn)
        for a in recorder.actions(WakeReplica)
        if (a.replica_id, a.epoch, a.turn) not in told
    ]
    return recorder.tell(*events, after_ns=after_ns)


def _events(recorder: Recorder, kind: type[E]) -> list[E]:
    return [
        event for entry in recorder.entries for event in entry.events if isinstance(event, kind)
    ]


def gone(recorder: Recorder, *, after_ns: int = 0) -> list[Action]:
    """Every replica that was asked to go is gone."""
    assert recorder.checker is not None
    leaving = [key for key, seen in recorder.checker.books.replicas.items() if seen.leaving]
    return recorder.tell(*(ReplicaGone(*key) for key in leaving), after_ns=after_ns)


def resident(recorder: Recorder, *names: str) -> None:
    """Bring models up with one request each, which is then done."""
    for name in names:
        arrive(recorder, f"warm-{name}", of=name)
        ready(recorder)
        recorder.tell(AttemptFinished(f"warm-{name}", 1, 1))


def only(actions: Sequence[Action], kind: type[A]) -> list[A]:
    """The actions of one kind."""
    return [action for action in actions if isinstance(action, kind)]


def dispatched(actions: Sequence[Action]) -> list[str]:
    """Who was dispatched, in order."""
    return [action.request_id for action in actions if isinstance(action, Dispatch)]


def loaded(actions: Sequence[Action]) -> list[str]:
    """Which replicas began to load, in order."""
    return [action.replica_id for action in actions if isinstance(action, LoadReplica)]


def unloaded(actions: Sequence[Action]) -> list[tuple[str, str]]:
    """(replica, cause) of every unload, in order."""
    return [(a.replica_id, a.cause.value) for a in actions if isinstance(a, UnloadReplica)]
