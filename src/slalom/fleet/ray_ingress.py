"""An ingress as an actor of Ray.

Owns the actor, its port, and how it finds the core: by the name of the core's actor. Called by
`serving`.
"""

import asyncio
import os
from dataclasses import dataclass, field
from typing import Any

from slalom.assembly.serving import configure_logging
from slalom.config.schema import Config
from slalom.errors import ConfigError, SlalomError
from slalom.fleet.core_line import CoreAddress, CoreLine, LineParams
from slalom.fleet.fleet_config import ingress_params
from slalom.fleet.ingress import Ingress, IngressParams
from slalom.fleet.loop_thread import LoopThread
from slalom.fleet.passing_on import PassedOn
from slalom.fleet.ray_client import CORE, GcsKept, ask, here, leave_if_restarted, ray_module
from slalom.fleet.ray_core import CoreFacts
from slalom.gateway.server import GatewayServer, loop_factory

#: Longest wait for the core to say where it is, s.
_FACTS_S = 2.0


@dataclass(frozen=True, slots=True)
class IngressOrder:
    """What an ingress is told."""

    name: str
    #: As the core is told of it.
    config: Config
    secret: str = field(repr=False)
    #: Of the fleet.
    namespace: str


@dataclass(frozen=True, slots=True)
class IngressFacts:
    """An ingress, as others may know it."""

    name: str
    url: str
    pid: int
    node: str
    #: Why it could not start; empty if it did.
    problem: str = ""


class IngressActor:
    """The actor.

    Args:
        order: What it is told.
    """

    def __init__(self, order: IngressOrder) -> None:
        configure_logging(order.config.log)
        self._order = order
        self._where = here()
        self._core: Any = None
        self._ingress: Ingress | None = None
        self._problem = ""
        self._thread = LoopThread(order.name, loop_factory())
        self._server: GatewayServer | None = None
        try:
            self._server = self._thread.call(self._start())
        except SlalomError as problem:
            leave_if_restarted(problem)
            self._problem = str(problem)

    async def _start(self) -> GatewayServer:
        order = self._order
        config, section = order.config, order.config.ray
        gateway = ingress_params(config)
        line = CoreLine(
            self._locate,
            LineParams(connections_max=gateway.inflight_max + 16),
            ping_headers=PassedOn(0, "ping").headers(order.secret),
        )
        params = IngressParams(order.secret, section.hold_seconds, section.hold_requests)
        ingress = self._ingress = Ingress(line, gateway, params)
        self._line = asyncio.ensure_future(line.run())
        # Off loopback the keys were checked when the fleet was started.
        kept = GcsKept(order.namespace)
        ports = [*self._last_port(kept), *_ports(config)]
        for port in ports:
            server = GatewayServer(ingress, host=config.server.host, port=port, insecure=True)
            try:
                await server.start()
            except ConfigError:
                if port == ports[-1]:
                    raise
                continue
            await asyncio.to_thread(kept.put, self._port_name(), b"%d" % server.port)
            return server
        raise AssertionError  # there is at least one port

    def _last_port(self, kept: GcsKept) -> list[int]:
        """The one it had before it died: its clients know no other."""
        if not ray_module().get_runtime_context().was_current_actor_reconstructed:
            return []
        port = kept.get(self._port_name()) or b""
        return [int(port)] if port.isdigit() else []

    def _port_name(self) -> str:
        return f"port of {self._order.name}"

    async def _locate(self) -> CoreAddress | None:
        if self._core is None:
            namespace = self._order.namespace
            self._core = await asyncio.to_thread(ray_module().get_actor, CORE, namespace)
        try:
            facts: CoreFacts = await ask(self._core, "facts", timeout_s=_FACTS_S)
        except BaseException:
            self._core = None
            raise
        return None if facts.problem else CoreAddress(facts.host, facts.port, facts.life, facts.pid)

    def facts(self) -> IngressFacts:
        """Who and where it is."""
        host, server = self._order.config.server.host, self._server
        url = ""
        if server is not None:
            shown = self._where.host if host in {"0.0.0.0", "::"} else host  # noqa: S104
            shown = f"[{shown}]" if ":" in shown else shown
            url = f"http://{shown}:{server.port}"
        return IngressFacts(self._order.name, url, os.getpid(), self._where.node, self._problem)

    def start_draining(self) -> None:
        """Take nothing new."""
        if self._ingress is not None:
            self._ingress.start_draining()

    def stop(self, grace_s: float) -> None:
        """Let the last answers leave, and close."""
        if self._server is not None:
            self._thread.call(self._server.stop(grace_s), grace_s + 5.0)


def _ports(config: Config) -> list[int]:
    """On a machine with several nodes of a cluster only one ingress gets the first of them."""
    port = config.server.port
    if port == 0:
        return [0]
    return [at for at in range(port, port + config.ray.ingress_replicas) if at <= 65_535]
