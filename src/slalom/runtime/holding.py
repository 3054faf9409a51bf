"""Holds an answer back until it was looked at, so that another model can still answer instead.

Owns the bytes on hold (bounded) and the wait for what the scheduler makes of a doubt. What is
looked at is the gate's affair. Called by `relay`, for attempts from which another could take over.
"""

import asyncio
from collections.abc import Callable

from slalom.core.events import Verdict
from slalom.runtime.sink import Gate

#: A longer answer is not held back further: its client gets it as it comes.
HELD_BYTES_MAX = 4 << 20


class Hold:
    """One answer on hold.

    Args:
        gate: Looks at it.
        tell: Told what the gate thinks, before anything is handed on.
    """

    __slots__ = ("_bytes", "_gate", "_kept", "_parts", "_tell", "open", "verdict")

    def __init__(self, gate: Gate, tell: Callable[[Verdict], None]) -> None:
        self._gate = gate
        self._tell = tell
        self._parts: list[bytes] = []
        self._bytes = 0
        self._kept = asyncio.Event()
        #: Whether its client gets what comes.
        self.open = False
        self.verdict: Verdict | None = None

    def __repr__(self) -> str:
        """Counts; never a word of the answer."""
        return f"Hold(bytes={self._bytes}, open={self.open}, verdict={self.verdict})"

    def keep(self) -> None:
        """The client is to get the answer although it is doubted."""
        self._kept.set()

    async def take(self, data: bytes, *, ended: bool) -> bytes:
        """Take whole events; those that may go to the client now.

        Returns only when it is clear who answers. If another model does, the caller's task is
        interrupted meanwhile.

        Args:
            data: Whole events; may be empty.
            ended: Whether the answer is complete with them.
        """
        if self.open:
            return self._gate.clean(data) if data else data
        verdict = self._look(data)
        if verdict is None and ended:
            verdict = self._gate.end()
        return b"" if verdict is None else await self._settle(verdict)

    async def take_body(self, body: bytes) -> bytes:
        """Take a whole body; as it goes to the client."""
        verdict = self._look(body)
        return await self._settle(self._gate.end() if verdict is None else verdict)

    def _look(self, data: bytes) -> Verdict | None:
        self._parts.append(data)
        self._bytes += len(data)
        if self._bytes > HELD_BYTES_MAX:
            return Verdict.TRUSTED
        return self._gate.feed(data) if data else None

    async def _settle(self, verdict: Verdict) -> bytes:
        self.verdict = verdict
        self._tell(verdict)
        if verdict is not Verdict.TRUSTED:
            await self._kept.wait()
        self.open = True
        held, self._parts = b"".join(self._parts), []
        return self._gate.clean(held)
