"""An engine that says what was recorded, in pieces cut anywhere, and ends as a test wants it.

Owns nothing but the delivery: the recorded answers are `engine_corpus`'s.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from slalom.core.events import FailureKind
from slalom.engines.protocol import Call
from slalom.engines.upstream_connection import UpstreamReply
from slalom.testing import FakeEngine, FakeLauncher, FakeScript

#: Silence after which a call has stalled here, seconds.
STALL_S = 0.15


class End(Enum):
    """What comes behind the last piece."""

    PROPER = "the end"
    BROKEN = "the connection breaks"
    SILENT = "nothing more"


@dataclass
class Replay:
    """What every call is answered."""

    pieces: Sequence[bytes] = ()
    end: End = End.PROPER
    content_type: str = "text/event-stream"

    def say(self, pieces: Sequence[bytes], end: End = End.PROPER, *, whole: bool = False) -> None:
        """From now on answer this."""
        self.pieces, self.end = pieces, end
        self.content_type = "application/json" if whole else "text/event-stream"


class ReplayingEngine(FakeEngine):
    """Answers every call alike."""

    def __init__(self, script: FakeScript, replay: Replay) -> None:
        super().__init__(script)
        self._replay = replay

    async def generate(self, call: Call) -> UpstreamReply:
        """One piece for each turn of the loop."""
        self.calls.append(call)
        replay = self._replay
        stall_s = STALL_S if replay.end is End.SILENT else call.stall_timeout_s
        reply = UpstreamReply("recorded engine", stall_s)
        reply.status, reply.content_type = 200, replay.content_type
        pieces, loop = list(replay.pieces), asyncio.get_running_loop()

        def go_on() -> None:
            if pieces:
                reply.push(pieces.pop(0))
                reply.notify()
                loop.call_soon(loop.call_soon, go_on)  # the reader has a turn of its own
            elif replay.end is End.PROPER:
                reply.finish()
            elif replay.end is End.BROKEN:
                reply.fail(FailureKind.CRASHED, "the connection broke")

        loop.call_soon(go_on)
        return reply


@dataclass(eq=False, slots=True)
class ReplayingLauncher(FakeLauncher):
    """Brings such engines up; what they say may change at any time."""

    replay: Replay = field(default_factory=Replay)

    async def launch(self, replica_id: str, on_progress: Callable[[float], None]) -> FakeEngine:
        """At once."""
        self.launches.append(replica_id)
        script = self.script
        assert isinstance(script, FakeScript)
        engine = ReplayingEngine(script, self.replay)
        self.engines.append(engine)
        return engine
