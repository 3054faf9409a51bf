"""The core as an actor of Ray, which starts it anew elsewhere when it dies.

Owns the actor: its own loop on its own thread, its order, and its death when the scheduler fails,
since only a fresh life can go on. Called by `serving`, and by ingresses that look for it.
"""

import gc
import logging
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from slalom.assembly.launchers import capabilities_for, launcher_for
from slalom.assembly.parts import MakeLauncher
from slalom.assembly.serving import configure_logging
from slalom.config.engine_sections import ModelSection, RemoteEngine
from slalom.config.schema import Config
from slalom.config.sections import DeviceSection
from slalom.engines.protocol import Capabilities, Launcher
from slalom.errors import SlalomError
from slalom.fleet.core_server import CoreOrder, CoreServer
from slalom.fleet.engine_facts import EngineOrder
from slalom.fleet.hosted_engine import FoundEngines, HostedLauncher, Hosts
from slalom.fleet.loop_thread import LoopThread
from slalom.fleet.ray_client import GcsKept, here, leave_if_restarted
from slalom.fleet.ray_engines import RayHosts, engine_name
from slalom.gateway.server import loop_factory

_log = logging.getLogger(__name__)

#: Time for a drain beyond what the configuration allows, s.
_BEYOND_S = 30.0


@dataclass(frozen=True, slots=True)
class CoreActorOrder:
    """What the core's actor is told, in every life."""

    config: Config
    secret: str = field(repr=False)
    #: Of the fleet.
    namespace: str
    #: Variables that it needs and its node may not have.
    environment: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class CoreFacts:
    """A life of the core, as others may know it."""

    host: str
    port: int
    life: str
    pid: int
    node: str
    #: Engines taken over from the life before, and ended instead; how long the start took, s.
    taken_over: int = 0
    ended: int = 0
    start_s: float = 0.0
    #: Why it could not start; empty if it did.
    problem: str = ""


class CoreActor:
    """The actor.

    Args:
        order: What it is told.
    """

    def __init__(self, order: CoreActorOrder) -> None:
        began_s = time.monotonic()
        os.environ.update(order.environment)
        configure_logging(order.config.log)
        self._order = order
        self._where = here()
        self._life = secrets.token_hex(8)
        self._problem = ""
        self._server: CoreServer | None = None
        self._thread = LoopThread("core", loop_factory())
        try:
            self._server = self._thread.call(self._start())
        except SlalomError as problem:
            leave_if_restarted(problem)
            self._problem = str(problem)
        self._start_s = time.monotonic() - began_s
        gc.collect()
        gc.freeze()

    async def _start(self) -> CoreServer:
        order = self._order
        hosts = RayHosts(order.namespace, order.config.ray.place_seconds)
        found = await hosts.found()
        core = CoreOrder(order.config, order.secret, self._life, self._where.host)
        make = hosted(hosts, found, order.config.ray.engine_lease_seconds, self._where.host)
        server = CoreServer(core, make, found, GcsKept(order.namespace))
        await server.start()
        self._thread.start(self._die_if_failed(server))
        return server

    async def _die_if_failed(self, server: CoreServer) -> None:
        await server.failed()
        _log.critical("the scheduler failed (a bug); ending, so that a fresh life can serve")
        os._exit(1)

    def facts(self) -> CoreFacts:
        """Who and where it is."""
        server = self._server
        return CoreFacts(
            host=self._where.host,
            port=server.address.port if server is not None else 0,
            life=self._life,
            pid=os.getpid(),
            node=self._where.node,
            taken_over=server.taken_over if server is not None else 0,
            ended=server.ended if server is not None else 0,
            start_s=self._start_s,
            problem=self._problem,
        )

    def drain(self) -> int:
        """Finish what is here and end the engines; how many requests did not finish."""
        if self._server is None:
            return 0
        most_s = self._order.config.server.drain_seconds + _BEYOND_S
        unfinished = self._thread.call(self._server.drain(), most_s)
        self.close()
        return unfinished

    def close(self) -> None:
        """End every engine at once."""
        if self._server is not None:
            self._thread.call(self._server.close(), _BEYOND_S)


def hosted(
    hosts: Hosts, found: FoundEngines, lease_s: float, host: str = "127.0.0.1"
) -> MakeLauncher:
    """Launchers of engines that run under hosts.

    Args:
        hosts: Starts them.
        found: Engines that run already.
        lease_s: An engine of which nobody asked anything for so long ends by itself, s.
        host: Address of this machine; engines can do more where it is loopback.
    """

    def make(
        model: ModelSection, device: DeviceSection, tokens_max: int
    ) -> tuple[Launcher, Capabilities]:
        if isinstance(model.engine, RemoteEngine):  # nothing is started for it
            return launcher_for(model, tokens_max=tokens_max)
        capabilities = capabilities_for(model, tokens_max=tokens_max, gpu=device.gpu, host=host)
        found.wanted.add(EngineOrder(model, device, tokens_max, "", lease_s).fingerprint)

        def order(replica_id: str) -> EngineOrder:  # noqa: ARG001 - lives of replicas come and go
            return EngineOrder(model, device, tokens_max, engine_name(model.id), lease_s)

        return HostedLauncher(hosts, order, found), capabilities

    return make
