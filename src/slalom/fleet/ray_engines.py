"""Hosts of engines as actors of Ray: placed by its resources, found again by their names.

Owns the actor around an `EngineHost`, what Ray is asked for on its behalf, and the search for those
that an earlier core left behind. Called by `ray_core`, and by `serving` for the end of a fleet.
"""

import asyncio
import contextlib
import importlib
import logging
import os
import secrets
import threading
from typing import Any

from slalom.core.events import FailureKind
from slalom.engines.memory_use import MemoryUse
from slalom.errors import EngineError
from slalom.fleet import ray_groups
from slalom.fleet.engine_facts import EngineFacts, EngineOrder, Launched
from slalom.fleet.engine_host import EngineHost, Place
from slalom.fleet.hosted_engine import FoundEngines, HostedEngine, HostLine, HostLostError, end_host
from slalom.fleet.ray_client import ENGINE_HEAD, ActorGoneError, ask, here, ray_module

_log = logging.getLogger(__name__)

#: Longest wait for what a host that was left behind tells of itself, s.
_FACTS_S = 5.0
#: How often it is looked whether an engine still works for the last core, and how many times.
_LOOK_EVERY_S = 0.1
_LOOKS = 20
#: Longest wait for a placement group's end before the process that was in it ends, s.
_GIVE_BACK_S = 5.0
#: Calls that one host answers at a time: a launch or the wait for its end, and what is asked.
_CALLS = 8


def engine_name(model: str) -> str:
    """A new name for a host of a model's engine."""
    return f"{ENGINE_HEAD}{model}:{secrets.token_hex(6)}"


class EngineActor:
    """The actor: an `EngineHost` on whatever node Ray has chosen.

    Args:
        order: What to run.
        namespace: Of the fleet.
    """

    def __init__(self, order: EngineOrder, namespace: str) -> None:
        where = here()
        place = Place(where.host, where.node, where.gpus)
        self._order = order
        self._namespace = namespace
        self._host = EngineHost(order, place, on_lapse=self._leave)

    def _leave(self) -> None:
        """End, and leave nothing behind."""
        if ray_groups.is_needed(self._order.model.ray):
            give_back = threading.Thread(
                target=ray_groups.remove, args=(self._namespace, self._order.name), daemon=True
            )
            give_back.start()
            give_back.join(_GIVE_BACK_S)
        os._exit(0)

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
        namespace: Of the fleet.
    """

    def __init__(self, name: str, handle: Any, namespace: str) -> None:
        self.name = name
        self._handle = handle
        self._namespace = namespace

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
        await asyncio.to_thread(_end, self.name, self._handle, self._namespace)


def _end(name: str, handle: Any, namespace: str) -> None:
    # Whatever it is that cannot be ended: it ends by its lease.
    with contextlib.suppress(Exception):
        ray_module().kill(handle, no_restart=True)
    ray_groups.remove(namespace, name)


def end_left(namespace: str) -> int:
    """End the engines of a fleet that has no core any more, at once; how many there were."""
    names = _names(namespace)
    for name in names:
        with contextlib.suppress(ValueError):  # it has just ended
            _end(name, ray_module().get_actor(name, namespace), namespace)
    ray_groups.remove_left(namespace)
    return len(names)


class RayHosts:
    """`Hosts` on a cluster.

    Args:
        namespace: Of the fleet.
        place_s: Longest wait until Ray has placed a host and its process runs, s.
    """

    def __init__(self, namespace: str, place_s: float) -> None:
        self._namespace = namespace
        self._place_s = place_s
        self._undoing: set[asyncio.Future[None]] = set()

    def __repr__(self) -> str:
        return f"<RayHosts {self._namespace}>"

    async def start(self, order: EngineOrder) -> RayHost:
        """Have Ray place an actor; returns when it runs.

        Raises:
            EngineError: No node has what it needs, or its process did not start.
        """
        creating = asyncio.ensure_future(asyncio.to_thread(_create, order, self._namespace))
        try:
            async with asyncio.timeout(self._place_s):
                host = RayHost(order.name, await asyncio.shield(creating), self._namespace)
                await host.progress()
        except TimeoutError:
            await self._undo(creating, order)
            room = await asyncio.to_thread(_why_none, order)
            raise EngineError(
                f"{order.model.id}: Ray found no place for an engine within {self._place_s:g} s "
                f"(ray.place_seconds): it needs {_words(order)}, and {room}",
                code=FailureKind.START_FAILED,
            ) from None
        except HostLostError as problem:
            await self._undo(creating, order)
            raise EngineError(str(problem), code=FailureKind.START_FAILED) from None
        except BaseException:
            await self._undo(creating, order)
            raise
        return host

    async def _undo(self, creating: "asyncio.Future[Any]", order: EngineOrder) -> None:
        """End what was begun, also what comes of a call that still waits for Ray's head."""

        async def undo() -> None:
            with contextlib.suppress(Exception):
                await RayHost(order.name, await creating, self._namespace).end()

        undoing = asyncio.ensure_future(undo())
        self._undoing.add(undoing)
        undoing.add_done_callback(self._undoing.discard)
        if creating.done():
            await asyncio.shield(undoing)

    async def found(self) -> FoundEngines:
        """The engines that run, each looked at; those that are no good are ended."""
        names = await asyncio.to_thread(_names, self._namespace)
        looked = await asyncio.gather(*(self._look(name) for name in names))
        found = [one for one in looked if one is not None]
        kept = {host.name for host, _ in found}
        if left := await asyncio.to_thread(ray_groups.remove_left, self._namespace, kept):
            _log.info("removed %d placement groups of engines that are gone", left)
        return FoundEngines(found)

    async def _look(self, name: str) -> tuple[HostLine, EngineFacts] | None:
        ray = ray_module()
        try:
            handle = await asyncio.to_thread(ray.get_actor, name, self._namespace)
        except ValueError:
            return None
        host = RayHost(name, handle, self._namespace)
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
    if not ray_groups.is_needed(asked):
        return ray.remote(EngineActor).options(**options).remote(order, namespace)
    try:
        options["scheduling_strategy"] = ray_groups.made(
            namespace, order.name, _wanted(order), asked.nodes
        )
        return ray.remote(EngineActor).options(**options).remote(order, namespace)
    except BaseException:
        ray_groups.remove(namespace, order.name)
        raise


