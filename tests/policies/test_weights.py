"""Weights of requests: who gives way where not all can be on time."""

from dataclasses import replace

from slalom.policies.trim.plan_and_trim import PlanAndTrim
from tests.policies.views import AT_NS, Ready, View, Waits, asked, calibrated

#: A step takes 10 ms.
SPEC = calibrated(step=10)


def started(*weights: float) -> list[str]:
    """Who starts of a cheap request and one of twice the length, if only one can be on time."""
    cheap = replace(asked("cheap", tokens=50, e2e_ms=600), weight=weights[0])
    long = replace(asked("long", tokens=100, e2e_ms=1_100), weight=weights[1])
    view = View([Waits(cheap), Waits(long)], [Ready(places=1)], SPEC)
    planner = PlanAndTrim().begin([SPEC])
    return [one.request_id for one in planner.plan(view, AT_NS).starts]


def test_the_cheaper_one_is_served_where_both_are_worth_the_same() -> None:
    assert started(1.0, 1.0) == started(3.0, 3.0) == ["cheap"]


def test_one_worth_more_than_it_costs_more_goes_first() -> None:
    assert started(1.0, 1.5) == ["cheap"], "twice the work for one and a half times the worth"
    assert started(1.0, 3.0) == ["long"]
    assert started(0.1, 1.0) == ["long"]
