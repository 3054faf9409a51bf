"""A Ray cluster of several nodes on this machine, in a process of its own.

Owns the start of the raylets. Run with the interpreter that has Ray; prints one JSON line with the
address and the raylets' process ids, answers each line of its standard input with one of what is on
the cluster, and ends the cluster when that closes.
"""

import json
import os
import select
import sys
from typing import Any

_OBJECT_STORE_BYTES = 80_000_000
_REAP_EVERY_S = 0.1


def main() -> None:
    """Start, tell, wait, end."""
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - slow, and prints

    nodes = json.loads(sys.argv[1])
    if len(sys.argv) > 2:
        import ray  # noqa: PLC0415 - as above

        ray.__version__ = sys.argv[2]  # what the cluster says of itself
    common = {
        "object_store_memory": _OBJECT_STORE_BYTES,
        "include_dashboard": False,
        "_system_config": {"health_check_initial_delay_ms": 2000, "health_check_period_ms": 1000},
    }
    head, *others = nodes
    cluster = Cluster(initialize_head=True, head_node_args={**common, **head})
    del common["_system_config"]
    added = [cluster.head_node, *(cluster.add_node(**{**common, **one}) for one in others)]
    cluster.wait_for_nodes()
    raylets = [node.all_processes["raylet"][0].process.pid for node in added]
    told.write(json.dumps({"address": cluster.address, "raylets": raylets}) + "\n")
    told.flush()
    while not _ends(told, cluster.address):
        # A raylet that was killed must not stay as a zombie: Ray's workers would take it for alive
        # and live on without it, which they do nowhere else.
        for processes in (node.all_processes for node in added):
            for one in (found for kind in processes.values() for found in kind):
                one.process.poll()
    cluster.shutdown()


def _ends(told: Any, address: str) -> bool:
    """Wait a moment, and answer who asks; whether nobody will any more."""
    if not select.select([sys.stdin], [], [], _REAP_EVERY_S)[0]:
        return False
    if not sys.stdin.readline():
        return True
    told.write(json.dumps(_state(address)) + "\n")
    told.flush()
    return False


def _state(address: str) -> dict[str, Any]:
    """The placement groups that hold something, or will, and the actors that live."""
    import ray  # noqa: PLC0415 - as above
    from ray.util import list_named_actors, placement_group_table  # noqa: PLC0415

    if not ray.is_initialized():
        ray.init(address=address, namespace="tests", log_to_driver=False)
    groups = [
        {"name": one["name"], "state": one["state"], "bundles": list(one["bundles"].values())}
        for one in placement_group_table().values()
        if one["state"] != "REMOVED"
    ]
    return {"groups": groups, "actors": list_named_actors(all_namespaces=True)}


if __name__ == "__main__":
    main()
