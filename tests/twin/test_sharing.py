"""Engines that share a device's compute: they take turns, and only while others are busy."""

from collections.abc import Sequence

from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla
from slalom.policies.registry import policies
from slalom.twin.engine_model import StepLaw
from slalom.twin.faults import FaultPlan
from slalom.twin.run import run
from slalom.twin.scenario import Arrival, LoadLaw, Scenario, TwinModel
from slalom.units import MIB, MS, SECOND

#: A token takes 10 ms, whatever runs on the same engine.
_LAW = StepLaw(prefill_ns_per_token=0, token_ns=10 * MS, neighbour_ns=0)


def _asked(name: str, model: str, at_ns: int, tokens: int) -> Arrival:
    request = Request(name, model, "task", Sla(), at_ns, 10, tokens, tokens)
    return Arrival(request, output_tokens=tokens)


def _took(
    asked: Sequence[Arrival], *shared: str, faults: FaultPlan | None = None
) -> dict[str, float]:
    """Request -> seconds from its dispatch to its end."""
    models = tuple(
        TwinModel(ModelSpec(name, "gpu", MIB, 8, pinned=True), _LAW, LoadLaw(fixed_ns=0))
        for name in ("a", "b", "c")
    )
    scenario = Scenario(
        models=models,
        devices=(DeviceSpec("gpu", 100 * MIB),),
        arrivals=tuple(asked),
        policies=policies(),
        shared_devices=shared,
        **({} if faults is None else {"faults": faults}),  # type: ignore[arg-type]
    )
    ends = run(scenario).ends
    return {end.request_id: (end.ended_ns - end.dispatch_ns) / SECOND for end in ends}


AT = SECOND
PAIR = (_asked("x", "a", AT, 100), _asked("y", "b", AT, 100))


def test_on_a_device_that_is_not_shared_nobody_notices_the_others() -> None:
    took = _took(PAIR)
    assert took["x"] == took["y"]
    assert 1.0 <= took["x"] < 1.1


def test_two_busy_engines_take_twice_as_long() -> None:
    took = _took(PAIR, "gpu")
    assert 1.95 < took["x"] < 2.1
    assert 1.95 < took["y"] < 2.1


def test_attempts_of_one_engine_do_not_take_turns_with_each_other() -> None:
    together = (_asked("x", "a", AT, 100), _asked("y", "a", AT, 100))
    assert _took(together, "gpu") == _took(together)


def test_who_is_left_alone_is_as_fast_as_ever() -> None:
    # Both run at half speed until `y` is done after 1 s: `x` has written 50 tokens of 200.
    took = _took((_asked("x", "a", AT, 200), _asked("y", "b", AT, 50)), "gpu")
    assert 0.95 < took["y"] < 1.1
    assert 2.45 < took["x"] < 2.6


def test_who_comes_later_slows_down_what_runs() -> None:
    # `x` has half of its tokens when `y` and `z` come.
    later = AT + SECOND // 2
    took = _took(
        (_asked("x", "a", AT, 100), _asked("y", "b", later, 200), _asked("z", "c", later, 200)),
        "gpu",
    )
    assert 1.95 < took["x"] < 2.1


def test_a_device_shares_nothing_with_another() -> None:
    assert _took(PAIR, "other") == _took(PAIR)


def test_mishaps_on_a_shared_device_leave_nobody_slow() -> None:
    asked = [
        _asked(f"r{number}", "abc"[number % 3], AT + number * 30 * MS, 20) for number in range(60)
    ]
    alone = _asked("last", "a", AT + 300 * SECOND, 100)
    took = _took((*asked, alone), "gpu", faults=FaultPlan(crash=0.2, error=0.2))
    assert len(took) == 61
    assert took["last"] < 1.1
