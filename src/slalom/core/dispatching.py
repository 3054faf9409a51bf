"""Reconcile pass: start what may start, device by device, best key first.

Owns the loop over a device's runnable heap. Costs O(log models) for each dispatch, because only
models that were touched since the last pass stand in the heap.
"""

import heapq

from slalom.core.actions import Dispatch, Outcome
from slalom.core.books import occupy
from slalom.core.ending import end, touch
from slalom.core.policy import Verdict
from slalom.core.state import Attempt, Device, Model, Replica, RequestRecord, State
from slalom.core.transitions import Step

#: Stale offers below this number are never worth a rebuild.
_RUNNABLE_SLACK = 64


def dispatch_all(step: Step) -> None:
    """Dispatch on every device that has something runnable."""
    offering = step.state.offering
    for device in sorted(offering.values(), key=lambda device: device.rank):
        _dispatch_on(step, device)
        if not device.runnable:
            del offering[device.spec.id]


def _dispatch_on(step: Step, device: Device) -> None:
    now_ns = step.state.now_ns
    while device.runnable and device.has_room():
        key, model_id = device.runnable[0]
        model = step.state.models[model_id]
        head = model.queue.peek()
        stale = model.offered != key or head is None or head[0] != key
        _withdraw(model, device)
        if head is None or stale or model.most_free() is None:
            if model.offered is None:
                touch(step.state, model)
            continue
        record = head[1]
        decision = step.policies.admission.decide(record, model, now_ns)
        if decision.verdict is Verdict.HOLD:
            device.held[model_id] = model
            continue
        if decision.verdict is Verdict.REFUSE:
            end(step.state, record, Outcome.REJECTED, step.actions, reason=decision.reason)
            continue
        picked = step.policies.routing.pick(record, model, now_ns)
        if picked is None:
            device.held[model_id] = model
            continue
        _start(step, record, model, model.replicas[picked.id])
        touch(step.state, model)
    if len(device.runnable) > _RUNNABLE_SLACK + 2 * len(step.state.models):
        _compact(step.state, device)


def _compact(state: State, device: Device) -> None:
    """Drop stale offers that no dispatch brings to the surface while the device is full."""
    device.runnable[:] = [
        (model.offered, model.spec.id)
        for model in state.models.values()
        if model.offered is not None and model.device is device
    ]
    heapq.heapify(device.runnable)


def _withdraw(model: Model, device: Device) -> None:
    """Take the top of the runnable heap away; it was this model's offer, or a stale one."""
    key, _ = heapq.heappop(device.runnable)
    if model.offered == key:
        model.offered = None


def _start(step: Step, record: RequestRecord, model: Model, replica: Replica) -> None:
    state = step.state
    model.queue.pop()
    del state.waiting[record.request.id]
    record.attempts += 1
    record.number += 1
    while (record.request.id, record.number) in state.attempts:
        record.number += 1
    record.dispatch_ns = state.now_ns
    if record.first_dispatch_ns < 0:
        record.first_dispatch_ns = state.now_ns
    attempt = Attempt(record.request.id, record.number, replica, state.now_ns)
    record.attempt = attempt
    occupy(state, attempt)
    step.actions.append(Dispatch(record.request.id, attempt.number, replica.id, replica.epoch))