def _wanted(order: EngineOrder) -> dict[str, float]:
    """What one node must have for it, in Ray's words."""
    asked = order.model.ray
    amounts = {"CPU": asked.cpus, "GPU": asked.gpus}
    amounts |= {**asked.resources, **order.device.ray_resources}
    return {name: amount for name, amount in amounts.items() if amount > 0}


def _words(order: EngineOrder) -> str:
    """What it needs, for people."""
    amounts = ", ".join(f"{amount:g} {name}" for name, amount in _wanted(order).items())
    nodes = order.model.ray.nodes
    where = "one node" if nodes == 1 else f"each of {nodes} nodes"
    return f"{amounts or 'a place'} on {where}"


def _why_none(order: EngineOrder) -> str:
    """Why there is no place: nodes are too small, or in use."""
    wanted, nodes = _wanted(order), order.model.ray.nodes
    try:
        living = [one["Resources"] for one in ray_module().nodes() if one["Alive"]]
    except Exception as problem:  # noqa: BLE001 - the head is away, which is reason enough
        return f"the cluster's nodes cannot be listed ({type(problem).__name__})"
    fit = sum(all(has.get(name, 0) >= most for name, most in wanted.items()) for has in living)
    if fit < nodes:
        have = f"only {fit} of its {len(living)} nodes have that" if fit else "no node has that"
        return f"{have}: change the model's ray options, or add nodes"
    return "what there is of that is in use: see 'ray status'"


def _names(namespace: str) -> list[str]:
    util = importlib.import_module("ray.util")
    listed = util.list_named_actors(all_namespaces=True)
    found = [one["name"] for one in listed if one["namespace"] == namespace]
    return sorted(name for name in found if name.startswith(ENGINE_HEAD))
