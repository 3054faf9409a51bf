"""Runs a server on a Ray cluster from its configuration to its exit code.

Owns the order of start and end of its parts, and the signals: the first drains, a second ends at
once. Called by `slalom serve --on ray` and by benchmarks.
"""

import asyncio
import importlib
import os
import secrets
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from slalom.config.schema import Config
from slalom.errors import ConfigError
from slalom.fleet.fleet_config import environment_for, for_fleet
from slalom.fleet.ray_client import (
    CORE,
    ActorGoneError,
    FleetError,
    GcsKept,
    ask,
    connect,
    ingress_name,
    ray_module,
)
from slalom.fleet.ray_core import CoreActor, CoreActorOrder, CoreFacts
from slalom.fleet.ray_engines import end_left
from slalom.fleet.ray_ingress import IngressActor, IngressFacts, IngressOrder

#: Longest wait for the core and for an ingress to start, s.
_START_S = 120.0
#: Calls that an actor answers at a time.
_CALLS = 16
#: Time beyond the drain for the parts to end, s.
_BEYOND_S = 40.0
#: Time for the last answers to leave, s.
_AFTER_DRAIN_S = 5.0


@dataclass(frozen=True, slots=True)
class FleetFacts:
    """A running fleet."""

    core: CoreFacts
    ingresses: tuple[IngressFacts, ...]

    @property
    def url(self) -> str:
        """Of its first ingress."""
        return self.ingresses[0].url


#: Told once it takes clients.
OnReady = Callable[[FleetFacts, Config], None]


def serve_on_ray(config: Config, *, on_ready: OnReady | None = None) -> int:
    """Serve until a signal comes; blocks.

    Args:
        config: The configuration.
        on_ready: Called when connections are taken.

    Returns:
        The exit code: 0 if everything that was accepted was finished, else 1.

    Raises:
        SlalomError: It cannot start; nothing is left running.
    """
    if config.ray.detach:
        _check_outlives(config, "leave a server on it (--detach)")
    ray = connect(config.ray.address, config.ray.name)
    try:
        return asyncio.run(_run(Fleet(config, ray), on_ready))
    finally:
        ray.shutdown()


def stop_fleet(config: Config) -> int:
    """Drain and end a fleet that was left running.

    Returns:
        The exit code: 0 if everything that was accepted was finished, else 1.

    Raises:
        ConfigError: No server can have been left on such a cluster.
        FleetError: There is none.
    """
    _check_outlives(config, "stop a server that runs on it (--stop)")
    ray = connect(config.ray.address, config.ray.name)
    try:
        return 1 if asyncio.run(Fleet.running(config, ray).end(hurry=False)) else 0
    finally:
        ray.shutdown()


def _check_outlives(config: Config, what: str) -> None:
    """Whether the cluster is there before and after this command."""
    if config.ray.address == "local":
        raise ConfigError(
            f"to {what}, name a cluster that is not this command's own: --address HOST:PORT or "
            "auto, not local"
        )


