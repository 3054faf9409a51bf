"""Part 7: what a decision costs with a hundred, a thousand and ten thousand requests waiting.

Owns the state that is measured (one replica, all its places taken, objectives near and far), the
timing of whole events and of plans alone, and the table. Figures depend on the machine, and are
said with it. Called by the command.
"""

import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from slalom.bench.handle_report import growth_exponent, machine, mean_us, quantile_us
from slalom.bench.handle_states import PATIENT, SteadyState
from slalom.bench.sla.choices import Choice, for_any_engine
from slalom.bench.sla.running import Runner
from slalom.bench.sla.settings import Part, Settings
from slalom.bench.sla.tables import table
from slalom.core.planning import Observation, Plan, Planner, PlanView
from slalom.core.request import DeviceSpec, ModelSpec, Sla, StepCost
from slalom.core.scheduler import Scheduler
from slalom.units import MS, SECOND

QUEUES = (100, 1_000, 10_000)
_QUICK_QUEUES = (10, 100)
_CYCLES, _QUICK_CYCLES = 200, 10
_PLACES = 32
#: Tries to form the queue: one loads the replica, one makes up for what it then takes.
_FLOODS = 4
#: Between two events. A round of some six ends one request and takes in one.
_STEP_NS = 5 * MS
#: From urgent to patient: a queue of thousands holds some that can be met and many that cannot.
_SLAS = (
    Sla(ttft_ns=500 * MS, tpot_ns=50 * MS),
    Sla(e2e_ns=5 * SECOND),
    Sla(e2e_ns=30 * SECOND),
    Sla(e2e_ns=120 * SECOND),
    Sla(e2e_ns=600 * SECOND),
)
_COST = StepCost(step_ns=6e6, sequence_ns=3e4, context_ns=20.0, prompt_ns=2e4)


@dataclass(frozen=True, slots=True)
class Measured:
    """One policy with a queue of one length, ns in order."""

    policy: str
    queue: int
    events_ns: Sequence[int]
    #: Empty for policies that do not plan. Both are, where a policy lets no such queue form.
    plans_ns: Sequence[int]


@dataclass
class TimedPlanner:
    """A planner whose plans are timed."""

    planner: Planner
    plans_ns: list[int] = field(default_factory=list)

    def observe(self, seen: Observation, model: PlanView, now_ns: int) -> None:
        """As the planner."""
        self.planner.observe(seen, model, now_ns)

    def plan(self, model: PlanView, now_ns: int) -> Plan:
        """As the planner, timed."""
        start_ns = time.thread_time_ns()
        found = self.planner.plan(model, now_ns)
        self.plans_ns.append(time.thread_time_ns() - start_ns)
        return found


def part(settings: Settings, runner: Runner) -> Part:  # noqa: ARG001 - one shape
    """Run it here, one after the other: neighbours would disturb."""
    queues = _QUICK_QUEUES if settings.quick else QUEUES
    cycles = _QUICK_CYCLES if settings.quick else _CYCLES
    chosen = for_any_engine(settings.only)
    found = [measure(choice, queue, cycles) for choice in chosen for queue in queues]
    document = {
        choice.name: {
            str(one.queue): {
                "event_us": mean_us(one.events_ns) if one.events_ns else None,
                "plan_us": mean_us(one.plans_ns) if one.plans_ns else None,
            }
            for one in found
            if one.policy == choice.name
        }
        for choice in chosen
    }
    return Part("\n".join(section(found, queues)), document)


def measure(choice: Choice, queue: int, cycles: int) -> Measured:
    """Time the events of a steady state.

    Args:
        choice: Who decides.
        queue: Requests that wait.
        cycles: Rounds of events.
    """
    model = ModelSpec("model", "gpu", 1, _PLACES, step_cost=_COST)
    scheduler = Scheduler([model], [DeviceSpec("gpu", 1)], choice.policies(), PATIENT)
    state = SteadyState(scheduler, queue, step_ns=_STEP_NS, slas=_SLAS)
    timed = None
    if scheduler.state.planner is not None:
        timed = scheduler.state.planner = TimedPlanner(scheduler.state.planner)
    # Objectives are counted from arrivals: the queue forms in no time, then time goes on.
    state.step_ns = 0
    if not any(state.flood() for _ in range(_FLOODS)):
        return Measured(choice.name, queue, (), ())
    state.step_ns = _STEP_NS
    for _ in range(cycles // 10):
        state.cycle(measure=False)
    if timed is not None:
        timed.plans_ns.clear()
    gc.collect()
    for _ in range(cycles):
        state.cycle()
    events = sorted(cost for costs in state.costs_ns.values() for cost in costs)
    return Measured(choice.name, queue, events, sorted(timed.plans_ns) if timed else ())


def section(found: Sequence[Measured], queues: Sequence[int]) -> Iterator[str]:
    """The part of the page, line by line."""
    yield _ABOUT.format(places=_PLACES, machine=machine())
    heads = ["policy", *(f"{queue:,} waiting" for queue in queues), "growth"]
    for title, name in (("Plans alone", "plans_ns"), ("Whole events", "events_ns")):
        yield f"\n{title}, µs: median / mean / 99th percentile:\n"
        yield from table(heads, _rows(found, name))


def _rows(found: Sequence[Measured], name: str) -> Iterator[list[str]]:
    for policy in dict.fromkeys(one.policy for one in found):
        mine = [one for one in found if one.policy == policy]
        costs = [getattr(one, name) for one in mine]
        pairs = zip(mine, costs, strict=True)
        known = [(one.queue, quantile_us(cost, 0.5)) for one, cost in pairs if cost]
        if not known:
            continue
        growth = f"n^{growth_exponent(known):+.2f}" if len(known) > 1 else "–"
        yield [policy, *(_figures(cost) if cost else "–" for cost in costs), growth]


def _figures(costs: Sequence[int]) -> str:
    return f"{quantile_us(costs, 0.5):.0f} / {mean_us(costs):.0f} / {quantile_us(costs, 0.99):.0f}"


_ABOUT = """\
## The cost of a decision

One replica, all of its {places} places taken, a queue of fixed length whose requests have
objectives from half a second to ten minutes. An *event* is one call of the scheduler; most events
ask for a plan. The aim for plans: under 1 ms with 100 waiting, under 10 ms with 10,000, growing no
faster than n log n (growth is the exponent of the median over lengths; 1 is linear). A policy that
refuses before a queue of that length forms has none. Time is the thread's own (CPU), so that other
programs on the machine count less.

Machine: {machine}."""
