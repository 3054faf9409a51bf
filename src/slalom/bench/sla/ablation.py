"""Part 4: plan-and-trim with each of its parts removed in turn.

Owns what removing a part means, the loads it is tried on, and the verdicts: a part earns its place
where the policy loses without it. Called by the command.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slalom.bench.sla.cells import Cell, Load
from slalom.bench.sla.choices import Choice, ours
from slalom.bench.sla.knees import knees, standing
from slalom.bench.sla.running import Runner
from slalom.bench.sla.settings import Part, Settings
from slalom.bench.sla.tables import points, table
from slalom.metrics.confidence import Estimate, estimate
from slalom.policies.registry import policy_class

#: What an option is set to when its part is removed; a flag that is on is turned off. Options that
#: are no parts (how far to look, how hard to try) are left alone.
OFF: Mapping[str, Any] = {
    "late": "refuse",
    "defer_max": 0,
    "displace_max": 0,
    "pauses_max": 0,
    "defer_pauses_max": 0,
    "read_ahead_ms": 0,
}
_SABER = (("W1 at 6", "saber-w1.yaml", 6), ("W1 at 20", "saber-w1.yaml", 20))
_SABER_MORE = (("W3 at 10", "saber-w3.yaml", 10), ("W3 at 20", "saber-w3.yaml", 20))
_STANDING = (
    "azure-code",
    "poisson",
    "gamma-cv4",
    "step",
    "many-models",
    "agents",
    "typing",
    "cato-poisson",
)
_MULTIPLE = 1.5


def removals(choice: Choice) -> dict[str, Choice]:
    """The policy without each of its parts, by the name of the option.

    Args:
        choice: The whole policy.
    """
    found = {}
    for option in dataclasses.fields(policy_class("admission", choice.kind)):
        off = False if option.default is True else OFF.get(option.name)
        if off is not None and off != option.default:
            changed = {option.name: off}
            found[option.name] = choice.changed(f"without {option.name}", **changed)
    return found


@dataclass(frozen=True, slots=True)
class Scene:
    """A load on which parts are tried."""

    name: str
    load: Load


def scenes(settings: Settings, runner: Runner) -> Iterator[Scene]:
    """Points of SABER's grid, and standing loads beyond the knee."""
    for name, file, rate in () if settings.quick else (*_SABER, *_SABER_MORE):
        yield Scene(name, Load(str(settings.folder / file), rate / 6, places=100))
    kinds = [one for one in standing(settings) if one.name in _STANDING]
    loads = {one.name: one.load(settings.folder) for one in kinds}
    for name, factor in knees(settings, runner, loads, "ablation").items():
        yield Scene(name, replace(loads[name], rate=factor * _MULTIPLE))


def part(settings: Settings, runner: Runner) -> Part:
    """Run it."""
    whole = ours()
    if whole is None:
        return Part("## Without each part\n\nThis version has no plan-and-trim.", {})
    places = list(scenes(settings, runner))
    without = removals(whole)
    cells = {
        (choice.name, scene.name, seed): Cell(scene.load, seed, choice)
        for choice in (whole, *without.values())
        for scene in places
        for seed in range(settings.seeds)
    }
    results = runner.play(cells.values(), "ablation")

    def shares(choice: Choice, scene: Scene) -> list[float]:
        return [
            results[cells[choice.name, scene.name, seed]]["attainment"]
            for seed in range(settings.seeds)
        ]

    losses = {
        name: {scene.name: loss(shares(whole, scene), shares(choice, scene)) for scene in places}
        for name, choice in without.items()
    }
    document = {
        name: {scene: one.mean for scene, one in row.items()} for name, row in losses.items()
    }
    return Part("\n".join(section(settings, losses)), document)


def loss(whole: Sequence[float], without: Sequence[float]) -> Estimate:
    """What is lost without a part, paired by seed; negative where it does harm."""
    return estimate([one - other for one, other in zip(whole, without, strict=True)])


def verdict(losses: Mapping[str, Estimate]) -> str:
    """Whether a part earns its place: somewhere it gains for sure."""
    gains = [name for name, one in losses.items() if one.low is not None and one.low > 0]
    harms = [name for name, one in losses.items() if one.high is not None and one.high < 0]
    if not gains:
        return "harms" if harms else "nothing"
    return "mixed" if harms else "earns"


def section(settings: Settings, losses: Mapping[str, Mapping[str, Estimate]]) -> Iterator[str]:
    """The part of the page, line by line."""
    yield _ABOUT.format(seeds=settings.seeds, multiple=_MULTIPLE)
    scene_names = list(next(iter(losses.values()), {}))
    rows = [
        [f"`{name}`", *(points(row[scene]) for scene in scene_names), verdict(row)]
        for name, row in losses.items()
    ]
    yield from table(["without", *scene_names, "verdict"], rows)


_ABOUT = """\
## Without each part

Plan-and-trim's good share of the requests less what is left of it without one of its parts, in
percentage points, paired over {seeds} seeds; standing loads at {multiple:g} times the knee. A part
*earns* its place where it gains on some load beyond its interval and harms on none; *mixed* is one
that does both, *nothing* one that does neither.
"""
