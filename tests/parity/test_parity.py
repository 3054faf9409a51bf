"""The live runtime on a virtual clock writes the twin's journal, entry for entry.

Both get the same arrivals, engines that keep the same law, and loads of the same length. Entries
of the same instant are merged first: how many calls an instant takes is the event loop's affair.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import groupby

import pytest

from slalom.core.actions import LoadReplica
from slalom.core.events import Ask, ConfigChanged, ModelAsked
from slalom.core.journal import Entry, replay
from slalom.core.params import SchedulerParams
from slalom.core.planning import Planning
from slalom.core.policy import Policies
from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla, Swap
from slalom.engines.protocol import Call, Engine, Launcher
from slalom.policies.registry import POLICIES, policies
from slalom.runtime.driver import Runtime
from slalom.runtime.params import RuntimeParams
from slalom.runtime.sink import Assignment, Terms, Waiting
from slalom.runtime.supervisor import WatchParams
from slalom.testing import FakeLauncher, FakeLoad, FakeScript, FakeTimings, VirtualClock
from slalom.testing.scripted_planner import EveryLever
from slalom.testing.virtual_loop import run_virtual
from slalom.twin.engine_model import StepLaw
from slalom.twin.noise import stream
from slalom.twin.run import build_scheduler, run
from slalom.twin.scenario import (
    Arrival,
    Asked,
    HostDelays,
    LoadLaw,
    Reload,
    Scenario,
    SleepLaw,
    TwinModel,
)
from slalom.units import MIB, MS, SECOND

_LAW = StepLaw(prefill_ns_per_token=130_003, token_ns=7_000_001, neighbour_ns=1_300_007)
_REPORTS = 4


class _Deaf:
    """A sink that takes everything and keeps nothing."""

    async def waiting(self, waiting: Waiting) -> None: ...

    async def head(self, assignment: Assignment, status: int, content_type: str) -> None: ...

    async def body(self, data: bytes) -> None: ...


def _scenario(seed: int, chosen: Policies, *, levers: bool = False) -> Scenario:
    rng = stream(seed, "parity")
    models = tuple(
        TwinModel(
            ModelSpec(name, "host", need * MIB, places),
            _LAW,
            LoadLaw(fixed_ns=load_ns, bytes_per_s=1 << 80, reports=_REPORTS),
        )
        for name, need, places, load_ns in (
            ("a", 60, 2, 300_000_011),
            ("b", 50, 3, 150_000_003),
            ("c", 70, 1, 800_000_017),
        )
    )
    arrivals = []
    at_ns = 0
    for index in range(60):
        at_ns += rng.randrange(1, 250 * MS)
        request = Request(
            id=f"r{index}",
            model=rng.choice("aaabbc"),
            task="task",
            sla=rng.choice((Sla(), Sla(ttft_ns=SECOND), Sla(e2e_ns=3 * SECOND))),
            arrived_ns=at_ns,
            prompt_tokens=rng.randint(1, 2_000),
            max_tokens=256,
            predicted_tokens=40,
            resumable=levers and rng.random() < 0.7,
            supersedes=rng.choice(("", "", "", "one", "other")) if levers else "",
        )
        patience_ns = rng.randrange(3 * SECOND) if rng.random() < 0.2 else -1
        arrivals.append(Arrival(request, rng.choice((1, 20, 60, 150)), patience_ns))
    return Scenario(
        models=models,
        devices=(DeviceSpec("host", 120 * MIB),),
        arrivals=tuple(arrivals),
        policies=chosen,
        params=SchedulerParams(
            queue_timeout_ns=6 * SECOND,
            swap_patience_ns=400 * MS,
            min_residency_ns=200 * MS,
            swap_drain_timeout_ns=700 * MS,
        ),
        host=HostDelays(refuse_ns=0, unload_ns=0),
        seed=seed,
    )


def _with_naps(scenario: Scenario) -> Scenario:
    """The same, with models that sleep; a fake engine asleep keeps a fifth of its memory."""
    models = [
        replace(
            model,
            spec=replace(
                model.spec,
                sleep_level=1,
                host_bytes=model.spec.bytes_needed,
                residual_bytes=model.spec.bytes_needed // 5,
            ),
            sleep=SleepLaw(fixed_ns=90_000_007 + 10_000_019 * index, bytes_per_s=1 << 80),
        )
        for index, model in enumerate(scenario.models)
    ]
    ram = DeviceSpec("ram", 130 * MIB)
    gpu = replace(scenario.devices[0], host=ram.id)
    return replace(scenario, models=tuple(models), devices=(gpu, ram))


def _launcher(model: TwinModel) -> FakeLauncher:
    law, nap_ns = model.step, model.sleep.fixed_ns
    script = FakeScript(
        timings=FakeTimings(
            law.prefill_ns_per_token, law.token_ns, law.neighbour_ns, nap_ns, nap_ns
        ),
        places=model.spec.places,
        memory_bytes=model.spec.bytes_needed,
    )
    return FakeLauncher(script, FakeLoad(model.load.fixed_ns, steps=_REPORTS))


async def _live(clock: VirtualClock, scenario: Scenario) -> list[Entry]:
    never_s = 1e6
    runtime = Runtime(
        build_scheduler(scenario),
        {model.spec.id: _launcher(model) for model in scenario.models},
        clock=clock,
        params=RuntimeParams(watch=WatchParams(health_every_s=never_s, memory_every_s=never_s)),
    )
    entries: list[Entry] = []
    runtime.on_step.append(entries.append)
    runtime.start()

    async def ask(arrival: Arrival) -> None:
        request = arrival.request
        prompt, tokens = " ".join(["word"] * request.prompt_tokens), arrival.output_tokens

        def make_call(_engine: Engine, terms: Terms) -> Call:
            limit = min(tokens, terms.max_tokens or tokens)
            body = {
                "prompt": prompt + terms.resumed_text,
                "max_tokens": max(limit - terms.resumed_tokens, 1),
                "stream": True,
                "stream_options": {"include_usage": True},
            }
            return Call("/v1/completions", json.dumps(body).encode(), stall_timeout_s=never_s)

        await asyncio.sleep((request.arrived_ns - clock.now_ns()) / SECOND)
        patience_s = arrival.patience_ns / SECOND if arrival.patience_ns >= 0 else never_s
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await runtime.serve(request, make_call, _Deaf(), stream=True)

    async def operate(asked: Asked) -> None:
        await asyncio.sleep((asked.at_ns - clock.now_ns()) / SECOND)
        runtime.post(asked.event)

    async def change(reload: Reload) -> None:
        await asyncio.sleep((reload.at_ns - clock.now_ns()) / SECOND)
        launchers: dict[str | tuple[str, str], Launcher] = {
            model.spec.id: _launcher(model) for model in reload.models
        }
        runtime.reload(reload.event, launchers, {})

    operator = [operate(asked) for asked in scenario.asks]
    operator += [change(reload) for reload in scenario.reloads]
    await asyncio.gather(*(ask(arrival) for arrival in scenario.arrivals), *operator)
    await asyncio.sleep(60)
    told = list(entries)
    await runtime.close()
    return told


def _merged(entries: list[Entry]) -> list[tuple[int, list[str], list[str]]]:
    """One entry for each instant; its events in no order, for they have none."""
    merged = []
    for now_ns, group in groupby(entries, key=lambda entry: entry.now_ns):
        same = list(group)
        events = sorted(repr(event) for entry in same for event in entry.events)
        merged.append((now_ns, events, [repr(a) for entry in same for a in entry.actions]))
    return merged


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kinds", [{}, {"ordering": "fcfs", "routing": "pack"}])
def test_live_and_twin_write_the_same_journal(seed: int, kinds: dict[str, str]) -> None:
    scenario = _scenario(seed, policies(**kinds))
    twin = run(scenario)
    live = run_virtual(lambda clock: _live(clock, scenario))
    _compare(live, twin.entries)
    ends = Counter(end.outcome.value for end in twin.ends)
    assert ends["done"] > 20, "a parity of idle worlds proves nothing"
    assert ends["cancelled"] > 2
    assert dict(twin.snapshot.counters)["evictions"] > 2
    assert replay(build_scheduler(scenario), live) is None


@pytest.mark.parametrize("seed", range(4))
def test_with_models_that_sleep_too(seed: int) -> None:
    scenario = _with_naps(_scenario(seed, policies()))
    twin = run(scenario)
    live = run_virtual(lambda clock: _live(clock, scenario))
    _compare(live, twin.entries)
    counters = dict(twin.snapshot.counters)
    assert counters["sleeps_done"] > 2
    assert counters["wakes_done"] > 1
    assert replay(build_scheduler(scenario), live) is None


@pytest.mark.parametrize("seed", range(4))
def test_with_people_who_say_what_they_want(seed: int) -> None:
    scenario = _with_wishes(_with_naps(_scenario(seed, policies())), seed)
    twin = run(scenario)
    live = run_virtual(lambda clock: _live(clock, scenario))
    _compare(live, twin.entries)
    counters = dict(twin.snapshot.counters)
    assert counters["idle_departures"] > 0
    assert counters["asks_load"] > 0
    assert counters["asks_unload"] > 0
    assert replay(build_scheduler(scenario), live) is None


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kinds", [{}, {"admission": "open", "residency": "penalty"}])
def test_with_models_that_come_change_and_go(seed: int, kinds: dict[str, str]) -> None:
    scenario = _with_reloads(_scenario(seed, policies(**kinds)), seed)
    twin = run(scenario)
    live = run_virtual(lambda clock: _live(clock, scenario))
    _compare(live, twin.entries)
    counters = dict(twin.snapshot.counters)
    assert counters["models_replaced"] == 1
    assert counters["models_removed"] == counters["models_added"] == 1
    ends = Counter((end.model, end.outcome.value) for end in twin.ends)
    assert ends["d", "done"] > 2
    assert ends["a", "done"] > 10
    assert replay(build_scheduler(scenario), live) is None


def _with_reloads(scenario: Scenario, seed: int) -> Scenario:
    """The same, with `a` on another engine after two seconds, and `d` in the place of `c`."""
    rng = stream(seed, "reloads")
    a, _, c = scenario.models
    quick = replace(_LAW, token_ns=5_000_003)
    other = replace(a, spec=replace(a.spec, bytes_needed=40 * MIB, places=3), step=quick)
    fresh = replace(c, spec=replace(c.spec, id="d", bytes_needed=30 * MIB, places=2))
    drain_ns = rng.choice((300_000_007, 2 * SECOND))
    reloads = (
        Reload(
            2 * SECOND + rng.randrange(SECOND),
            ConfigChanged(replaced=(other.spec,), drain_ns=drain_ns),
            (other,),
        ),
        Reload(
            3 * SECOND + rng.randrange(SECOND),
            ConfigChanged(added=(fresh.spec,), removed=("c",), drain_ns=drain_ns),
            (fresh,),
        ),
    )
    arrivals = tuple(
        replace(one, request=replace(one.request, model="d"))
        if one.request.arrived_ns > reloads[1].at_ns and one.request.model == "b"
        else one
        for one in scenario.arrivals
    )
    return replace(scenario, arrivals=arrivals, reloads=reloads)


@pytest.mark.parametrize("seed", range(4))
def test_with_a_choice_of_devices_too(seed: int) -> None:
    scenario = _with_homes(_with_naps(_scenario(seed, policies())))
    twin = run(scenario)
    live = run_virtual(lambda clock: _live(clock, scenario))
    _compare(live, twin.entries)
    loads = [a for e in live for a in e.actions if isinstance(a, LoadReplica)]
    assert {one.device for one in loads} == {"host", "other"}
    assert sum(end.outcome.value == "done" for end in twin.ends) > 20
    assert replay(build_scheduler(scenario), live) is None


def _with_homes(scenario: Scenario) -> Scenario:
    """The same on two devices, either of which may hold each model, twice even."""
    models = [
        replace(model, spec=replace(model.spec, devices=("host", "other"), replicas=2))
        for model in scenario.models
    ]
    first, *rest = scenario.devices
    devices = (first, replace(first, id="other", budget_bytes=80 * MIB), *rest)
    return replace(scenario, models=tuple(models), devices=devices)


def _with_wishes(scenario: Scenario, seed: int) -> Scenario:
    """The same, with an operator, limits to idling and users who say what they want."""
    rng = stream(seed, "wishes")
    models = [
        replace(model, spec=replace(model.spec, idle_unload_ns=400_000_009, preload=True))
        for model in scenario.models
    ]
    arrivals = [
        replace(
            arrival,
            request=replace(
                arrival.request,
                keep_ns=rng.choice((-1, 0, 300_000_007)),
                allow_swap=rng.choice((Swap.NORMAL, Swap.IDLE, Swap.NEVER)),
            ),
        )
        for arrival in scenario.arrivals
    ]
    asks = [
        Asked(rng.randrange(7 * SECOND), ModelAsked(rng.choice("abc"), what, f"ask {what} {index}"))
        for index in range(3)
        for what in Ask
    ]
    return replace(scenario, models=tuple(models), arrivals=tuple(arrivals), asks=tuple(asks))


def _compare(live: list[Entry], twin: Sequence[Entry]) -> None:
    until_ns = live[-1].now_ns
    expected = _merged([entry for entry in twin if entry.now_ns <= until_ns])
    for here, there in zip(_merged(live), expected, strict=False):
        assert here == there
    assert len(_merged(live)) == len(expected)


@pytest.mark.parametrize("seed", range(6))
def test_with_a_planner_that_uses_every_lever_too(seed: int) -> None:
    chosen = policies()
    planned = Policies(EveryLever(), chosen.ordering, chosen.residency, chosen.routing)
    scenario = _scenario(seed, planned, levers=True)
    twin = run(scenario)
    live = run_virtual(lambda clock: _live(clock, scenario))
    _compare(live, twin.entries)
    counters = dict(twin.snapshot.counters)
    assert counters["pauses"] > 0
    assert counters["demotions"] > 2
    assert any(end.outcome.value == "superseded" for end in twin.ends)
    assert any(end.clamped_tokens == end.output_tokens for end in twin.ends)
    assert any(end.pauses and end.outcome.value == "done" for end in twin.ends)
    assert replay(build_scheduler(scenario), live) is None


@pytest.mark.parametrize(
    "kind", [kind for kind, policy in POLICIES["admission"].items() if issubclass(policy, Planning)]
)
def test_with_every_planner_of_the_registry(kind: str) -> None:
    scenario = _scenario(3, policies(admission=kind), levers=True)
    twin = run(scenario)
    live = run_virtual(lambda clock: _live(clock, scenario))
    _compare(live, twin.entries)
    assert sum(end.outcome.value == "done" for end in twin.ends) > 15
    assert replay(build_scheduler(scenario), live) is None
