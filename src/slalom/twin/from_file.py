"""From a scenario file to what the twin plays: one `Scenario` for each policy, seed and rate.

Owns the translation and the reading of `--policy`. Owns no law: engines come from
`from_file_engine`, loads from `slalom.workload`. Called by `compare`, which the commands run on.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from slalom.config.nearest import nearest
from slalom.config.params import policies as built_policies
from slalom.config.params import scheduler_params
from slalom.config.scenario_file import ScenarioModel
from slalom.config.scenario_load import LoadedScenario
from slalom.core.policy import Policies
from slalom.core.request import Alternatives, DeviceSpec, ModelSpec, Request, StepCost
from slalom.errors import ConfigError
from slalom.policies.registry import DEFAULT_KINDS, POLICIES, Slot, build
from slalom.twin.engine_model import StepLaw
from slalom.twin.engine_specs import EngineSpec
from slalom.twin.faults import FaultPlan
from slalom.twin.from_file_engine import engine_laws
from slalom.twin.scenario import Arrival, DoubtPlan, Link, LoadLaw, Scenario, SleepLaw, TwinModel
from slalom.twin.step_costs import step_cost_of
from slalom.units import SECOND, seconds_to_ns
from slalom.workload.load import LoadItem, LoadPlan, iter_load

#: The models of an alias, and the tasks that others than the first may serve.
Alias: TypeAlias = tuple[Alternatives, tuple[str, ...]]
#: Name of the scheduler section's own policies.
DEFAULT = "default"


def policy_sets(loaded: LoadedScenario, asked: Sequence[str] = ()) -> dict[str, Policies]:
    """The policies to compare, by name.

    Args:
        loaded: The scenario.
        asked: Names of the file's sets, or `slot=kind,slot=kind`; without any, all of the file's
            sets, or the scheduler section's own if it has none.

    Raises:
        ConfigError: There is no such set, slot or policy.
    """
    names = asked or list(loaded.file.policies) or [DEFAULT]
    return {name: _policy_set(loaded, name) for name in names}


def _policy_set(loaded: LoadedScenario, name: str) -> Policies:
    base = built_policies(loaded.file.scheduler)
    if name == DEFAULT and name not in loaded.file.policies:
        return base
    if "=" in name:
        return replace(base, **_read_choice(name))  # type: ignore[arg-type]  # slots match
    section = loaded.file.policies.get(name)
    if section is None:
        known = [*loaded.file.policies, DEFAULT]
        raise ConfigError(
            f"--policy {name}: {loaded.path} has no such set; {nearest(name, known)} "
            "A set of your own is written admission=drop-late,ordering=edf"
        )
    chosen = {slot: getattr(section, slot) for slot in POLICIES}
    given = {
        slot: build(slot, made.kind, made.options())
        for slot, made in chosen.items()
        if made is not None
    }
    return replace(base, **given)  # type: ignore[arg-type]  # slots match


def _read_choice(text: str) -> dict[str, object]:
    """`admission=drop-late,ordering=edf` as policies by slot."""
    chosen: dict[str, object] = {}
    slots: dict[str, Slot] = {str(slot): slot for slot in DEFAULT_KINDS}
    for part in text.split(","):
        name, _, kind = part.strip().partition("=")
        slot = slots.get(name)
        if slot is None or not kind:
            raise ConfigError(
                f"--policy {text}: {part!r} is not slot=kind; slots: {', '.join(slots)}"
            )
        chosen[name] = build(slot, kind)
    return chosen


def scenario_of(
    loaded: LoadedScenario, policies: Policies, seed: int, *, rate_scale: float = 1.0
) -> Scenario:
    """What the twin plays.

    Args:
        loaded: The scenario file.
        policies: Who decides.
        seed: Of load and world; the same for each policy, so that they can be compared in pairs.
        rate_scale: The load is so many times as fast.

    Raises:
        ConfigError: A model's step times cannot be read.
    """
    file = loaded.file
    plan = loaded.plan if rate_scale == 1 else loaded.plan.scaled(rate_scale)
    return Scenario(
        models=tuple(_model(section, loaded.path.parent) for section in file.models),
        shared_devices=tuple(one.id for one in file.devices if one.shared),
        devices=tuple(
            DeviceSpec(one.id, one.budget, one.window, one.host or "", one.speed)
            for one in file.devices
        ),
        arrivals=Arrivals(
            plan,
            seed,
            frozenset(m.id for m in file.models if m.resumable),
            {alias.id: (alias.alternatives(), alias.tasks) for alias in file.aliases},
        ),
        policies=policies,
        params=scheduler_params(file.scheduler),
        faults=FaultPlan(**dict(file.faults)),
        seed=seed,
        doubts=DoubtPlan(
            file.doubts.unsure,
            file.doubts.broken,
            whole=any(alias.parse for alias in file.aliases),
        ),
        until_ns=1 << 62,
        links=tuple(Link(link.id, link.bytes_per_second) for link in file.links),
    )


def _model(section: ScenarioModel, folder: Path) -> TwinModel:
    laws = engine_laws(section, folder)
    load = LoadLaw(
        seconds_to_ns(section.load.fixed_seconds),
        section.load.bytes_per_second,
        links=section.load.links,
        weight_bytes=section.load.weights,
    )
    return TwinModel(
        spec=ModelSpec(
            id=section.id,
            device=section.homes[0],
            devices=section.devices if len(section.devices) > 1 else (),
            bytes_needed=section.bytes,
            places=section.places,
            replicas=section.replicas,
            pinned=section.pinned,
            step_cost=_known_cost(section, laws),
            load_ns=load.load_ns(section.load.weights or section.bytes),
            **_rest(section),  # type: ignore[arg-type]  # whole numbers of sleep
        ),
        **laws,
        load=load,
        sleep=_sleep_law(section),
    )


def _rest(section: ScenarioModel) -> dict[str, int]:
    """What the scheduler knows of a model's sleep."""
    sleep = section.sleep
    if sleep is None:
        return {}
    weights = sleep.weights or section.bytes
    host_bytes = weights if sleep.level == 1 else 0
    return {
        "sleep_level": sleep.level,
        "host_bytes": host_bytes,
        "residual_bytes": sleep.residual,
        "wake_ns": _sleep_law(section).move_ns(weights),
        "deep_wake_ns": _deep_wake_ns(section, weights),
    }


