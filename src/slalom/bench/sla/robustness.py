"""Part 3: what plan-and-trim loses where its predictions are wrong, and how soon it recovers.

Owns the disturbances, the loads they are tried on, and the arithmetic of loss and recovery. The
same policy on the same arrivals, well calibrated, is what a loss is against. Called by the command.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slalom.bench.sla.cells import BIN_S, Cell, Load, Result
from slalom.bench.sla.choices import Choice, for_any_engine
from slalom.bench.sla.knees import knees, standing
from slalom.bench.sla.running import Runner
from slalom.bench.sla.settings import Part, Settings
from slalom.bench.sla.tables import cell, points, table
from slalom.metrics.confidence import estimate

#: Policies that are disturbed, and one that predicts nothing.
_NAMES = ("edf-drop", "saber", "plan-and-trim")
#: How long the loads are that recovery is read from, and at how many times the knee.
_STRETCH, _MULTIPLE = 0.8, 1.5
#: Recovered is who loses no more than this for the rest of the run, over windows of three bins.
_CLOSE = 0.03
_WINDOW = 3


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Something that makes predictions wrong."""

    name: str
    calibrated: float = 1.0
    predicted: float = 1.0
    shift: float = 1.0

    def disturbed(self, load: Load) -> Load:
        """The load as it is then."""
        return replace(load, calibrated=self.calibrated, predicted=self.predicted, shift=self.shift)

    def undisturbed(self, load: Load) -> Load:
        """The same arrivals with right predictions."""
        return replace(load, shift=self.shift, shift_told=True)


DISTURBANCES = (
    Disturbance("step times × 0.6", calibrated=0.6),
    Disturbance("step times × 1.6", calibrated=1.6),
    Disturbance("step times unknown", calibrated=0.0),
    Disturbance("lengths × 0.5", predicted=0.5),
    Disturbance("lengths × 2", predicted=2.0),
    Disturbance("step times × 0.6, lengths × 0.5", calibrated=0.6, predicted=0.5),
    Disturbance("all lengths double at half time", shift=2.0),
)


@dataclass(frozen=True, slots=True)
class Scene:
    """A load to be disturbed."""

    name: str
    load: Load
    #: Whether it lasts long enough to show a recovery.
    long: bool = False


def scenes(settings: Settings, runner: Runner) -> Iterator[Scene]:
    """SABER's at three points, and two standing loads beyond the knee."""
    for name, file, rate in (
        ("W1 at 6", "saber-w1.yaml", 6),
        ("W1 at 10", "saber-w1.yaml", 10),
        ("W3 at 10", "saber-w3.yaml", 10),
    ):
        if not settings.quick:
            yield Scene(name, Load(str(settings.folder / file), rate / 6, places=100))
    kinds = [one for one in standing(settings) if one.name in {"poisson", "azure-code"}]
    loads = {one.name: one.load(settings.folder) for one in kinds}
    found = knees(settings, runner, loads, "robustness")
    for name, load in loads.items():
        stretch = load.stretch if load.slice_s or settings.quick else _STRETCH
        beyond = replace(load, rate=found[name] * _MULTIPLE, stretch=stretch)
        yield Scene(f"{name} at {_MULTIPLE:g} × knee", beyond, long=not load.slice_s)


def part(settings: Settings, runner: Runner) -> Part:
    """Run it."""
    chosen = [one for one in for_any_engine(settings.only) if one.name in _NAMES]
    played = scenes(settings, runner)
    found = [
        Finding(scene, disturbance, settings.seeds)
        for scene in played
        for disturbance in (
            DISTURBANCES[:: len(DISTURBANCES) - 1] if settings.quick else DISTURBANCES
        )
    ]
    cells = dict.fromkeys(
        cell
        for one in found
        for choice in chosen
        for cell in [*one.right(choice), *one.wrong(choice)]
    )
    results = runner.play(cells, "robustness")
    text = "\n".join(section(settings, found, chosen, results))
    return Part(text, _document(found, chosen, results))


@dataclass(frozen=True, slots=True)
class Finding:
    """A scene under a disturbance."""

    scene: Scene
    disturbance: Disturbance
    seeds: int

    def wrong(self, choice: Choice) -> list[Cell]:
        """Disturbed runs, by seed."""
        load = self.disturbance.disturbed(self.scene.load)
        return [Cell(load, seed, choice) for seed in range(self.seeds)]

    def right(self, choice: Choice) -> list[Cell]:
        """The runs they are compared with."""
        load = self.disturbance.undisturbed(self.scene.load)
        return [Cell(load, seed, choice) for seed in range(self.seeds)]


