"""What changes in residency, for one client that reads along.

Owns the choice of events and actions that are told, their words, and the bound on what waits for a
slow reader: beyond it the client is dropped, the server never waits. Called by `admin`.
"""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any

import msgspec

from slalom.core.actions import (
    AskRefused,
    EvictionDecided,
    LoadReplica,
    SizeDecided,
    SleepReplica,
    UnloadReplica,
    WakeReplica,
)
from slalom.core.events import (
    ConfigChanged,
    LoadProgress,
    ModelAsked,
    ReplicaAsleep,
    ReplicaFailed,
    ReplicaGone,
    ReplicaReady,
)
from slalom.core.journal import Entry

#: Events that may wait for one client.
_WAITING_MAX = 512

#: Decisions that are kept; the journal has all.
_DECISIONS_MAX = 200

#: What is told, and what it is called: the stages of a load are load, progress, ready.
_NAMES: dict[type, str] = {
    ModelAsked: "asked",
    LoadProgress: "progress",
    ReplicaReady: "ready",
    ReplicaAsleep: "asleep",
    ReplicaFailed: "failed",
    ReplicaGone: "gone",
    LoadReplica: "load",
    WakeReplica: "wake",
    SleepReplica: "sleep",
    UnloadReplica: "unload",
    EvictionDecided: "evict",
    AskRefused: "refused",
    ConfigChanged: "reload",
    SizeDecided: "size",
}


class Feed:
    """The news of one client."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._some = asyncio.Event()
        #: Its client reads too slowly and was left behind.
        self.overrun = False

    def __repr__(self) -> str:
        return f"Feed(waiting={len(self._waiting)}, overrun={self.overrun})"

    def see(self, entry: Entry) -> None:
        """Take what a step tells of residency."""
        for told in (*entry.events, *entry.actions):
            name = _NAMES.get(type(told))
            if name is None or self.overrun:
                continue
            if len(self._waiting) >= _WAITING_MAX:
                self.overrun = True
                self._waiting.clear()
            else:
                self._waiting.append(_event(name, told, entry.now_ns))
            self._some.set()

    async def news(self, wait_s: float) -> bytes:
        """What has come since the last call; empty if nothing does for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._some.wait()
        self._some.clear()
        found = b"".join(self._waiting)
        self._waiting.clear()
        return found


class DecisionLog:
    """The last evictions that were decided, newest last."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, EvictionDecided]] = deque(maxlen=_DECISIONS_MAX)

    def __repr__(self) -> str:
        return f"DecisionLog({len(self._kept)})"

    def see(self, entry: Entry) -> None:
        """Keep what a step decided."""
        for action in entry.actions:
            if isinstance(action, EvictionDecided):
                self._kept.append((entry.now_ns, action))

    def documents(self) -> list[dict[str, Any]]:
        """All that is kept, newest first."""
        return [
            {"at_ns": at_ns, **msgspec.to_builtins(decision)}
            for at_ns, decision in reversed(self._kept)
        ]


def _event(name: str, told: object, now_ns: int) -> bytes:
    fields: dict[str, Any] = {"at_ns": now_ns}
    if isinstance(told, ConfigChanged):
        for how in ("added", "replaced", "adjusted"):
            fields[how] = [spec.id for spec in getattr(told, how)]
        fields |= {"removed": told.removed, "reload_id": told.reload_id}
    else:
        fields |= msgspec.to_builtins(told)
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(fields))
