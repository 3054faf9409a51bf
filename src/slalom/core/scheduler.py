"""The scheduler: told what happened, it answers what to do.

One call of `handle` applies each event through the transition table and then reconciles once:
time-outs, residency, dispatch, drain, timer. It is single-threaded, does no I/O and reads no
clock. Live, `runtime.driver` calls it; in virtual time, `twin.kernel` does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from slalom.core.actions import Action
from slalom.core.arriving import Placing, place
from slalom.core.chain import Later, rough_rest_ns
from slalom.core.dispatching import dispatch_all
from slalom.core.doubting import settle_doubts
from slalom.core.dry_run import ResidencyPlan, plan_residency
from slalom.core.events import ConfigChanged, Event
from slalom.core.keeping import Keeper, Keeping, LooksAhead, Plain
from slalom.core.observe import model_snapshot, take_snapshot
from slalom.core.params import SchedulerParams
from slalom.core.planned import foresee
from slalom.core.planning import Estimator, Expectation, Foreseeing, Foretelling, Planning
from slalom.core.policy import Ordering, Policies
from slalom.core.reloading import retire
from slalom.core.request import DeviceSpec, ModelSpec, Request
from slalom.core.residency import reconcile_residency
from slalom.core.sizing import Fleetwide
from slalom.core.snapshot import ModelSnapshot, Snapshot
from slalom.core.state import State
from slalom.core.step import Step
from slalom.core.timing import arm, complete_drain, fire_due
from slalom.core.transitions import TRANSITIONS, tell_progress
from slalom.core.weighing import Weighed
from slalom.errors import ConfigError, InvariantError
from slalom.units import format_bytes

#: No device is so many times as fast as another one.
_SPEED_MAX = 1_000.0


class Scheduler:
    """The pure core. Not thread-safe; one writer calls `handle`."""

    def __init__(
        self,
        models: Sequence[ModelSpec],
        devices: Sequence[DeviceSpec],
        policies: Policies,
        params: SchedulerParams | None = None,
    ) -> None:
        """Build a scheduler with nothing loaded; the first `handle` loads pinned models.

        Raises:
            ConfigError: Two models or devices share a name, a model names no known device, a
                size makes no sense, or the pinned models do not fit together.
        """
        _check_specs(models, devices)
        self.params = params or SchedulerParams()
        self.policies = policies
        self.state = State(tuple(models), tuple(devices))
        for model in self.state.models.values():
            if model.spec.pinned and not model.seats:
                raise ConfigError(
                    f"the replicas of pinned model {model.spec.id} do not fit on its devices "
                    f"{', '.join(model.spec.homes)} beside others that are pinned: pin fewer"
                )
        self.state.is_sized = policies.scaling.every_ns > 0
        if isinstance(policies.scaling, Fleetwide):
            concerned = [policies.scaling.concerns(spec) for spec in models]
            self.state.is_sized = self.state.is_sized and any(concerned)
        #: Those that decide: a planner with an order of its own replaces the configured one.
        self._deciding = policies
        if isinstance(policies.admission, Planning):
            planner = self.state.planner = policies.admission.begin(tuple(models))
            self.state.foreseer = planner if isinstance(planner, Foreseeing) else None
            if isinstance(planner, Ordering):
                self._deciding = replace(policies, ordering=planner)
        self._keeper: Keeper
        if isinstance(policies.residency, Keeping):
            self._keeper = policies.residency.begin(tuple(models), tuple(devices))
            self.state.keeper = self._keeper
            if isinstance(self._keeper, LooksAhead) and self._keeper.looks_ahead:
                self.state.forerunner = self._keeper
        else:
            self._keeper = Plain(policies.residency)
        if self.state.foreseer is not None:
            self._keeper = Weighed(self._keeper, self.state.foreseer, self.state.models)

    def handle(self, events: Sequence[Event], now_ns: int) -> list[Action]:
        """Apply events in order, reconcile once, and return what to do.

        Args:
            events: What happened, oldest first; may be empty.
            now_ns: The time, never before that of the last call.

        Raises:
            InvariantError: Time ran backwards.
        """
        state = self.state
        if now_ns < state.now_ns:
            raise InvariantError(
                f"time must not run backwards: {now_ns} ns after {state.now_ns} ns"
            )
        state.now_ns = now_ns
        step = Step(state, self.params, self._deciding, self._keeper, [])
        for event in events:
            TRANSITIONS[type(event)](step, event)
        if state.untold:
            tell_progress(state)
        fire_due(step)
        if step.doubts:
            settle_doubts(step)
        if state.drain_deadline_ns >= 0 and not state.requests:
            state.dirty.update(state.devices)
        while True:
            foresee(step)
            if state.retiring:
                retire(step)
            if state.dirty:
                reconcile_residency(step)
            dispatch_all(step)
            if not state.dirty and not state.unready:
                break
        complete_drain(step)
        arm(step)
        return step.actions

    def estimate(self, request: Request) -> Expectation | None:
        """What is to be expected if a request came now; None where no planner can tell."""
        model = self.state.models.get(request.model)
        planner: object = self.state.planner
        if model is None or not isinstance(planner, Estimator) or not model.has_ready():
            return None
        return planner.estimate(request, model, self.state.now_ns)

    def foretell(self, later: Later) -> int:
        """What a call that is yet to come would take, without the gap before it, ns."""
        planner: object = self.state.planner
        if isinstance(planner, Foretelling):
            return planner.foretell(later)
        return rough_rest_ns((later,)) - later.gap_ns

    def place(self, request: Request) -> Placing:
        """Which model would serve a request if it came now, or why none would."""
        step = Step(self.state, self.params, self._deciding, self._keeper, [])
        return place(step, request)

    def plan(self, model_id: str) -> ResidencyPlan | None:
        """What bringing a model up would take now; None if there is no such model."""
        model = self.state.models.get(model_id)
        if model is None:
            return None
        step = Step(self.state, self.params, self._deciding, self._keeper, [])
        return plan_residency(step, model)

    def judge(self, change: ConfigChanged) -> None:
        """Whether a change could be what a scheduler begins with; nothing is changed.

        Raises:
            ConfigError: As when a scheduler is built with what would come of it.
        """
        specs = {one.spec.id: one.spec for one in self.state.models.values() if one.retires_ns < 0}
        for name in change.removed:
            specs.pop(name, None)
        for spec in (*change.adjusted, *change.replaced, *change.added):
            specs[spec.id] = spec
        devices = [device.spec for device in self.state.devices.values()]
        Scheduler(tuple(specs.values()), devices, self.policies, self.params)

    def snapshot(self) -> Snapshot:
        """A copy of what there is to see, as of the last `handle`."""
        return take_snapshot(self.state)

    def model_snapshot(self, model_id: str) -> ModelSnapshot | None:
        """A copy of what there is to see of one model; None if there is no such model."""
        model = self.state.models.get(model_id)
        return model_snapshot(self.state, model) if model else None

    def __repr__(self) -> str:
        return f"Scheduler({self.state!r})"


def _check_specs(models: Sequence[ModelSpec], devices: Sequence[DeviceSpec]) -> None:
    by_id = {device.id: device for device in devices}
    if len(by_id) != len(devices) or len({model.id for model in models}) != len(models):
        raise ConfigError("two models or two devices have the same id; make each id unique")
    pinned = dict.fromkeys(by_id, 0)
    for model in models:
        _check_homes(model, by_id)
        if model.places < 1 or model.replicas < 1 or model.bytes_needed < 0:
            raise ConfigError(
                f"model {model.id}: places and replicas must be at least 1 and bytes not negative"
            )
        if problem := _sleep_problem(model, by_id):
            raise ConfigError(problem)
        _check_apart(model, models)
        if model.pinned and len(model.homes) == 1:
            pinned[model.device] += model.bytes_needed * model.replicas
    for device in devices:
        if not 0.0 < device.speed < _SPEED_MAX:
            raise ConfigError(
                f"device {device.id}: a speed of {device.speed} times as fast makes no sense; give "
                f"a number above 0 and below {_SPEED_MAX:.0f}"
            )
        if device.host and (device.host == device.id or device.host not in by_id):
            raise ConfigError(
                f"device {device.id}: its host memory is {device.host!r}, which is not another "
                f"device; known devices: {', '.join(by_id)}"
            )
    for device_id, needed in pinned.items():
        if needed > by_id[device_id].budget_bytes:
            raise ConfigError(
                f"the models pinned to device {device_id} need {format_bytes(needed)}, but its "
                f"budget is {format_bytes(by_id[device_id].budget_bytes)}: pin fewer models"
            )


def _check_homes(model: ModelSpec, devices: Mapping[str, DeviceSpec]) -> None:
    """The devices of a model are there, each once, and none bounds what runs on it."""
    for name in model.homes:
        if name not in devices:
            raise ConfigError(
                f"model {model.id} is placed on device {name!r}, which does not exist; "
                f"known devices: {', '.join(devices)}"
            )
    if model.device != model.homes[0] or len(set(model.homes)) != len(model.homes):
        raise ConfigError(
            f"model {model.id}: its devices {', '.join(model.homes)} must each be named once, the "
            f"first being {model.device!r}"
        )
    bounded = [name for name in model.homes if devices[name].window]
    if bounded and len(model.homes) > 1:
        raise ConfigError(
            f"model {model.id} has a choice of devices, but {bounded[0]} has a window: give that "
            "device window 0 and bound the model's places instead"
        )


def _check_apart(model: ModelSpec, models: Sequence[ModelSpec]) -> None:
    """Two pinned models must not have to be apart."""
    for other in models if model.pinned and model.apart else ():
        shared = sorted(set(model.apart).intersection(other.apart))
        together = not set(model.homes).isdisjoint(other.homes)
        here = other.pinned and together and other.id != model.id
        if here and shared:
            raise ConfigError(
                f"models {model.id} and {other.id} are both pinned, and both in group "
                f"{shared[0]!r} of models of which one is up at a time: pin one of them"
            )


def _sleep_problem(model: ModelSpec, devices: Mapping[str, DeviceSpec]) -> str:
    """Why a model cannot sleep as it says; empty if it can."""
    if model.sleep_level not in {0, 1, 2}:
        return f"model {model.id}: sleep level {model.sleep_level}; levels are 0, 1 and 2"
    keeps = model.residual_bytes
    if model.sleep_level and (not 0 <= keeps <= model.bytes_needed or model.host_bytes < 0):
        return (
            f"model {model.id}: asleep it keeps {format_bytes(keeps)} on its device and takes "
            f"{format_bytes(model.host_bytes)} of host memory: neither may be negative, and the "
            f"first is at most what it needs awake, {format_bytes(model.bytes_needed)}"
        )
    homeless = [name for name in model.homes if not devices[name].host]
    if model.sleep_level and model.host_bytes and homeless:
        return (
            f"model {model.id} sleeps in {format_bytes(model.host_bytes)} of host memory, but "
            f"device {homeless[0]} names no host: add one to the device, or use sleep level 2"
        )
    return ""
