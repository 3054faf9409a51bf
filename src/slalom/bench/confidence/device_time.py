"""How long each model's engine worked for a request, read from the server's journal.

Owns the reading: an attempt takes its engine from its dispatch to its end, also one that is broken
off. Right for one request at a time; side by side they would share. Called by `live`.
"""

from collections.abc import Iterable

from slalom.core.actions import Dispatch
from slalom.core.events import AttemptFailed, AttemptFinished
from slalom.core.journal import Entry


def device_times(entries: Iterable[Entry]) -> dict[str, dict[str, int]]:
    """Request -> model -> time of its attempts, ns."""
    running: dict[tuple[str, int], tuple[str, int]] = {}
    found: dict[str, dict[str, int]] = {}
    for entry in entries:
        for event in entry.events:
            if not isinstance(event, AttemptFinished | AttemptFailed):
                continue
            model, since_ns = running.pop((event.request_id, event.attempt), ("", 0))
            if model:
                times = found.setdefault(event.request_id, {})
                times[model] = times.get(model, 0) + entry.now_ns - since_ns
        for action in entry.actions:
            if isinstance(action, Dispatch):
                model = action.replica_id.rpartition("#")[0]
                running[action.request_id, action.attempt] = (model, entry.now_ns)
    return found
