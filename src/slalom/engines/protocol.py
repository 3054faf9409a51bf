"""The contract between Slalom and an inference program that speaks the OpenAI API.

Owns the `Launcher` and `Engine` protocols and their plain data. An engine is one life of one
replica. The bytes it streams are relayed untouched, so an engine hands out bytes, not tokens.
Called by the runtime; implemented by llama_cpp, command, remote and `slalom.testing.FakeEngine`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from slalom.engines.memory_use import MemoryUse
from slalom.models.fim import FimTemplate

#: Told how far a load is, 0.0 to 1.0. Must not block.
OnProgress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do beyond streaming and aborting."""

    embeddings: bool = False
    #: Sleep levels it accepts (vLLM: 1 keeps weights in host memory, 2 drops them).
    sleep_levels: tuple[int, ...] = ()
    #: Whether it heeds `priority` in a body: the smaller the earlier (vLLM's polarity).
    priority: bool = False
    #: Fields that make it continue a last message of the assistant instead of answering it; None
    #: where it cannot, or where nobody said that it can.
    continue_chat: tuple[tuple[str, bool], ...] | None = None
    #: Present where the model knows fill-in-the-middle.
    fim: FimTemplate | None = None
    #: False where it surely cannot, and would not say so or not clearly: repeat the prompt of a
    #: completion, see pictures, be told of tools.
    echo: bool = True
    pictures: bool = True
    tools: bool = True
    #: Most stop texts that it takes in one request; None for any number.
    stops_max: int | None = None


@dataclass(frozen=True, slots=True)
class EngineMetrics:
    """What the engine itself says about its load."""

    #: Requests being processed now.
    running: int
    #: Requests waiting inside the engine.
    waiting: int
    #: Tokens it has generated since its start; -1 where it does not say.
    generated_tokens: int = -1
    #: Share of its KV cache that is in use, 0.0 to 1.0; -1 where it does not say.
    kv_used: float = -1.0


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP call to the engine, ready to send."""

    #: For example ``/v1/chat/completions``.
    path: str
    #: JSON body, already in the engine's own words (model name, FIM prompt).
    body: bytes
    #: Extra headers (traceparent, request id); content type is implied.
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Longest silence on the stream before the call fails as stalled, seconds.
    stall_timeout_s: float = 60.0


class Reply(Protocol):
    """An answer being received. Closing it early aborts the engine's work."""

    #: HTTP status of the engine; the reply may be an error body.
    status: int
    content_type: str

    async def read(self) -> bytes:
        """The next bytes of the body as they came, or ``b""`` at its end.

        Raises:
            EngineError: `code` is a `FailureKind`: connection lost (also an end before the
                body is complete), stalled.
        """
        ...

    async def close(self) -> None:
        """Release the reply; if it is not complete, close the connection and so abort."""
        ...


class Engine(Protocol):
    """One running inference program with one model."""

    capabilities: Capabilities
    #: The name by which the engine knows the model in request bodies.
    model_name: str

    async def generate(self, call: Call) -> Reply:
        """Send a call and return once the response head is there.

        Raises:
            EngineError: Cannot connect, connection lost, stalled.
        """
        ...

    async def health(self) -> bool:
        """Whether the program answers; False (never an exception) if not, within 5 s."""
        ...

    async def metrics(self) -> EngineMetrics | None:
        """The engine's own gauges, or None where it has none."""
        ...

    async def memory_bytes(self) -> int:
        """Measured resident memory of all its processes; 0 where it cannot be measured."""
        ...

    async def memory_use(self) -> MemoryUse | None:
        """What that memory is made of, for people; None where nothing tells."""
        ...

    async def sleep(self, level: int) -> None:
        """Give memory back but stay alive.

        Raises:
            EngineError: The level is not in `capabilities.sleep_levels`, or it failed.
        """
        ...

    async def wake(self) -> None:
        """Undo `sleep`.

        Raises:
            EngineError: It failed, or the engine was not asleep.
        """
        ...

    async def wait_closed(self) -> str:
        """Return when the program has ended by itself, with what it said last (for people)."""
        ...

    async def stop(self, grace_s: float) -> None:
        """End it: politely, after `grace_s` by force. Returns when its memory is free.

        Idempotent; never raises.
        """
        ...


class Launcher(Protocol):
    """Brings engines of one kind up."""

    async def launch(self, replica_id: str, on_progress: OnProgress) -> Engine:
        """Start one engine and return when it is ready.

        Cancelling the call ends what was started and frees its memory before it returns.

        Raises:
            EngineError: `code` is MODEL_UNUSABLE, OUT_OF_MEMORY, START_FAILED or
                LOAD_TIMEOUT of `FailureKind`; the message is for people.
        """
        ...
