"""`plan-and-trim` where models are not loaded: who is refused early, and when a swap pays."""

from dataclasses import replace

import pytest

from slalom.core.planning import Moment, Observation
from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla
from slalom.policies.registry import build, policies
from slalom.policies.trim.plan_and_trim import PlanAndTrim
from slalom.policies.trim.planner import Trimmer
from slalom.twin.engine_model import StepLaw
from slalom.twin.run import TwinRun, run
from slalom.twin.scenario import Arrival, LoadLaw, Scenario, TwinModel
from slalom.units import MIB, MS, SECOND
from tests.policies.views import AT_NS, Ready, View, Waits, asked, calibrated

#: Two models on one device; a step takes 10 ms.
A = calibrated(step=10)
B = replace(A, id="b")
TIGHT = Sla(ttft_ns=500 * MS)
LOOSE = Sla(e2e_ns=5 * SECOND)


def trimmer(*models: ModelSpec, **options: object) -> Trimmer:
    made = PlanAndTrim(**options).begin(models or (A, B))  # type: ignore[arg-type]
    assert isinstance(made, Trimmer)
    return made


def absent(*queue: Request, spec: ModelSpec = A) -> View:
    """A model that takes two seconds to load."""
    return View([Waits(one) for one in queue], (), spec, wake_ns=2 * SECOND)


def there(spec: ModelSpec = B, queue: int = 0) -> View:
    waiting = [Waits(asked(f"q{number}")) for number in range(queue)]
    return View(waiting, (Ready(),), spec, wake_ns=2 * SECOND)


def arrives(planner: Trimmer, view: View, times: int, at_ns: int = AT_NS) -> None:
    for number in range(times):
        request = asked(f"{view.spec.id}{number}", ttft_ms=500)
        planner.observe(Observation(Moment.ARRIVED, request), view, at_ns)


def refused(planner: Trimmer, view: View, after_ms: int = 0) -> list[str]:
    plan = planner.foresee(view, AT_NS + after_ms * MS)
    return [one.request_id for one in plan.refusals]


def test_what_a_load_makes_late_is_refused_and_told_when_to_come_back() -> None:
    queue = absent(asked("r", ttft_ms=500), asked("s", e2e_ms=5000))
    assert not trimmer().foresee(queue, AT_NS).refusals, "only if late ones are not wanted"
    plan = trimmer(late="refuse").foresee(queue, AT_NS)
    (refusal,) = plan.refusals
    assert refusal.request_id == "r"
    assert refusal.retry_after_ns == 2 * SECOND
    assert "not loaded" in refusal.detail
    # `s` takes half a second: it is lost once a load that began then would be over too late.
    assert plan.look_ns == pytest.approx(AT_NS + 2.5 * SECOND, abs=MS)


def test_the_last_that_is_late_keeps_the_model_wanted() -> None:
    queue = [asked("r", ttft_ms=500), asked("s", ttft_ms=500, after_ms=10)]
    assert refused(trimmer(late="refuse"), absent(*queue), 20) == ["r"]
    assert refused(trimmer(late="refuse"), absent(queue[1]), 60_000) == []


def test_while_its_model_is_kept_out_it_waits_for_its_patience_only() -> None:
    planner = trimmer(late_patience_ms=1000, late="refuse")
    view = absent(asked("r", ttft_ms=500))
    arrives(planner, there(), 100)
    assert not planner.pays(view, [there()], AT_NS)
    assert planner.foresee(view, AT_NS).look_ns == AT_NS + 1500 * MS
    assert refused(planner, view, 1500) == []
    assert refused(planner, view, 1501) == ["r"]


def test_a_model_with_its_device_to_itself_refuses_nobody_early() -> None:
    assert refused(trimmer(A), absent(asked("r", ttft_ms=1), asked("s", ttft_ms=1))) == []
    assert refused(trimmer(A, late="refuse"), absent(asked("r", ttft_ms=1), asked("s"))) == ["r"]


def test_who_is_of_no_use_late_is_refused_early_wherever() -> None:
    hasty = replace(asked("r", ttft_ms=1), drop_when_late=True)
    assert refused(trimmer(A), absent(hasty, asked("s", ttft_ms=1))) == ["r"]
    assert refused(trimmer(A), absent(hasty)) == []  # someone has to want the model