def recovery_s(right: Sequence[Result], wrong: Sequence[Result], from_s: float) -> float | None:
    """When the loss became small for good, s after it began; None if it never did.

    Args:
        right: Runs with right predictions, by seed.
        wrong: The same arrivals with wrong ones.
        from_s: When predictions became wrong.
    """
    one, other = _pooled(right), _pooled(wrong)
    length = min(len(one), len(other))
    recovered = None
    for place in range(int(from_s // BIN_S), length - _WINDOW + 1):
        window = slice(place, place + _WINDOW)
        counted = sum(n for n, _ in one[window])
        lost = sum(good for _, good in one[window]) - sum(good for _, good in other[window])
        if counted and lost / counted > _CLOSE:
            recovered = None
        elif recovered is None:
            recovered = place * BIN_S - from_s
    return None if recovered is None else max(recovered, 0.0)


def _pooled(results: Sequence[Result]) -> list[tuple[int, int]]:
    """[requests, good ones] of each bin, over all seeds."""
    length = max((len(result["bins"]) for result in results), default=0)
    return [
        (
            sum(result["bins"][place][0] for result in results if place < len(result["bins"])),
            sum(result["bins"][place][1] for result in results if place < len(result["bins"])),
        )
        for place in range(length)
    ]


def section(
    settings: Settings,
    found: Sequence[Finding],
    chosen: Sequence[Choice],
    results: Mapping[Cell, Result],
) -> Iterator[str]:
    """The part of the page, line by line."""
    yield _ABOUT.format(seeds=settings.seeds, close=round(_CLOSE * 100), window=_WINDOW * BIN_S)
    heads = ["disturbance", *(choice.name for choice in chosen)]
    for scene in dict.fromkeys(one.scene for one in found):
        more = "; time to recover" if scene.long else ""
        yield f"\n**{scene.name}**: good, % (against right predictions, points{more}):\n"
        rows = []
        for one in found:
            if one.scene == scene:
                cells = [_cell(one, choice, results) for choice in chosen]
                rows.append([one.disturbance.name, *cells])
        yield from table(heads, rows)
    yield "\n![Good requests over time, with right and wrong predictions](sla-robustness.svg)"


def _cell(one: Finding, choice: Choice, results: Mapping[Cell, Result]) -> str:
    wrong = [results[cell] for cell in one.wrong(choice)]
    right = [results[cell] for cell in one.right(choice)]
    shares = [result["attainment"] for result in wrong]
    lost = [w["attainment"] - r["attainment"] for w, r in zip(wrong, right, strict=True)]
    text = f"{cell(estimate(shares), 100)} ({points(estimate(lost))}"
    if one.scene.long:
        took_s = recovery_s(right, wrong, _from_s(one, right))
        text += "; not within the run" if took_s is None else f"; {took_s:.0f} s"
    return text + ")"


def _from_s(one: Finding, right: Sequence[Result]) -> float:
    """When predictions become wrong."""
    length = max(len(result["bins"]) for result in right)
    return length * BIN_S / 2 if one.disturbance.shift != 1 else 0.0


def _document(
    found: Sequence[Finding], chosen: Sequence[Choice], results: Mapping[Cell, Result]
) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for one in found:
        rows = document.setdefault(one.scene.name, {}).setdefault(one.disturbance.name, {})
        for choice in chosen:
            wrong = [results[cell] for cell in one.wrong(choice)]
            right = [results[cell] for cell in one.right(choice)]
            rows[choice.name] = {
                "attainment": estimate([result["attainment"] for result in wrong]).mean,
                "attainment_right": estimate([result["attainment"] for result in right]).mean,
                "bins": _pooled(wrong),
                "bins_right": _pooled(right),
            }
    return document


_ABOUT = """\
## Wrong predictions

What is lost where a policy is told wrong step times or lengths at the start, or where all prompts
and answers become twice as long in the middle of a run; {seeds} seeds, the same arrivals with right
predictions beside each. Step times × 0.6 are told too short. Lengths never exceed a request's own
limit, so that SABER's, which are exact, can only be told too short. Recovered is a policy that
loses at most {close} points in every window of {window} s from then on. The bursts of the Azure
trace are one of the loads."""
