"""The policies that the benchmark compares: one table.

Owns the rows and which of them this version has. A row names a policy of the admission slot with
its options, and the ordering it is meant to run with. Read by every part.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from slalom.core.policy import Admission, Ordering, Policies
from slalom.policies.registry import POLICIES, build
from slalom.policies.registry import policies as default_policies


@dataclass(frozen=True, slots=True)
class Choice:
    """Who decides."""

    name: str
    #: In the admission slot.
    kind: str
    options: tuple[tuple[str, Any], ...] = ()
    ordering: str = "edf"

    def policies(self) -> Policies:
        """As the scheduler takes them.

        Raises:
            ConfigError: There is no such policy or option.
        """
        return replace(
            default_policies(),
            admission=cast("Admission", build("admission", self.kind, dict(self.options))),
            ordering=cast("Ordering", build("ordering", self.ordering)),
        )

    def changed(self, name: str, **options: object) -> "Choice":
        """The same with some options changed, under another name."""
        return replace(self, name=name, options=tuple({**dict(self.options), **options}.items()))


#: A plain proxy.
PROXY = Choice("first-come", "open", ordering="fcfs")
#: Slalom's own.
OURS = Choice("plan-and-trim", "plan-and-trim")
FLOORS = OURS.changed("plan-and-trim, floor 50 %", floor=0.5)
REFUSING = OURS.changed("plan-and-trim, refusing", late="refuse")
SABER = Choice("saber", "saber", ordering="fcfs")
PROGRAM = SABER.changed("saber, its program", published_program=True)

_ROWS: Sequence[Choice] = (
    PROXY,
    Choice("deadlines", "open"),
    Choice("drop-late", "drop-late"),
    Choice("static 8", "static", (("window", 8),), ordering="fcfs"),
    SABER,
    PROGRAM,
    Choice("edf-drop", "edf-drop"),
    Choice("class-priority", "class-priority", ordering="fcfs"),
    Choice("niyama", "niyama"),
    Choice("velocity", "velocity"),
    OURS,
    REFUSING,
    FLOORS,
)


def choices(only: Sequence[str] = ()) -> list[Choice]:
    """The rows whose policies this version has, in the order of the tables.

    Args:
        only: Names of the rows to take; all if empty.
    """
    known = [row for row in _ROWS if row.kind in POLICIES["admission"]]
    return [row for row in known if not only or row.name in only]


def beside_static(only: Sequence[str] = ()) -> list[Choice]:
    """Those that are no static batch, for a grid that has all static batches."""
    fixed = [row for row in choices(only) if row.kind == "static" or row == PROXY]
    return [row for row in choices(only) if row not in fixed and row != FLOORS]


def for_any_engine(only: Sequence[str] = ()) -> list[Choice]:
    """Those for engines other than SABER's: coefficients come from the engine's calibration."""
    return [
        row.changed(row.name, law="fit") if row.kind == SABER.kind else row for row in choices(only)
    ]


def ours() -> Choice | None:
    """Slalom's own policy, if this version has it."""
    return OURS if OURS.kind in POLICIES["admission"] else None
