"""A load whose shape takes more or less time, at the same rates.

Owns which of a load's times belong to its shape: its span, the hours of a day, the pieces of a
step, the phases of popularity. Pauses of people and tools stay what they are. Called by `cells`.
"""

from dataclasses import replace

from slalom.workload.load import Group, LoadPlan
from slalom.workload.shapes import ShapedArrivals


def reshaped(plan: LoadPlan, stretch: float) -> LoadPlan:
    """The same load over `stretch` times the time; a count of requests stays what it is."""
    if stretch == 1:
        return plan
    groups = tuple(_group(group, stretch) for group in plan.groups)
    return replace(plan, groups=groups, duration_ns=round(plan.duration_ns * stretch))


def _group(group: Group, stretch: float) -> Group:
    kinds = tuple(
        replace(
            kind,
            popularity=replace(kind.popularity, phase_s=kind.popularity.phase_s * stretch),
        )
        for kind in group.kinds
    )
    arrivals = group.arrivals
    if isinstance(arrivals, ShapedArrivals):
        pieces = tuple((length * stretch, height) for length, height in arrivals.pieces)
        arrivals = replace(arrivals, pieces=pieces)
    return replace(group, kinds=kinds, arrivals=arrivals)
