"""One-line mutants of the core and the policies, each a bug somebody could well write.

Owns the list. `old` must occur exactly once in `path`; a mutant whose line is gone fails its test
and wants to be written anew for the line that took its place.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A bug: where, which line, and what stands there instead."""

    name: str
    #: Below src/slalom.
    path: str
    old: str
    new: str
    #: Which random worlds it is hunted in.
    world: str = "scenario_for"


MUTANTS = (
    Mutant(
        "no fence check",
        "core/state.py",
        "if found is None or found.epoch != epoch:",
        "if found is None:",
    ),
    Mutant(
        "place not freed on abort",
        "core/transitions.py",
        "    fail_attempt(step, attempt, event.kind, delivered=event.delivered)",
        "    attempt.aborting or fail_attempt(step, attempt, event.kind, delivered=True)",
    ),
    Mutant(
        "what others hold is taken for free",
        "core/device.py",
        "return self.spec.budget_bytes - self.foreign_bytes - self.booked_bytes",
        "return self.spec.budget_bytes - self.booked_bytes",
    ),
    Mutant(
        "bytes not freed",
        "core/books.py",
        "    device.book(replica, 0)\n    del",
        "    device.book(replica, replica.booked_bytes)\n    del",
    ),
    Mutant(
        "evict what is busy",
        "core/giving_way.py",
        "    if replica.running:\n        close",
        "    if False:\n        close",
    ),
    Mutant(
        "resurrect a victim",
        "core/transitions.py",
        "    if replica.state not in _COMING_UP:\n        return",
        "    if replica.state is ReplicaState.READY:\n        return",
    ),
    Mutant(
        "double load",
        "core/state.py",
        "return self.in_state(ReplicaState.READY, ReplicaState.LOADING, ReplicaState.WAKING)",
        "return self.in_state(ReplicaState.READY)",
    ),
    Mutant(
        "expiry skipped",
        "core/timing.py",
        "        if record.waits_since_ns > limit_ns:",
        "        if record.waits_since_ns >= 0:",
    ),
    Mutant(
        "requeue lost",
        "core/transitions.py",
        "        record.first_token_ns = -1\n    enqueue(state, record)",
        "        record.first_token_ns = -1\n    del state.requests[record.request.id]",
    ),
    Mutant(
        "EDF reversed",
        "policies/ordering.py",
        "return min(deadline_ns, request.arrived_ns + self.ageing_ms * MS)",
        "return -min(deadline_ns, request.arrived_ns + self.ageing_ms * MS)",
    ),
    Mutant(
        "timer not re-armed",
        "core/transitions.py",
        "    step.state.timer_ns = -1",
        "    step.state.timer_ns = step.state.now_ns",
    ),
    Mutant(
        "load not cancelled",
        "core/residency.py",
        "        _cancel_unwanted_loads(step, device)\n",
        "",
    ),
    Mutant(
        "drain never completes",
        "core/timing.py",
        "    if any(device.replicas for device in state.devices.values()):",
        "    if state.devices:",
    ),
    Mutant(
        "budget counted without the needs before",
        "core/residency.py",
        "elif (need == 0 or pool.free - pool.reserved >= need) and not dozes:",
        "elif (need == 0 or pool.free >= 0) and not dozes:",
    ),
    Mutant(
        "tried again after bytes were delivered",
        "core/transitions.py",
        "    final = delivered or kind is FailureKind.REFUSED",
        "    final = kind is FailureKind.REFUSED",
    ),
    Mutant(
        "attempts without bound",
        "core/transitions.py",
        "if final or record.tries >= step.params.attempts_max:",
        "if final or record.tries > step.params.attempts_max:",
    ),
    Mutant(
        "pinned models give way",
        "core/giving_way.py",
        "return replica.ready_ns <= grown_ns and not wishes.pinned",
        "return replica.ready_ns <= grown_ns",
    ),
    Mutant(
        "device window ignored",
        "core/device.py",
        "return self.spec.window == 0 or self.running < self.spec.window",
        "return self.spec.window == 0 or self.running <= self.spec.window",
    ),
    Mutant(
        "failed load tried again at once",
        "core/transitions.py",
        "    model.backoff_until_ns = state.now_ns + backoff_ns",
        "    model.backoff_until_ns = state.now_ns",
    ),
    Mutant(
        "cancelled while it runs, but never aborted",
        "core/ending.py",
        "        abort(attempt, actions)\n",
        "",
    ),
    Mutant(
        "ended in silence when its process is gone",
        "core/transitions.py",
        "    for attempt in list(replica.running.values()):",
        "    for attempt in list(replica.running.values())[1:]:",
    ),
    Mutant(
        "unload asked for only once",
        "core/timing.py",
        "if replica.unload_asked_ns + params.unload_timeout_ns > now_ns:",
        "if replica.unload_asked_ns >= 0:",
    ),
    Mutant(
        "paused, and its tokens forgotten",
        "core/transitions.py",
        "        record.produced_tokens += attempt.output_tokens\n",
        "",
    ),
    Mutant(
        "replaced by somebody else's request",
        "core/arriving.py",
        "        state.newest[request.key, request.asked, request.supersedes] = request.id",
        '        state.newest["", request.asked, request.supersedes] = request.id',
    ),
    Mutant(
        "what runs is not replaced",
        "core/arriving.py",
        "    if older is not None:  # only now",
        "    if older is not None and older.in_queue:  # only now",
    ),
    Mutant(
        "a plan starts more than there are places",
        "core/planned.py",
        "        and replica.free_places > 0\n",
        "        and replica.running_count <= model.spec.places\n",
    ),
    Mutant(
        "a plan pauses what cannot go on",
        "core/planned.py",
        "    resumable = record.request.resumable and record.pauses < PAUSES_MAX",
        "    resumable = record.pauses < PAUSES_MAX",
    ),
    Mutant(
        "half an answer is called refused",
        "core/timing.py",
        "    begun = record.first_token_ns >= 0 or not record.in_queue",
        "    begun = not record.in_queue",
    ),
    Mutant(
        "load beside a sleeper",
        "core/raising.py",
        "    if sleeper is None:\n        _load(step, model, ahead=ahead)",
        "    if sleeper is None or len(model.queue) > 2:\n        _load(step, model, ahead=ahead)",
    ),
    Mutant(
        "sleep without host memory",
        "core/leaving.py",
        "free = host.free_bytes >= spec.host_bytes and",
        "free = host.free_bytes >= spec.host_bytes // 2 and",
    ),
    Mutant(
        "bytes free before it sleeps",
        "core/leaving.py",
        "    replica.turn += 1\n",
        "    replica.turn += 1\n    replica.device.book(replica, spec.residual_bytes)\n",
    ),
    Mutant(
        "a sleep that never times out",
        "core/timing.py",
        "        (ReplicaState.SLEEPING, params.sleep_timeout_ns, ",
        "        (ReplicaState.SLEEPING, params.sleep_timeout_ns << 20, ",
    ),
    Mutant(
        "a model that would refuse serves",
        "core/arriving.py",
        "    able = [index for index, refusal in enumerate(refusals) if refusal is None]",
        "    able = [index for index, _ in enumerate(refusals)]",
    ),
    Mutant(
        "who serves is not told",
        "core/arriving.py",
        "        step.actions.append(ModelChosen(request.id, request.model, placing.passed))",
        "        pass",
    ),
    Mutant(
        "a pinned model goes at a word",
        "core/asking.py",
        "    return not model.wishes.pinned",
        "    return True",
    ),
    Mutant(
        "busy ones give way to who may only have idle ones",
        "core/giving_way.py",
        "    return waited and model.swap is Swap.NORMAL",
        "    return waited",
    ),
    Mutant(
        "a load that stands still is waited for",
        "core/timing.py",
        "        if 0 <= _stalled_ns(replica, params) <= now_ns:",
        "        if _stalled_ns(replica, params) < 0:",
    ),
    Mutant(
        "an ask that came to nothing is never told",
        "core/lapsing.py",
        "        yield wishes.ask.until_ns, None",
        "        yield wishes.ask.until_ns + (1 << 60), None",
    ),
    Mutant(
        "a reload stops what was not changed",
        "core/reloading.py",
        "    for replica in list(model.replicas.values()):\n        if replica.is_outdated or",
        "    for replica in list(step.state.all_replicas()):\n        if replica.is_outdated or",
        world="reloading_world",
    ),
    Mutant(
        "what was removed goes on for ever",
        "core/reloading.py",
        "        over = model.retires_ns <= step.state.now_ns",
        "        over = False",
        world="reloading_world",
    ),
    Mutant(
        "an old engine takes new requests",
        "core/reloading.py",
        "    _send_off(step, model, UnloadCause.REPLACED, state.now_ns + max(drain_ns, 1))\n",
        "",
        world="reloading_world",
    ),
)
