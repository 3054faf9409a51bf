"""Hosts of engines as actors of Ray: placed by its resources, found again by their names.

Owns the actor around an `EngineHost`, what Ray is asked for on its behalf (resources, placement
groups), and the search for those that an earlier core left behind. Called by `ray_core`.
"""

import asyncio
import contextlib
import importlib
import logging
import os
import secrets
from typing import Any

from slalom.core.events import FailureKind
from slalom.engines.memory_use import MemoryUse
from slalom.errors import EngineError
from slalom.fleet.engine_facts import EngineFacts, EngineOrder, Launched
from slalom.fleet.engine_host import EngineHost, Place
from slalom.fleet.hosted_engine import FoundEngines, HostedEngine, HostLine, HostLostError, end_host
from slalom.fleet.ray_client import ENGINE_HEAD, ActorGoneError, ask, here, ray_module

_log = logging.getLogger(__name__)

#: Longest wait until Ray has placed a host and its process runs, s.
_PLACE_S = 60.0
#: Longest wait for what a host that was left behind tells of itself, s.
_FACTS_S = 5.0
#: How often it is looked whether an engine still works for the last core, and how many times.
_LOOK_EVERY_S = 0.1
_LOOKS = 20
#: Calls that one host answers at a time: a launch or the wait for its end, and what is asked.
_CALLS = 8


def engine_name(model: str) -> str:
    """A new name for a host of a model's engine."""
    return f"{ENGINE_HEAD}{model}:{secrets.token_hex(6)}"


class EngineActor:
    """The actor: an `EngineHost` on whatever node Ray has chosen.

    Args:
        order: What to run.
    """

    def __init__(self, order: EngineOrder) -> None:
        where = here()
        place = Place(where.host, where.node, where.gpu)
        self._host = EngineHost(order, place, on_lapse=lambda: os._exit(0))

    def launch(self) -> Launched:
        """As `EngineHost`."""
        return self._host.launch()

    def progress(self) -> float:
        """As `EngineHost`."""
        return self._host.progress()

    def facts(self) -> EngineFacts | None:
        """As `EngineHost`."""
        return self._host.facts()

    def memory_bytes(self) -> int:
        """As `EngineHost`."""
        return self._host.memory_bytes()

    def memory_use(self) -> MemoryUse | None:
        """As `EngineHost`."""
        return self._host.memory_use()

    def note_asleep(self, asleep: bool) -> None:  # noqa: FBT001 - a call over the wire
        """As `EngineHost`."""
        self._host.note_asleep(asleep=asleep)

    def wait_closed(self, most_s: float) -> str | None:
        """As `EngineHost`."""
        return self._host.wait_closed(most_s)

    def stop(self, grace_s: float) -> None:
        """As `EngineHost`."""
        self._host.stop(grace_s)


class RayHost:
    """A `HostLine` to an actor.

    Args:
        name: The actor's.
        handle: Ray's.
    """

    def __init__(self, name: str, handle: Any) -> None:
        self.name = name
        self._handle = handle

    def __repr__(self) -> str:
        return f"<RayHost {self.name}>"

    async def _ask(self, method: str, *args: object) -> Any:
        try:
            return await ask(self._handle, method, *args)
        except ActorGoneError as problem:
            raise HostLostError(f"{self.name}: {problem}") from None

    async def launch(self) -> Launched:
        """As `EngineHost`."""
        launched: Launched = await self._ask("launch")
        return launched

    async def progress(self) -> float:
        """As `EngineHost`."""
        return float(await self._ask("progress"))

    async def facts(self) -> EngineFacts | None:
        """As `EngineHost`."""
        facts: EngineFacts | None = await self._ask("facts")
        return facts

    async def memory_bytes(self) -> int:
        """As `EngineHost`."""
        return int(await self._ask("memory_bytes"))

    async def memory_use(self) -> MemoryUse | None:
        """As `EngineHost`."""
        use: MemoryUse | None = await self._ask("memory_use")
        return use

    async def note_asleep(self, *, asleep: bool) -> None:
        """As `EngineHost`."""
        await self._ask("note_asleep", asleep)

    async def wait_closed(self, most_s: float) -> str | None:
        """As `EngineHost`."""
        said: str | None = await self._ask("wait_closed", most_s)
        return said

    async def stop(self, grace_s: float) -> None:
        """As `EngineHost`."""
        await self._ask("stop", grace_s)

    async def end(self) -> None:
        """Kill the actor and give its placement group back."""
        await asyncio.to_thread(_end, self.name, self._handle)


