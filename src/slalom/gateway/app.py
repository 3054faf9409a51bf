"""The ASGI application: the inference routes go straight, the rest to Starlette.

Owns the choice of the route, the request id of cold answers, and the draining switch. No
middleware lies on the hot path. Built by the assembly, served by `server`.
"""

from collections.abc import Collection, Sequence

from prometheus_client.registry import Collector

from slalom.gateway import chain_routes
from slalom.gateway.cold_routes import ColdRoutes
from slalom.gateway.inference import Inference
from slalom.gateway.ledger_metrics import Ledgers
from slalom.gateway.params import GatewayParams
from slalom.gateway.protocols.frame import WireProtocol
from slalom.gateway.protocols.registry import Protocols
from slalom.gateway.records import Records
from slalom.gateway.replies import Message, Receive, Scope, Send
from slalom.gateway.request_head import read_head
from slalom.gateway.runtime_port import RuntimePort
from slalom.gateway.shared import Reloader, Shared


class Gateway:
    """The ASGI application.

    Args:
        runtime: Serves the requests; its `on_end` gets two observers.
        params: What the gateway is told.
        documents: Protocols that only have documents, besides those of the registry.

    Raises:
        ConfigError: The parameters contradict each other.
    """

    def __init__(
        self,
        runtime: RuntimePort,
        params: GatewayParams,
        documents: Sequence[WireProtocol] = (),
    ) -> None:
        self._protocols = protocols = Protocols(params)
        self._shared = Shared(runtime, params, protocols.headers)
        self._routes = protocols.routes
        self._inference = Inference(self._shared)
        self._documents = ColdRoutes(
            self._shared, (*protocols.all, chain_routes.protocol(), *documents)
        )
        self._cold = self._documents.starlette()

    def __repr__(self) -> str:
        return f"<Gateway inside={self.inflight} draining={self._shared.draining}>"

    @property
    def inflight(self) -> int:
        """Inference requests inside, waiting and running."""
        return len(self._shared.inside)

    @property
    def shared(self) -> Shared:
        """What its routes share; for what answers requests from inside this process."""
        return self._shared

    @property
    def params(self) -> GatewayParams:
        """What the gateway was told."""
        return self._shared.params

    @property
    def records(self) -> Records:
        """The last ended requests."""
        return self._shared.records

    def reload_by(self, reloader: Reloader) -> None:
        """Have `/admin/reload` read the configuration anew by this."""
        self._shared.reloader = reloader

    def judge(self, params: GatewayParams) -> None:
        """Whether these parameters could be gone by; nothing is changed.

        Raises:
            ConfigError: They contradict each other.
        """
        self._shared.judge(params)

    def reload(self, params: GatewayParams, renewed: Collection[str] = ()) -> None:
        """Go by other parameters from now on.

        Args:
            params: With the sizes and limits of connections as they were.
            renewed: Models with another engine.

        Raises:
            ConfigError: The parameters contradict each other; nothing is changed then.
        """
        self._shared.reload(params, renewed)
        for protocol in self._protocols.all:
            if protocol.reload is not None:
                protocol.reload(params)
        self._documents.describe()

    def show_ledgers(self, ledgers: Ledgers) -> None:
        """Show these readings in `/metrics` and `/admin/status`."""
        self._shared.ledgers = ledgers

    def show(self, collector: Collector) -> None:
        """Have `/metrics` read these at each scrape."""
        self._shared.telemetry.registry.register(collector)

    def start_draining(self) -> None:
        """Refuse new inference requests from now on; those inside go on."""
        self._shared.draining = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await _no_other_protocol(scope, receive, send)
            return
        route = self._routes.get(scope["path"])
        if route is not None:
            await self._inference(route, scope, receive, send)
            return
        head = read_head(scope["headers"], frozenset())
        request_id = (head.request_id or self._shared.new_id()).encode()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        await self._cold(scope, receive, send_with_id)


def app(runtime: RuntimePort, params: GatewayParams) -> Gateway:
    """The ASGI application in front of a runtime.

    Raises:
        ConfigError: The parameters contradict each other.
    """
    return Gateway(runtime, params)


async def _no_other_protocol(scope: Scope, receive: Receive, send: Send) -> None:
    """There is nothing to start or stop here, and no websocket route."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
        return
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            await send({"type": "lifespan.shutdown.complete"})
            return
