"""The policies by slot and name: the one table that config, twin and docs read.

A row is all it takes to make a policy selectable: its dataclass fields are its options, with
their defaults, and the first sentence of its docstring is its description.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Literal, cast

from slalom.core.policy import Admission, Ordering, Policies, Residency, Routing
from slalom.core.sizing import OnDemand, Scaling
from slalom.errors import ConfigError
from slalom.policies.admission import DropLate, OpenAdmission
from slalom.policies.class_priority import ClassPriority
from slalom.policies.edf_drop import EdfDrop
from slalom.policies.niyama import Niyama
from slalom.policies.ordering import Edf, Fcfs
from slalom.policies.residency.cace import Cace
from slalom.policies.residency.counting import Gdsf, Lfu
from slalom.policies.residency.penalty import Penalty
from slalom.policies.residency.simple import Exclusive, Fifo, Lemonade, Lru, Ollama
from slalom.policies.routing import (
    LeastOngoing,
    MostFree,
    Pack,
    PowerOfTwo,
    PrefixAffinity,
    RoundRobin,
)
from slalom.policies.routing_by_time import ByPlan, Cato
from slalom.policies.saber import Saber
from slalom.policies.scaling.by_count import Fixed, RayQueue
from slalom.policies.scaling.by_target import CatoScaling
from slalom.policies.scaling.fill import Fill
from slalom.policies.scaling.forecast import Forecast
from slalom.policies.static import Static
from slalom.policies.trim.plan_and_trim import PlanAndTrim
from slalom.policies.velocity import Velocity

Slot = Literal["admission", "ordering", "residency", "routing", "scaling"]

#: slot -> kind -> the policy's dataclass.
POLICIES: Mapping[Slot, Mapping[str, type[Any]]] = MappingProxyType(
    {
        "admission": {
            "open": OpenAdmission,
            "drop-late": DropLate,
            "static": Static,
            "saber": Saber,
            "edf-drop": EdfDrop,
            "class-priority": ClassPriority,
            "niyama": Niyama,
            "velocity": Velocity,
            "plan-and-trim": PlanAndTrim,
        },
        "ordering": {"fcfs": Fcfs, "edf": Edf},
        "residency": {
            "lru": Lru,
            "lfu": Lfu,
            "fifo": Fifo,
            "gdsf": Gdsf,
            "lemonade": Lemonade,
            "ollama": Ollama,
            "exclusive": Exclusive,
            "cace": Cace,
            "penalty": Penalty,
        },
        "routing": {
            "most-free": MostFree,
            "pack": Pack,
            "round-robin": RoundRobin,
            "least-ongoing": LeastOngoing,
            "power-of-two": PowerOfTwo,
            "prefix-affinity": PrefixAffinity,
            "cato": Cato,
            "plan": ByPlan,
        },
        "scaling": {
            "on-demand": OnDemand,
            "fixed": Fixed,
            "ray-queue": RayQueue,
            "cato": CatoScaling,
            "forecast": Forecast,
            "fill": Fill,
        },
    }
)

#: What a program gets that names no policy: the plain ones, which refuse nobody and learn nothing.
DEFAULT_KINDS: Mapping[Slot, str] = MappingProxyType(
    {
        "admission": "open",
        "ordering": "edf",
        "residency": "lru",
        "routing": "most-free",
        "scaling": "on-demand",
    }
)

#: What serves, and what a scenario plays, where no policy is configured.
SERVING_KINDS: Mapping[Slot, str] = MappingProxyType(
    {**DEFAULT_KINDS, "admission": "plan-and-trim", "residency": "penalty", "scaling": "fill"}
)


def policy_class(slot: Slot, kind: str) -> type[Any]:
    """The dataclass of a policy.

    Raises:
        ConfigError: There is no policy of that name in the slot; names the nearest.
    """
    found = POLICIES[slot].get(kind)
    if found is None:
        near = get_close_matches(kind, POLICIES[slot], n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(
            f"scheduler.{slot}.kind: there is no {slot} policy {kind!r}; {hint}"
            f"known: {', '.join(POLICIES[slot])}"
        )
    return found


def build(slot: Slot, kind: str, options: Mapping[str, Any] | None = None) -> object:
    """A policy with its options.

    Raises:
        ConfigError: Unknown policy or option.
    """
    chosen = policy_class(slot, kind)
    try:
        return cast("object", chosen(**(options or {})))
    except TypeError as error:
        raise ConfigError(f"scheduler.{slot} ({kind}): {error}") from error


def policies(**kinds: str) -> Policies:
    """One policy for each slot, by name, with default options.

    Args:
        kinds: Names by slot; a slot that is not named gets its default.

    Raises:
        ConfigError: Unknown slot or policy.
    """
    unknown = set(kinds) - set(POLICIES)
    if unknown:
        raise ConfigError(f"no policy slot {sorted(unknown)}; slots: {', '.join(POLICIES)}")
    chosen = {slot: build(slot, kinds.get(slot, DEFAULT_KINDS[slot])) for slot in POLICIES}
    return Policies(
        admission=cast("Admission", chosen["admission"]),
        ordering=cast("Ordering", chosen["ordering"]),
        residency=cast("Residency", chosen["residency"]),
        routing=cast("Routing", chosen["routing"]),
        scaling=cast("Scaling", chosen["scaling"]),
    )
