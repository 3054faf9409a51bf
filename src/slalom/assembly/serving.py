"""Runs a server from its configuration to its exit code.

Owns the order of start and end, the signals and the log's set-up. The first SIGTERM or SIGINT
drains; a second one ends at once. Called by `slalom serve`, the demo and the benchmarks.
"""

import asyncio
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from slalom.assembly.parts import Parts, assemble
from slalom.assembly.reloading import Reloading
from slalom.config.schema import Config
from slalom.config.sections import LogSection
from slalom.gateway.server import GatewayServer, loop_factory

_log = logging.getLogger(__name__)

#: Time beyond the drain for engines to end and answers to leave, s.
_AFTER_DRAIN_S = 5.0
#: What traffic has taught is written down so often, s.
_KEEP_EVERY_S = 300.0

#: Reads the configuration anew.
Reread = Callable[[], Config]
#: Told where the server listens, once it does.
OnReady = Callable[[str, Parts], None]


def serve(config: Config, *, on_ready: OnReady | None = None, reread: Reread | None = None) -> int:
    """Serve until a signal comes; blocks.

    Args:
        config: The configuration.
        on_ready: Called with the base URL when connections are taken.
        reread: Reads the configuration anew, on SIGHUP and for `/admin/reload`; without it neither
            does anything.

    Returns:
        The exit code: 0 if everything that was accepted was finished, else 1.

    Raises:
        SlalomError: It cannot start; nothing is left running.
    """

    def ready(url: str, parts: Parts) -> None:
        # What was imported and built until now stays for ever; looking through it for garbage
        # again and again would stop every stream for some 15 ms each time.
        gc.collect()
        gc.freeze()
        if on_ready is not None:
            on_ready(url, parts)

    configure_logging(config.log)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(run_server(config, on_ready=ready, reread=reread))


async def run_server(
    config: Config, *, on_ready: OnReady | None = None, reread: Reread | None = None
) -> int:
    """As `serve`, inside a running event loop."""
    parts = assemble(config)
    reloading = None
    if reread is not None:
        reloading = Reloading(parts, reread)
        parts.gateway.reload_by(reloading)
    server = GatewayServer(
        parts.gateway,
        host=config.server.host,
        port=config.server.port,
        insecure=config.server.insecure,
    )
    ending = asyncio.Event()
    signals = _Signals(ending, reloading)
    besides = [asyncio.ensure_future(work(parts)) for work in (keep_learned, watch_ledgers)]
    try:
        await server.start()
        parts.runtime.start()
        if parts.batches is not None:
            parts.batches.start()
        signals.install()
        if on_ready is not None:
            on_ready(server.url, parts)
        if not await _ended(ending, parts.runtime.failed):
            _log.critical("the scheduler failed (a bug); ending, so that a fresh process can serve")
            return 1
        in_force = config if reloading is None else reloading.config
        return await _end(parts, server, signals, in_force.server.drain_seconds)
    finally:
        signals.remove()
        await server.stop(0.0)
        if parts.batches is not None:
            await parts.batches.close()
        await parts.runtime.close()
        for task in besides:
            task.cancel()
        await asyncio.gather(*besides, return_exceptions=True)
        save_learned(parts)
        if parts.recorder is not None:
            await parts.recorder.close()


async def _ended(ending: asyncio.Event, failed: asyncio.Event) -> bool:
    """Wait for the end; whether it was asked for."""
    waits = [asyncio.ensure_future(event.wait()) for event in (ending, failed)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    return not failed.is_set()


def save_learned(parts: Parts) -> None:
    """Keep what traffic has taught of step times, for the next start."""
    if parts.costs is not None:
        parts.costs.save(parts.scheduler.snapshot().learned)


async def keep_learned(parts: Parts) -> None:
    """The same now and then, in case the end is a sudden one; and the memory that was seen."""
    while parts.costs is not None or parts.recorder is not None:
        await asyncio.sleep(_KEEP_EVERY_S)
        if parts.costs is not None:
            await asyncio.to_thread(parts.costs.save, parts.scheduler.snapshot().learned)
        if parts.recorder is not None:
            parts.recorder.flush()


async def watch_ledgers(parts: Parts) -> None:
    """Hold the ledgers against the devices, for as long as it runs."""
    if parts.ledgers is not None:
        await parts.ledgers.run()


async def _end(parts: Parts, server: GatewayServer, signals: "_Signals", seconds: float) -> int:
    """Drain, unless a second signal says at once."""
    inflight = parts.gateway.inflight
    _log.info("draining: %d requests have up to %g s to finish", inflight, seconds)
    parts.gateway.start_draining()
    if parts.batches is not None:
        # Its lines under way would hold up the end; the next start begins them anew.
        await parts.batches.stop()
    draining = asyncio.ensure_future(parts.runtime.drain(seconds))
    hurried = asyncio.ensure_future(signals.hurry.wait())
    await asyncio.wait((draining, hurried), return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    if not draining.done():
        draining.cancel()
        _log.warning("a second signal: ending at once")
        return 1
    unfinished = draining.result()
    await server.stop(_AFTER_DRAIN_S)
    if unfinished:
        _log.warning("%d requests did not finish within %g s", unfinished, seconds)
    return 1 if unfinished else 0


class _Signals:
    """The first signal sets `ending`, the second `hurry`; a hang-up reloads the configuration.

    A hang-up because the terminal was closed ends the server, as it would without us.
    """

    _NUMBERS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self, ending: asyncio.Event, reloading: Reloading | None) -> None:
        self._ending = ending
        self.hurry = asyncio.Event()
        self._reloading = reloading
        self._has_terminal = _has_terminal()
        self._reloads: set[asyncio.Task[None]] = set()

    def install(self) -> None:
        """Take the signals over."""
        loop = asyncio.get_running_loop()
        for number in self._NUMBERS:
            loop.add_signal_handler(number, self._take)
        if self._reloading is not None:
            loop.add_signal_handler(signal.SIGHUP, self._hang_up, self._reloading)

    def remove(self) -> None:
        """Give the signals back."""
        loop = asyncio.get_running_loop()
        for number in (*self._NUMBERS, signal.SIGHUP):
            loop.remove_signal_handler(number)

    def _hang_up(self, reloading: Reloading) -> None:
        if self._has_terminal and not _has_terminal():
            self._take()
        elif not self._ending.is_set():
            task = asyncio.get_running_loop().create_task(reloading.on_signal(), name="reload")
            self._reloads.add(task)
            task.add_done_callback(self._reloads.discard)

    def _take(self) -> None:
        if self._ending.is_set():
            self.hurry.set()
        self._ending.set()


def _has_terminal() -> bool:
    """Whether this process was begun from a terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


class _JsonFormatter(logging.Formatter):
    """One object a line; a message that is JSON already is taken as it is."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        message = record.getMessage()
        if message.startswith("{"):
            fields.update(json.loads(message))
        else:
            fields["message"] = message
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def configure_logging(section: LogSection) -> None:
    """Send Slalom's log to stderr as configured; stdout stays for results."""
    handler = logging.StreamHandler(sys.stderr)
    if section.format == "json":
        handler.setFormatter(_JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("slalom")
    logger.handlers[:] = [handler]
    logger.setLevel(section.level.upper())
    logger.propagate = False
