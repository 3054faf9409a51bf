"""Placement groups: what Ray keeps free for an engine that takes several GPUs or nodes.

Owns their names and their ends. A group outlives whoever made it and everything in it, and holds
what it was given for as long, so that each end of an engine must end its group. Called by
`ray_engines`; every call here may take a network's time.
"""

import contextlib
import importlib
import logging
from collections.abc import Collection, Mapping
from typing import Any

from slalom.config.ray_section import RayModelSection
from slalom.fleet.ray_client import ENGINE_HEAD

_log = logging.getLogger(__name__)
_GONE = "REMOVED"


def is_needed(asked: RayModelSection) -> bool:
    """Whether a replica is too large for what an actor alone may ask for."""
    return asked.gpus > 1 or asked.nodes > 1


def made(namespace: str, engine: str, bundle: Mapping[str, float], nodes: int) -> Any:
    """Ask for a group; gives the strategy that puts an actor and its children there.

    Args:
        namespace: Of the fleet.
        engine: Name of its host, which has the first bundle.
        bundle: What each node must have.
        nodes: How many.
    """
    util = importlib.import_module("ray.util")
    strategies = importlib.import_module("ray.util.scheduling_strategies")
    group = util.placement_group(
        [dict(bundle) for _ in range(nodes)],
        strategy="STRICT_PACK" if nodes == 1 else "STRICT_SPREAD",
        name=_name(namespace, engine),
        lifetime="detached",
    )
    return strategies.PlacementGroupSchedulingStrategy(
        placement_group=group,
        placement_group_bundle_index=0,
        placement_group_capture_child_tasks=True,
    )


def remove(namespace: str, engine: str) -> None:
    """Give back what an engine's group holds, if it has one; what runs there ends. Never raises."""
    util = importlib.import_module("ray.util")
    with contextlib.suppress(Exception):
        util.remove_placement_group(util.get_placement_group(_name(namespace, engine)))


def remove_left(namespace: str, kept: Collection[str] = ()) -> int:
    """Remove the groups of engines that are gone; how many. Never raises.

    Args:
        namespace: Of the fleet.
        kept: Names of engines that live.
    """
    util = importlib.import_module("ray.util")
    head = _name(namespace, ENGINE_HEAD)
    try:
        table = util.placement_group_table()
    except Exception as problem:  # noqa: BLE001 - a head that is away for a moment
        _log.warning("placement groups cannot be listed: %s", type(problem).__name__)
        return 0
    living = {_name(namespace, engine) for engine in kept}
    left = [
        str(one["name"])
        for one in table.values()
        if str(one["name"]).startswith(head) and one["name"] not in living and one["state"] != _GONE
    ]
    for name in left:
        remove(namespace, name.removeprefix(f"{namespace}/"))
    return len(left)


def _name(namespace: str, engine: str) -> str:
    """Groups are listed without their namespaces: hence the namespace in the name."""
    return f"{namespace}/{engine}"
