"""The engine behind every launcher here: an HTTP base URL and, mostly, a process of ours.

Owns generate, health, gauges, sleep and stop over HTTP. Does not start anything: launchers do.
Called by the runtime through the `Engine` protocol.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from slalom.core.events import FailureKind
from slalom.engines.gauges import parse_gauges
from slalom.engines.memory_use import MemoryUse
from slalom.engines.process import EngineProcess, describe_end
from slalom.engines.protocol import Call, Capabilities, EngineMetrics
from slalom.engines.upstream import Upstream
from slalom.engines.upstream_connection import UpstreamReply
from slalom.errors import EngineError

#: Time an engine has to answer a health check or for its gauges, seconds.
PROBE_TIMEOUT_S = 5.0
#: From this sleep level on, the weights must be read again.
_WEIGHTS_DROPPED = 2


@dataclass(frozen=True, slots=True)
class SleepPaths:
    """Where an engine is put to sleep and woken, and how long that may take."""

    #: Path of the sleep call; ``{level}`` becomes the level.
    sleep: str = "/sleep?level={level}"
    wake: str = "/wake_up"
    #: (path, body) of the calls that bring the weights back after a wake from level 2.
    reload: tuple[tuple[str, bytes], ...] = (
        ("/collective_rpc", b'{"method": "reload_weights"}'),
        ("/reset_prefix_cache", b""),
    )
    #: Longest wait for one of these calls. Whoever asked for the sleep or the wake gives up sooner:
    #: reading the weights of a large model again takes minutes.
    timeout_s: float = 3600.0


class HttpEngine:
    """An `Engine` reached over HTTP.

    Args:
        upstream: Connections to it; closed with the engine.
        model_name: Name of the model in request bodies.
        capabilities: What it can do.
        process: The process to measure and to end; None where somebody else runs it.
        health_path: Answers 200 while the engine is well.
        metrics_path: Prometheus text, or None where the engine has none.
        sleep_paths: Used where `capabilities.sleep_levels` is not empty.
        before_stop: Asks the program to end before signals do, within the given seconds.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        model_name: str,
        capabilities: Capabilities,
        process: EngineProcess | None = None,
        health_path: str = "/health",
        metrics_path: str | None = "/metrics",
        sleep_paths: SleepPaths | None = None,
        before_stop: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        self.capabilities = capabilities
        self.model_name = model_name
        self.upstream = upstream
        self.process = process
        self.health_path = health_path
        self.metrics_path = metrics_path
        self.sleep_paths = sleep_paths or SleepPaths()
        self._before_stop = before_stop
        #: Level at which it sleeps; 0 while it is awake.
        self._sleep_level = 0
        self._stopping: asyncio.Future[None] | None = None
        self._stopped = asyncio.Event()

    def __repr__(self) -> str:
        return f"<HttpEngine {self.model_name!r} {self.upstream!r} {self.process!r}>"

    async def generate(self, call: Call) -> UpstreamReply:
        """Send a call and return once the response head is there.

        Raises:
            EngineError: Cannot connect, connection lost, stalled.
        """
        return await self.upstream.post(call)

    async def health(self) -> bool:
        """Whether the program answers its health path within `PROBE_TIMEOUT_S`."""
        try:
            status, _ = await self.upstream.get(self.health_path, timeout_s=PROBE_TIMEOUT_S)
        except EngineError:
            return False
        return 200 <= status < 300

    async def metrics(self) -> EngineMetrics | None:
        """The engine's own gauges; None where it has none or does not answer."""
        if self.metrics_path is None:
            return None
        try:
            status, body = await self.upstream.get(self.metrics_path, timeout_s=PROBE_TIMEOUT_S)
        except EngineError:
            return None
        return parse_gauges(body.decode("utf-8", "replace")) if status == 200 else None

    async def memory_bytes(self) -> int:
        """Memory of the process tree on its device; 0 where somebody else runs it."""
        return 0 if self.process is None else await self.process.device_bytes()

    async def memory_use(self) -> MemoryUse | None:
        """What that memory is made of; None where somebody else runs it."""
        return None if self.process is None else await self.process.memory_use()

    async def sleep(self, level: int) -> None:
        """Give memory back but stay alive.

        Raises:
            EngineError: The level is not supported, or the engine refused.
        """
        if level not in self.capabilities.sleep_levels:
            levels = ", ".join(map(str, self.capabilities.sleep_levels)) or "none"
            raise EngineError(
                f"{self.upstream.where}: sleep level {level} is not supported "
                f"(supported: {levels})",
                code=FailureKind.REFUSED,
                retryable=False,
            )
        await self._command(self.sleep_paths.sleep.format(level=level))
        self._sleep_level = level

    async def wake(self) -> None:
        """Undo `sleep`.

        Raises:
            EngineError: It refused, or was not asleep.
        """
        if not self._sleep_level:
            raise EngineError(
                f"{self.upstream.where}: the engine is not asleep",
                code=FailureKind.REFUSED,
                retryable=False,
            )
        await self._command(self.sleep_paths.wake)
        if self._sleep_level >= _WEIGHTS_DROPPED:
            for path, body in self.sleep_paths.reload:
                await self._command(path, body)
        self._sleep_level = 0

    async def wait_closed(self) -> str:
        """Return when the process has ended, with what it said last.

        A remote engine has no end of its own: this returns after `stop`.
        """
        if self.process is None:
            await self._stopped.wait()
            return f"{self.upstream.where}: no longer used"
        await self.process.wait()
        self.upstream.close()
        return describe_end(self.process)

    async def stop(self, grace_s: float) -> None:
        """End it and return when its memory is free. Idempotent, never raises."""
        if self._stopping is None:
            self._stopping = asyncio.ensure_future(self._stop(grace_s))
        # Shielded: a caller that is cancelled must not leave the engine half ended.
        await asyncio.shield(self._stopping)

    async def _stop(self, grace_s: float) -> None:
        self.upstream.close()
        if self.process is not None:
            if self._before_stop is not None and self.process.returncode is None:
                await self._before_stop(grace_s)
            await self.process.stop(grace_s)
        self._stopped.set()

    async def _command(self, path: str, body: bytes = b"") -> None:
        timeout_s = self.sleep_paths.timeout_s
        status, _ = await self.upstream.fetch("POST", path, timeout_s=timeout_s, body=body)
        if not 200 <= status < 300:
            raise EngineError(
                f"{self.upstream.where}{path}: the engine answered {status}; "
                "is its sleep mode enabled?",
                code=FailureKind.ENGINE_ERROR,
                status=status,
            )