def _end(name: str, handle: Any) -> None:
    ray = ray_module()
    util = importlib.import_module("ray.util")
    # Whatever it is that cannot be ended: it ends by its lease.
    with contextlib.suppress(Exception):
        ray.kill(handle, no_restart=True)
    with contextlib.suppress(Exception):
        util.remove_placement_group(util.get_placement_group(name))


class RayHosts:
    """`Hosts` on a cluster.

    Args:
        namespace: Of the fleet.
    """

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def __repr__(self) -> str:
        return f"<RayHosts {self._namespace}>"

    async def start(self, order: EngineOrder) -> RayHost:
        """Have Ray place an actor; returns when it runs.

        Raises:
            EngineError: No node has what it needs, or its process did not start.
        """
        made: RayHost | None = None
        try:
            async with asyncio.timeout(_PLACE_S):
                handle = await asyncio.to_thread(_create, order, self._namespace)
                made = RayHost(order.name, handle)
                await made.progress()
        except TimeoutError:
            if made is not None:
                await made.end()
            raise EngineError(
                f"{order.model.id}: Ray found no place for an engine within {_PLACE_S:g} s; it "
                f"needs {_wanted(order)} on one node: see 'ray status' and the model's ray options",
                code=FailureKind.START_FAILED,
            ) from None
        except HostLostError as problem:
            raise EngineError(str(problem), code=FailureKind.START_FAILED) from None
        except BaseException:
            if made is not None:
                await asyncio.shield(asyncio.ensure_future(made.end()))
            raise
        return made

    async def found(self) -> FoundEngines:
        """The engines that run, each looked at; those that are no good are ended."""
        names = await asyncio.to_thread(_names, self._namespace)
        looked = await asyncio.gather(*(self._look(name) for name in names))
        return FoundEngines([one for one in looked if one is not None])

    async def _look(self, name: str) -> tuple[HostLine, EngineFacts] | None:
        ray = ray_module()
        try:
            handle = await asyncio.to_thread(ray.get_actor, name, self._namespace)
        except ValueError:
            return None
        host = RayHost(name, handle)
        try:
            async with asyncio.timeout(_FACTS_S):
                facts = await host.facts()
                well = facts is not None and not facts.asleep
                if facts is not None and well and await _comes_to_rest(host, facts):
                    return host, facts
        except (EngineError, TimeoutError) as problem:
            _log.info("%s is no use any more: %s", name, problem)
        await end_host(host, 0.0)
        return None


async def _comes_to_rest(host: HostLine, facts: EngineFacts) -> bool:
    """Whether it is well; what it did for the last core is over then, or is waited for in vain."""
    engine = HostedEngine(host, facts)
    if not await engine.health():
        return False
    for _ in range(_LOOKS):
        gauges = await engine.metrics()
        if gauges is None or not gauges.running:
            break
        await asyncio.sleep(_LOOK_EVERY_S)
    return True


def _create(order: EngineOrder, namespace: str) -> Any:
    ray = ray_module()
    asked = order.model.ray
    options: dict[str, Any] = {
        "name": order.name,
        "namespace": namespace,
        "lifetime": "detached",
        "max_restarts": 0,
        "max_concurrency": _CALLS,
        "num_cpus": asked.cpus,
        "num_gpus": asked.gpus,
        "resources": {**asked.resources, **order.device.ray_resources},
    }
    if asked.gpus > 1 or asked.nodes > 1:
        options["scheduling_strategy"] = _in_group(order)
    return ray.remote(EngineActor).options(**options).remote(order)


def _in_group(order: EngineOrder) -> Any:
    """A placement group that holds all of a replica, its host in the first bundle."""
    util = importlib.import_module("ray.util")
    strategies = importlib.import_module("ray.util.scheduling_strategies")
    nodes = order.model.ray.nodes
    group = util.placement_group(
        [_wanted(order) for _ in range(nodes)],
        strategy="STRICT_PACK" if nodes == 1 else "STRICT_SPREAD",
        name=order.name,
        lifetime="detached",
    )
    return strategies.PlacementGroupSchedulingStrategy(
        placement_group=group,
        placement_group_bundle_index=0,
        placement_group_capture_child_tasks=True,
    )


def _wanted(order: EngineOrder) -> dict[str, float]:
    """What one node must have for it, in Ray's words."""
    asked = order.model.ray
    amounts = {"CPU": asked.cpus, "GPU": asked.gpus}
    amounts |= {**asked.resources, **order.device.ray_resources}
    return {name: amount for name, amount in amounts.items() if amount > 0}


def _names(namespace: str) -> list[str]:
    util = importlib.import_module("ray.util")
    listed = util.list_named_actors(all_namespaces=True)
    found = [one["name"] for one in listed if one["namespace"] == namespace]
    return sorted(name for name in found if name.startswith(ENGINE_HEAD))
