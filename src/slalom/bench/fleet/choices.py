"""The schedulers that the benchmark of fleets compares: one table.

Owns the rows: policies of four slots by name. Residency is the same for all, because every replica
has a device of its own. Read by every part.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from slalom.core.policy import Policies
from slalom.policies.registry import POLICIES, build
from slalom.policies.registry import policies as plain_policies

#: What may be asked of a slot: a kind, with its options.
_Options = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """Who decides."""

    name: str
    admission: str = "open"
    ordering: str = "fcfs"
    routing: str = "most-free"
    scaling: str = "on-demand"
    scaling_options: _Options = ()

    def policies(self) -> Policies:
        """As the scheduler takes them.

        Raises:
            ConfigError: There is no such policy or option.
        """
        made: dict[str, Any] = {
            "admission": build("admission", self.admission),
            "ordering": build("ordering", self.ordering),
            "routing": build("routing", self.routing),
            "scaling": build("scaling", self.scaling, dict(self.scaling_options)),
        }
        return replace(plain_policies(), **made)

    def modules(self) -> list[str]:
        """Where its policies are."""
        kinds = (
            POLICIES["admission"][self.admission],
            POLICIES["ordering"][self.ordering],
            POLICIES["routing"][self.routing],
            POLICIES["scaling"][self.scaling],
        )
        return [kind.__module__ for kind in kinds]


#: A fixed number from the start, in turn.
ROUND_ROBIN = Choice("round robin", routing="round-robin", scaling="fixed")
#: Ray Serve's own rules with their defaults; and with delays that fit into a minute.
RAY = Choice("Ray Serve's rules", routing="power-of-two", scaling="ray-queue")
QUICK_RAY = Choice(
    "Ray Serve's rules, quick",
    routing="power-of-two",
    scaling="ray-queue",
    scaling_options=(("up_delay_s", 2.0), ("down_delay_s", 20.0)),
)
CATO = Choice("cato", ordering="edf", routing="cato", scaling="cato")
#: What serves where nothing is configured; and with its own scaling.
OURS = Choice("Slalom's default", admission="plan-and-trim", ordering="edf", scaling="fill")
FORECAST = Choice("Slalom, forecast", admission="plan-and-trim", ordering="edf", scaling="forecast")


def choices(static: int) -> Sequence[Choice]:
    """The rows of the tables, in their order.

    Args:
        static: Replicas of each model where their number is fixed.
    """
    return (fixed(static), RAY, QUICK_RAY, CATO, OURS, FORECAST)


def fixed(static: int) -> Choice:
    """A first-come router over a fixed number of replicas.

    Args:
        static: Of each model.
    """
    return replace(ROUND_ROBIN, scaling_options=(("replicas", static),))
