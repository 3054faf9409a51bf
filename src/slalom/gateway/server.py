"""Listening: uvicorn, run inside somebody else's event loop, with a graceful end.

Owns the socket, uvicorn's settings and the two steps of an end: stop taking work, then finish
and close. Signals are the assembly's. Refuses to listen off loopback without keys.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Generator
from typing import Protocol

import uvicorn

from slalom.errors import ConfigError
from slalom.gateway.auth import check_exposure
from slalom.gateway.params import GatewayParams
from slalom.gateway.protocol import BoundedConfig, BoundedProtocol
from slalom.gateway.replies import Receive, Scope, Send

_BACKLOG = 2048
#: Its news of starting and stopping are the assembly's to tell; its warnings are not.
_UVICORN_LOG = logging.getLogger("uvicorn.error")


class _Server(uvicorn.Server):
    """uvicorn without signals, that says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to the assembly."""
        yield


class HttpApp(Protocol):
    """What can be served: a gateway, or what stands in front of one."""

    @property
    def params(self) -> GatewayParams:
        """The bounds of its connections."""
        ...

    def start_draining(self) -> None:
        """Take nothing new from now on."""
        ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        ...


class GatewayServer:
    """An HTTP server for one gateway.

    Args:
        gateway: The ASGI application.
        host: Address to listen on.
        port: TCP port; 0 takes a free one.
        insecure: Listen off loopback without keys.

    Raises:
        ConfigError: The address is open to others and nothing protects it.
    """

    def __init__(
        self, gateway: HttpApp, *, host: str = "127.0.0.1", port: int = 0, insecure: bool = False
    ) -> None:
        check_exposure(host, has_keys=bool(gateway.params.keys), insecure=insecure)
        self._gateway = gateway
        self._host = host
        self._port = port
        config = BoundedConfig(
            gateway,
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            timeout_keep_alive=max(1, round(gateway.params.keep_alive_s)),
        )
        config.params = gateway.params
        _UVICORN_LOG.setLevel(logging.WARNING)
        self._config = config
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<GatewayServer {self.url}>"

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    async def start(self) -> None:
        """Listen; returns when connections are taken.

        Raises:
            ConfigError: The address cannot be used, e.g. because the port is taken.
        """
        listener = _bind(self._host, self._port)
        self._port = listener.getsockname()[1]
        self._server = _Server(self._config)
        self._task = asyncio.create_task(self._server.serve([listener]), name="gateway server")
        await self._server.listening.wait()

    async def stop(self, grace_s: float) -> None:
        """Take nothing new, let what is under way finish for `grace_s`, close. Idempotent."""
        self._gateway.start_draining()
        server, task = self._server, self._task
        if server is None or task is None:
            return
        self._config.timeout_graceful_shutdown = max(1, round(grace_s))
        server.should_exit = True
        await task
        self._task = None


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """The event loop to serve with: uvloop where there is one, else asyncio's."""
    try:
        import uvloop  # noqa: PLC0415 - not installed on every platform
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, number)
    except OSError as problem:
        raise ConfigError(f"cannot listen on {host!r}: {problem.strerror or problem}") from problem
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as problem:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {problem.strerror or problem}; stop what listens "
            "there, or choose another port (--port, 0 takes a free one)"
        ) from problem
    listener.setblocking(False)  # noqa: FBT003 - the standard library's signature
    return listener
