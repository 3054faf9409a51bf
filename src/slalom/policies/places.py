"""Places and draws: what the simpler planners share while they make a plan.

Owns the count of free places as a plan hands them out, and numbers that look random and are the
same on every machine. Knows no policy. Called by the planners of this room.
"""

from slalom.core.planning import PlanView

_MASK = (1 << 64) - 1


class Places:
    """Free places of a model's ready replicas, handed out one by one.

    Args:
        model: The model that is planned for.
        window: Attempts that a replica may run at a time; 0 for as many as it has places.
    """

    __slots__ = ("_free", "_is_open", "_running", "left")

    def __init__(self, model: PlanView, window: int = 0) -> None:
        self._free: dict[str, int] = {}
        self._running: dict[str, int] = {}
        for replica in model.ready():
            running, free = len(replica.active()), replica.free_places
            if window:
                free = min(free, window - running)
            self._free[replica.id] = max(free, 0)
            self._running[replica.id] = running
        #: Whether the routing policy may as well choose: there is a choice, and no window of ours.
        self._is_open = not window and len(self._free) > 1
        #: Starts that the replicas and the device's window still allow.
        self.left = max(min(sum(self._free.values()), model.room), 0)

    def __repr__(self) -> str:
        return f"Places(left={self.left}, {self._free})"

    def emptiest(self) -> str:
        """The replica with most free places; of several the first by name."""
        return max(self._free, key=self._free.__getitem__)

    def running(self, replica_id: str) -> int:
        """Attempts on a replica, those counted that this plan starts."""
        return self._running[replica_id]

    def take(self) -> str:
        """Hand out a place on the emptiest replica; only while any are left."""
        replica_id = self.emptiest()
        self._free[replica_id] -= 1
        self._running[replica_id] += 1
        self.left -= 1
        return replica_id

    def take_any(self) -> str:
        """The same for whoever minds no replica: empty where routing chooses."""
        replica_id = self.take()
        return "" if self._is_open else replica_id


def draw(seed: int, number: int, bound: int) -> int:
    """The draw of that number, an integer in [0, bound): splitmix64 of seed and number."""
    mixed = (seed * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return (mixed ^ (mixed >> 31)) % bound
