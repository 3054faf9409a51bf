"""Reconcile pass: start what may start, device by device, best key first.

Owns the loop over a device's runnable heap. Costs O(log models) for each dispatch, because only
models that were touched since the last pass stand in the heap.
"""

import heapq
from typing import cast

from slalom.core.actions import Outcome
from slalom.core.device import Device
from slalom.core.ending import end, touch
from slalom.core.planned import plan_for
from slalom.core.planning import Planner
from slalom.core.policy import Admission, Verdict
from slalom.core.starting import start_attempt
from slalom.core.state import Model, State
from slalom.core.step import Step

#: Stale offers below this number are never worth a rebuild.
_RUNNABLE_SLACK = 64


def dispatch_all(step: Step) -> None:
    """Dispatch on every device that has something runnable."""
    offering = step.state.offering
    for device in sorted(offering.values(), key=lambda device: device.rank):
        if step.state.planner is not None:
            _plan_on(step, device, step.state.planner)
        else:
            _admit_on(step, device, cast("Admission", step.policies.admission))
        if not device.runnable:
            del offering[device.spec.id]


def _plan_on(step: Step, device: Device, planner: Planner) -> None:
    """Ask the planner about every model that was touched, best head first."""
    while device.runnable:
        model, is_stale = _take_offer(step.state, device)
        if is_stale or not model.has_ready():
            if model.offered is None and model.spec.id not in device.held:
                touch(step.state, model)
            continue
        plan_for(step, device, model, planner)


def _take_offer(state: State, device: Device) -> tuple[Model, bool]:
    """The model on top of the runnable heap, taken off; whether its offer was out of date."""
    key, model_id = heapq.heappop(device.runnable)
    model = state.models[model_id]
    head = model.queue.peek()
    is_stale = model.offered != key or head is None or head.key != key
    if model.offered == key:
        model.offered = None
    return model, is_stale


def _admit_on(step: Step, device: Device, admission: Admission) -> None:
    now_ns = step.state.now_ns
    while device.runnable and device.has_room():
        model, is_stale = _take_offer(step.state, device)
        record = model.queue.peek()
        if record is None or is_stale or model.most_free() is None:
            if model.offered is None:
                touch(step.state, model)
            continue
        decision = admission.decide(record, model, now_ns)
        if decision.verdict is Verdict.HOLD:
            device.held[model.spec.id] = model
            continue
        if decision.verdict is Verdict.REFUSE:
            end(step.state, record, Outcome.REJECTED, step.actions, reason=decision.reason)
            continue
        picked = step.policies.routing.pick(record, model, now_ns)
        if picked is None:
            device.held[model.spec.id] = model
            continue
        start_attempt(step, record, model, model.replicas[picked.id])
        touch(step.state, model)
    if len(device.runnable) > _RUNNABLE_SLACK + 2 * len(step.state.models):
        _compact(step.state, device)


def _compact(state: State, device: Device) -> None:
    """Drop stale offers that no dispatch brings to the surface while the device is full."""
    device.runnable[:] = [
        (model.offered, model.spec.id)
        for model in state.models.values()
        if model.offered is not None and model.desk is device
    ]
    heapq.heapify(device.runnable)
