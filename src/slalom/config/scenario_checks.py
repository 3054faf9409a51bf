"""What the sections of a scenario file must agree on.

Owns the checks that no section can make alone: names that must exist, names given twice, models
larger than their device. Called by `scenario_load`, which adds file and line.
"""

from collections.abc import Iterable, Iterator, Mapping

from slalom.config.alias_section import complaints
from slalom.config.nearest import nearest
from slalom.config.scenario_file import ScenarioFile
from slalom.config.scenario_loads import ClientsSection, MixEntrySection
from slalom.config.tree import KeyPath
from slalom.units import format_bytes
from slalom.workload.tasks import TaskSpec

#: Where, and what is wrong there.
Disagreement = tuple[KeyPath, str]


def disagreements(file: ScenarioFile, tasks: Mapping[str, TaskSpec]) -> Iterator[Disagreement]:
    """Everything that does not go together.

    Args:
        file: The scenario.
        tasks: The default tasks with the scenario's over them.
    """
    yield from _twice(
        (("models", index, "id"), model.id) for index, model in enumerate(file.models)
    )
    yield from _twice(
        (("devices", index, "id"), device.id) for index, device in enumerate(file.devices)
    )
    yield from _twice(
        (("clients", index, "name"), group.name) for index, group in enumerate(file.clients)
    )
    yield from _homes(file)
    yield from _beds(file)
    yield from _links(file)
    models = [model.id for model in file.models]
    for index, (field, what) in complaints(file.aliases, models, models, tasks):
        yield ("aliases", index, field), what
    models += [alias.id for alias in file.aliases]
    for index, group in enumerate(file.clients):
        yield from _mix(group, ("clients", index, "mix"), tasks, models)


def models_of(entry: MixEntrySection) -> tuple[str, ...]:
    """The models a kind of request may ask for, most wanted first."""
    return (entry.model,) if isinstance(entry.model, str) else entry.model


def _twice(names: Iterable[tuple[KeyPath, str]]) -> Iterator[Disagreement]:
    seen: set[str] = set()
    for at, name in names:
        if name in seen:
            yield at, f"{name!r} is given twice: rename or remove one"
        seen.add(name)


def _homes(file: ScenarioFile) -> Iterator[Disagreement]:
    budgets = {device.id: device.budget for device in file.devices}
    windows = {device.id for device in file.devices if device.window}
    for index, model in enumerate(file.models):
        at: KeyPath = ("models", index, "devices" if model.devices else "device")
        if model.devices and "device" in model.model_fields_set:
            yield at, "a model has device or devices, not both: write one of the two"
        if len(set(model.homes)) < len(model.homes):
            yield at, "each device can be named once"
        if len(model.homes) > 1 and (bounded := [one for one in model.homes if one in windows]):
            what = f"{bounded[0]} has a window, and a model with a choice of devices is bounded by"
            yield at, f"{what} its places: give the device window: 0"
        for name in model.homes:
            budget = budgets.get(name)
            if budget is None:
                yield at, f"there is no device {name!r}; {nearest(name, budgets)}"
            elif model.bytes > budget and len(model.homes) == 1:
                needs, has = format_bytes(model.bytes), format_bytes(budget)
                what = f"{model.id} needs {needs}, but {name} has {has}"
                yield (
                    ("models", index, "bytes"),
                    f"{what}: take a larger device or a smaller model",
                )


def _links(file: ScenarioFile) -> Iterator[Disagreement]:
    known = [link.id for link in file.links]
    for index, model in enumerate(file.models):
        for part, section in (("load", model.load), ("sleep", model.sleep)):
            for link in section.links if section else ():
                if link not in known:
                    what = f"{link!r} is not among links ({', '.join(known) or 'none'})"
                    yield ("models", index, part, "links"), f"{what}; {nearest(link, known)}"


def _beds(file: ScenarioFile) -> Iterator[Disagreement]:
    """Host memory for what sleeps at level 1."""
    hosts = {device.id: device.host for device in file.devices}
    for index, device in enumerate(file.devices):
        others = [name for name in hosts if name != device.id]
        if device.host is not None and device.host not in others:
            hint = nearest(device.host, others)
            what = f"{device.host!r} is no other device; {hint}"
            yield ("devices", index, "host"), what
    for index, model in enumerate(file.models):
        if model.sleep is None:
            continue
        at: KeyPath = ("models", index, "sleep")
        if model.sleep.residual > model.bytes:
            yield (*at, "residual"), "is more than the model's bytes: asleep it keeps less"
        homeless = [name for name in model.homes if hosts.get(name) is None]
        if model.sleep.level == 1 and homeless:
            what = (
                f"device {homeless[0]!r} has no host memory to sleep in: give it host: NAME of a "
                "device with the budget, or write level: 2"
            )
            yield at, what


def _mix(
    group: ClientsSection, at: KeyPath, tasks: Mapping[str, TaskSpec], models: list[str]
) -> Iterator[Disagreement]:
    for index, entry in enumerate(group.mix):
        if entry.task not in tasks:
            hint = nearest(entry.task, tasks)
            yield (*at, index, "task"), f"there is no task {entry.task!r}; {hint}"
        for model in models_of(entry):
            if model not in models:
                hint = nearest(model, models)
                yield (*at, index, "model"), f"there is no model {model!r}; {hint}"
        for place, call in enumerate(entry.chain.then if entry.chain else ()):
            where: KeyPath = (*at, index, "chain", "then", place)
            if call.task not in tasks:
                what = f"there is no task {call.task!r}; {nearest(call.task, tasks)}"
                yield (*where, "task"), what
            if call.model not in models:
                what = f"there is no model {call.model!r}; {nearest(call.model, models)}"
                yield (*where, "model"), what