async def _run(fleet: "Fleet", on_ready: OnReady | None) -> int:
    ending, hurry = asyncio.Event(), asyncio.Event()

    def take() -> None:
        (hurry if ending.is_set() else ending).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, take)
    starting = asyncio.ensure_future(fleet.start())
    asked = asyncio.ensure_future(ending.wait())
    await asyncio.wait((starting, asked), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        fleet.kill()
        return 1
    try:
        facts = starting.result()
    except BaseException:
        asked.cancel()
        fleet.kill()
        raise
    if on_ready is not None:
        on_ready(facts, fleet.config)
    if fleet.config.ray.detach:
        asked.cancel()
        return 0
    await asked
    draining = asyncio.ensure_future(fleet.end(hurry=False))
    hurried = asyncio.ensure_future(hurry.wait())
    await asyncio.wait((draining, hurried), return_when=asyncio.FIRST_COMPLETED)
    hurried.cancel()
    if draining.done():
        return 1 if draining.result() else 0
    draining.cancel()
    await fleet.end(hurry=True)
    return 1


class Fleet:
    """The actors of one fleet.

    Args:
        config: As loaded.
        ray: Ray, connected.
    """

    def __init__(self, config: Config, ray: Any) -> None:
        self.config = config
        self._ray = ray
        self._core: Any = None
        self._ingresses: list[Any] = []

    def __repr__(self) -> str:
        return f"<Fleet {self.config.ray.name} ingresses={len(self._ingresses)}>"

    @classmethod
    def running(cls, config: Config, ray: Any) -> "Fleet":
        """One that runs already.

        Raises:
            FleetError: There is none of this name.
        """
        fleet = cls(config, ray)
        name = config.ray.name
        try:
            fleet._core = ray.get_actor(CORE, name)
        except ValueError:
            raise FleetError(
                f"no server named {name!r} runs on this cluster (ray.name); nothing was stopped"
            ) from None
        util = importlib.import_module("ray.util")
        for one in util.list_named_actors(all_namespaces=True):
            if one["namespace"] == name and one["name"].startswith(ingress_name(0)[:-1]):
                with suppress(ValueError):
                    fleet._ingresses.append(ray.get_actor(one["name"], name))
        return fleet

    async def start(self) -> FleetFacts:
        """Start core and ingresses.

        Raises:
            SlalomError: One of them cannot start, or a fleet of this name runs already.
        """
        self._refuse_second()
        memory = int(self._ray.cluster_resources().get("memory", 0))
        config = for_fleet(self.config, memory)
        secret = secrets.token_urlsafe(32)
        section = config.ray
        if section.detach or section.address != "local":
            kept = GcsKept(section.name)
            kept.forget("chains")  # of a fleet that has ended
        order = CoreActorOrder(config, secret, section.name, environment_for(config, os.environ))
        try:
            self._core = self._create(
                CoreActor, CORE, section.core_cpus, order, resources=section.core_resources
            )
        except ValueError:  # another command was quicker
            raise self._is_taken() from None
        core: CoreFacts = await self._facts(self._core, "core")
        for index in range(section.ingress_replicas):
            name = ingress_name(index)
            one = IngressOrder(name, config, secret, section.name)
            self._ingresses.append(
                self._create(
                    IngressActor,
                    name,
                    section.ingress_cpus,
                    one,
                    resources=section.ingress_resources,
                    scheduling_strategy="SPREAD",
                )
            )
        facts = await asyncio.gather(
            *(
                self._facts(actor, ingress_name(index))
                for index, actor in enumerate(self._ingresses)
            )
        )
        return FleetFacts(core, tuple(facts))

    def _refuse_second(self) -> None:
        name = self.config.ray.name
        try:
            self._ray.get_actor(CORE, name)
        except ValueError:
            return
        raise self._is_taken()

    def _is_taken(self) -> FleetError:
        return FleetError(
            f"a server named {self.config.ray.name!r} runs on this cluster already: stop it "
            "(slalom serve --on ray --stop), or give this one another name (ray.name)"
        )

    def _create(self, kind: type, name: str, cpus: float, order: object, **more: object) -> Any:
        lifetime = {"lifetime": "detached"} if self.config.ray.detach else {}
        return (
            self._ray.remote(kind)
            .options(
                name=name,
                namespace=self.config.ray.name,
                num_cpus=cpus,
                max_restarts=-1,
                max_concurrency=_CALLS,
                **lifetime,
                **more,
            )
            .remote(order)
        )

    async def _facts(self, actor: Any, name: str) -> Any:
        try:
            facts = await ask(actor, "facts", timeout_s=_START_S)
        except TimeoutError:
            raise FleetError(
                f"Ray did not start the {name} within {_START_S:g} s: see 'ray status' for free "
                "resources (ray.core_cpus, ray.core_resources, ray.ingress_cpus)"
            ) from None
        if facts.problem:
            raise FleetError(f"the {name} cannot start: {facts.problem}")
        return facts

    async def end(self, *, hurry: bool) -> int:
        """Drain unless there is a hurry, then end every actor; how many did not finish."""
        unfinished = 0
        if hurry:
            await self._quietly(self._core, "close")
        else:
            await asyncio.gather(*(self._quietly(one, "start_draining") for one in self._ingresses))
            told = await self._quietly(self._core, "drain")
            unfinished = 1 if told is None else int(told)  # a core that was lost has lost its own
            stops = (self._quietly(one, "stop", _AFTER_DRAIN_S) for one in self._ingresses)
            await asyncio.gather(*stops)
        self.kill()
        return unfinished

    async def _quietly(self, actor: Any, method: str, *args: object) -> Any:
        """A call that may fail: what cannot be told is killed afterwards."""
        most_s = self.config.server.drain_seconds + _BEYOND_S
        try:
            return await ask(actor, method, *args, timeout_s=most_s)
        except (ActorGoneError, TimeoutError) as problem:
            sys.stderr.write(f"{method}: {type(problem).__name__}\n")
            return None

    def kill(self) -> None:
        """End the actors at once, and what engines the core has not ended."""
        if self._core is None:
            return  # another's, or none
        for actor in (*self._ingresses, self._core):
            with suppress(Exception):
                ray_module().kill(actor, no_restart=True)
        with suppress(Exception):  # whatever cannot be reached ends by its lease
            end_left(self.config.ray.name)
