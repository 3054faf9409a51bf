"""What goes wrong in the twin's world, drawn by key so that every policy meets the same faults.

Owns the shares and the draws. Owns no consequence: `world` plays them out. Events of the gateway
(arrival, cancellation) and the timer are local and never lost; those of engines may be lost,
late or told twice.
"""

from dataclasses import dataclass
from enum import StrEnum

from slalom.core.events import FailureKind
from slalom.twin import noise
from slalom.units import MS, SECOND

_LOAD_FAILURES = (
    FailureKind.START_FAILED,
    FailureKind.OUT_OF_MEMORY,
    FailureKind.LOAD_TIMEOUT,
    FailureKind.MODEL_UNUSABLE,
)


class Strike(StrEnum):
    """What befalls an engine while it works on an attempt."""

    CRASH = "crash"
    #: It lives and holds its memory, but does nothing any more.
    HANG = "hang"
    #: It goes on at a quarter of its speed.
    SLOW = "slow"
    #: It answers this one attempt with an error.
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Shares from 0 to 1: of attempts, of loads, of events told by engines."""

    crash: float = 0.0
    hang: float = 0.0
    slow: float = 0.0
    error: float = 0.0
    failed_load: float = 0.0
    #: Loads that take ten times as long.
    slow_load: float = 0.0
    #: Loads after which a replica is measured above its estimate.
    foreign_memory: float = 0.0
    #: Loads after which other processes take some of the device for a while.
    taken_memory: float = 0.0
    lost: float = 0.0
    late: float = 0.0
    duplicate: float = 0.0
    #: Longest delay of a late or second telling.
    late_ns: int = 2 * SECOND
    #: From then on nothing new goes wrong.
    heal_ns: int = 1 << 62


NO_FAULTS = FaultPlan()


class Faults:
    """Draws from a plan."""

    def __init__(self, plan: FaultPlan, seed: int) -> None:
        self._plan = plan
        self._seed = seed

    def __repr__(self) -> str:
        return f"Faults({self._plan!r}, seed={self._seed})"

    def strike(self, request_id: str, attempt: int, now_ns: int) -> Strike | None:
        """What befalls the engine during this attempt."""
        if now_ns >= self._plan.heal_ns:
            return None
        plan = self._plan
        shares = (
            (Strike.CRASH, plan.crash),
            (Strike.HANG, plan.hang),
            (Strike.SLOW, plan.slow),
            (Strike.ERROR, plan.error),
        )
        point = noise.fraction(self._seed, "strike", request_id, attempt)
        for strike, share in shares:
            if point < share:
                return strike
            point -= share
        return None

    def strike_after_ns(self, request_id: str, attempt: int, within_ns: int) -> int:
        """How far into the attempt, less than `within_ns`."""
        return noise.below(within_ns, self._seed, "strike time", request_id, attempt)

    def load_failure(self, replica_id: str, epoch: int, now_ns: int) -> FailureKind | None:
        """How a load fails, if it does."""
        if not self._happens("failed load", replica_id, epoch, self._plan.failed_load, now_ns):
            return None
        kind = noise.below(len(_LOAD_FAILURES), self._seed, "load failure", replica_id, epoch)
        return _LOAD_FAILURES[kind]

    def load_factor(self, replica_id: str, epoch: int, now_ns: int) -> int:
        """How many times as long as usual a load takes."""
        slow = self._happens("slow load", replica_id, epoch, self._plan.slow_load, now_ns)
        return 10 if slow else 1

    def taken_bytes(self, replica_id: str, epoch: int, byte_count: int, now_ns: int) -> int:
        """What other processes take of a device for a while, of so many bytes; 0 for nothing."""
        share = self._plan.taken_memory
        if not self._happens("taken memory", replica_id, epoch, share, now_ns):
            return 0
        return noise.below(byte_count + 1, self._seed, "taken bytes", replica_id, epoch)

    def foreign_bytes(self, replica_id: str, epoch: int, byte_count: int, now_ns: int) -> int:
        """Bytes measured above the estimate: up to a quarter of it."""
        share = self._plan.foreign_memory
        if not self._happens("foreign memory", replica_id, epoch, share, now_ns):
            return 0
        return noise.below(byte_count // 4 + 1, self._seed, "foreign bytes", replica_id, epoch)

    def tellings_ns(self, what: str, name: str, number: int, now_ns: int) -> tuple[int, ...]:
        """Delays after which an event is told: none if it is lost, two if told twice."""
        plan = self._plan
        if now_ns >= plan.heal_ns or not (plan.lost or plan.late or plan.duplicate):
            return (0,)
        point = noise.fraction(self._seed, "telling", what, name, number)
        delay_ns = 1 * MS + noise.below(plan.late_ns, self._seed, "delay", what, name, number)
        if point < plan.lost:
            return ()
        if point < plan.lost + plan.late:
            return (delay_ns,)
        if point < plan.lost + plan.late + plan.duplicate:
            return (0, delay_ns)
        return (0,)

    def _happens(self, what: str, name: str, number: int, share: float, now_ns: int) -> bool:
        if now_ns >= self._plan.heal_ns or not share:
            return False
        return noise.fraction(self._seed, what, name, number) < share
