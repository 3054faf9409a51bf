"""What the engines of one device do to each other: they take turns, as processes on a GPU do.

Owns who is busy on each device that is shared, and how much slower that makes whom: with k busy
engines each gets every k-th slice of time. Called by `world` whenever an engine's jobs change.
"""

from collections.abc import Collection, Sequence

from slalom.twin.processes import Process


class Sharing:
    """Turns on shared devices.

    Args:
        devices: Those whose engines share their compute.
    """

    def __init__(self, devices: Collection[str]) -> None:
        self._busy: dict[str, dict[tuple[str, int], Process]] = {name: {} for name in devices}

    def __repr__(self) -> str:
        return f"Sharing(devices={len(self._busy)})"

    def turns(self, process: Process) -> int:
        """How many engines take turns with this one, itself included."""
        return max(len(self._busy.get(process.device, ())), 1)

    def changed(self, process: Process, now_ns: int) -> Sequence[Process]:
        """An engine's jobs may have changed; those whose pace changes with that.

        Args:
            process: The engine's.
            now_ns: Now.
        """
        busy = self._busy.get(process.device)
        name = (process.replica_id, process.epoch)
        if busy is None or (name in busy) == (is_busy := len(process.engine) > 0):
            return ()
        if is_busy:
            busy[name] = process
        else:
            del busy[name]
        for one in busy.values():
            one.engine.slow_down(one.slowness * len(busy), now_ns)
        return tuple(busy.values())
