"""A Ray cluster of several nodes on this machine, in a process of its own.

Owns the start of the raylets. Run with the interpreter that has Ray; prints one JSON line with the
address and the raylets' process ids, and ends the cluster when its standard input closes.
"""

import json
import os
import select
import sys

_OBJECT_STORE_BYTES = 80_000_000
_REAP_EVERY_S = 0.1


def main() -> None:
    """Start, tell, wait, end."""
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - slow, and prints

    nodes = json.loads(sys.argv[1])
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
    while not select.select([sys.stdin], [], [], _REAP_EVERY_S)[0]:
        # A raylet that was killed must not stay as a zombie: Ray's workers would take it for alive
        # and live on without it, which they do nowhere else.
        for processes in (node.all_processes for node in added):
            for one in (found for kind in processes.values() for found in kind):
                one.process.poll()
    cluster.shutdown()


if __name__ == "__main__":
    main()