def _deep_wake_ns(section: ScenarioModel, weights: int) -> int:
    sleep = section.sleep
    if sleep is None or not sleep.deep or sleep.level != 1:
        return 0
    per_s = section.load.bytes_per_second
    return seconds_to_ns(sleep.fixed_seconds) + weights * SECOND // per_s


def _sleep_law(section: ScenarioModel) -> SleepLaw:
    sleep = section.sleep
    if sleep is None:
        return SleepLaw()
    return SleepLaw(
        fixed_ns=seconds_to_ns(sleep.fixed_seconds),
        bytes_per_s=sleep.bytes_per_second,
        first_bytes_per_s=sleep.first_bytes_per_second,
        weight_bytes=sleep.weights,
        links=sleep.links,
        deep=sleep.deep,
    )


def _known_cost(section: ScenarioModel, laws: Mapping[str, Any]) -> StepCost | None:
    """What planners are told of a model's step times."""
    if section.calibrated is False:
        return None
    engine: EngineSpec | StepLaw = laws.get("engine") or laws["step"]
    cost = step_cost_of(engine, places=section.places)
    return cost if section.calibrated is True else cost.scaled(section.calibrated)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """A load's arrivals, drawn anew each time they are asked for, so that none need be kept."""

    plan: LoadPlan
    seed: int
    #: Models whose answers can be broken off and continued.
    resumable: AbstractSet[str]
    #: Names that stand for several models: these, and the tasks that others than the first may
    #: serve (empty for all).
    aliases: Mapping[str, Alias] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Arrival]:
        """In the order of their times."""
        for item in iter_load(self.plan, self.seed):
            yield _arrival(item, self.resumable, self.aliases)


def _arrival(item: LoadItem, resumable: AbstractSet[str], aliases: Mapping[str, Alias]) -> Arrival:
    alternatives, tasks = aliases.get(item.model, (None, ()))
    models = alternatives.models if alternatives is not None else (item.model,)
    if tasks and item.task not in tasks:
        alternatives = None
    request = Request(
        id=item.id,
        model=models[0],
        task=item.task,
        sla=item.sla,
        arrived_ns=max(item.at_ns, 0),
        prompt_tokens=item.prompt_tokens,
        max_tokens=item.max_tokens,
        predicted_tokens=item.predicted_tokens,
        supersedes=item.supersedes,
        resumable=all(name in resumable for name in (models if alternatives else models[:1])),
        prefix=item.session,
        prefix_tokens=item.shared_tokens,
        alternatives=alternatives,
        link=item.link,
        weight=item.weight,
    )
    return Arrival(
        request=request,
        output_tokens=item.output_tokens,
        patience_ns=item.give_up_after_ns,
        shared_tokens=item.shared_tokens,
        session=item.session,
        then=_arrival(item.then, resumable, aliases) if item.then else None,
        gap_ns=item.then.gap_ns if item.then else 0,
        stale_ns=item.stale_after_ns,
        retries=item.retries,
    )