def test_who_is_asked_for_more_stays() -> None:
    planner = trimmer()
    view = absent(asked("r", ttft_ms=500))
    arrives(planner, view, 2)
    arrives(planner, there(), 4)
    assert not planner.pays(view, [there()], AT_NS)
    arrives(planner, view, 10)
    assert planner.pays(view, [there()], AT_NS)


def test_what_was_asked_long_ago_counts_for_little() -> None:
    planner = trimmer()
    arrives(planner, there(), 10)
    at_ns = AT_NS + 120 * SECOND
    view = absent(asked("r", ttft_ms=500, after_ms=120_000))
    arrives(planner, view, 1, at_ns)
    assert planner.pays(view, [there()], at_ns)


def test_those_that_a_load_still_serves_count_in_full() -> None:
    planner = trimmer()
    arrives(planner, there(), 4)
    late = [asked(f"r{number}", ttft_ms=500) for number in range(8)]
    assert not planner.pays(absent(*late), [there()], AT_NS)
    hopeful = [asked(f"s{number}", e2e_ms=5000) for number in range(8)]
    assert planner.pays(absent(*hopeful), [there()], AT_NS)
    assert not planner.pays(absent(*hopeful), [there(queue=8)], AT_NS)


def test_no_model_is_kept_out_for_ever() -> None:
    planner = trimmer(hold_ms=10_000)
    view = absent(asked("r", ttft_ms=500))
    arrives(planner, view, 1)
    for second in range(1, 10):
        at_ns = AT_NS + second * SECOND
        arrives(planner, there(), 100, at_ns)
        assert not planner.pays(view, [there()], at_ns)
    assert planner.pays(view, [there()], AT_NS + 10 * SECOND)
    # Once it was there, the hold begins anew.
    planner.plan(there(A), AT_NS + 11 * SECOND)
    arrives(planner, view, 1, AT_NS + 12 * SECOND)
    assert not planner.pays(view, [there()], AT_NS + 13 * SECOND)


def test_nothing_is_held_back_where_that_is_switched_off() -> None:
    planner = trimmer(hold_ms=0)
    arrives(planner, there(), 100)
    assert planner.pays(absent(asked("r", ttft_ms=500)), [there()], AT_NS)


def _played(**options: object) -> TwinRun:
    """A model that is asked for ten times a second, and one each second, of which one fits."""
    models = tuple(
        TwinModel(
            ModelSpec(name, "gpu", 60 * MIB, 8, load_ns=2 * SECOND),
            StepLaw(prefill_ns_per_token=1_000, token_ns=2 * MS, neighbour_ns=0),
            LoadLaw(fixed_ns=2 * SECOND, bytes_per_s=1 << 80),
        )
        for name in ("often", "seldom")
    )
    arrivals = []
    for number in range(900):
        name = "seldom" if number % 10 == 5 else "often"
        at_ns = number * 100 * MS
        request = Request(f"r{number}", name, name, TIGHT, at_ns, 10, 16, 8)
        arrivals.append(Arrival(request, output_tokens=8))
    planning = build("admission", "plan-and-trim", options)
    return run(
        Scenario(
            models=models,
            devices=(DeviceSpec("gpu", 100 * MIB),),
            arrivals=tuple(arrivals),
            policies=replace(policies(), admission=planning),  # type: ignore[arg-type]
        )
    )


def test_a_busy_model_is_not_swapped_for_each_request_of_a_rare_one() -> None:
    held, at_once = _played(), _played(hold_ms=0)
    good = [sum(end.good for end in one.ends) for one in (held, at_once)]
    assert good[0] > 1.5 * good[1]
    assert len(held.ends) == len(at_once.ends) == 900
    served = [
        end.ended_ns for end in held.ends if end.task == "seldom" and end.first_dispatch_ns >= 0
    ]
    # ... but it gets its turn about every half minute.
    assert served
    assert min(served) < 40 * SECOND
    assert max(served) > 60 * SECOND
