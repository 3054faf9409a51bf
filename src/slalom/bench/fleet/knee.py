"""Part 1, at the knee: the default beside full knowledge where a fixed fleet begins to be overrun.

Owns the search of the knee of each set-up and kind of arrivals, by the definition of
`slalom.bench.sla.knees`, what is played there, and the table. Loads and runs are as in `paper`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from slalom.bench.fleet.cells import Arrivals, Cell
from slalom.bench.fleet.choices import OURS, ROUND_ROBIN, fixed
from slalom.bench.fleet.paper import ARRIVALS, PER_MINUTE, SETTINGS, Load, best, play_load
from slalom.bench.fleet.running import Runner
from slalom.bench.sla.knees import FACTORS, is_past, knee
from slalom.bench.sla.tables import table
from slalom.metrics.confidence import estimate

#: Of full knowledge's good answers so many are asked of the default, %.
_ASKED = 90.0


def loads(runner: Runner, folder: Path, seeds: int) -> list[Load]:
    """Find each knee, and play there whom the table compares.

    Args:
        runner: Plays.
        folder: With the scenario files.
        seeds: Repetitions of each load, of the search and of full knowledge.
    """
    found = []
    for (setting, arrivals), factor in _knees(runner, folder, seeds).items():
        path, rows = _path(folder, setting), (fixed(SETTINGS[setting][1]), OURS)
        place = (setting, arrivals, round(PER_MINUTE * factor))
        found.append(play_load(runner, path, place, rows, seeds, seeds))
    return found


def _knees(runner: Runner, folder: Path, seeds: int) -> dict[tuple[str, Arrivals], float]:
    """The factors of the files' rates at which a first-come router over fixed replicas has them."""
    shares: dict[tuple[str, Arrivals], list[float]] = {
        (setting, arrivals): [] for setting in SETTINGS for arrivals in ARRIVALS
    }
    for factor in FACTORS:
        left = [place for place, found in shares.items() if not is_past(found)]
        cells = {
            (place, seed): Cell(
                _path(folder, place[0]), place[1], factor, seed, fixed(SETTINGS[place[0]][1])
            )
            for place in left
            for seed in range(seeds)
        }
        results = runner.play(cells.values(), f"knees, {factor:.2g} of the files' rates")
        for place in left:
            good = fmean(results[cells[place, seed]]["attainment"] for seed in range(seeds))
            shares[place].append(good)
    return {place: knee(FACTORS[: len(found)], found) for place, found in shares.items()}


def _path(folder: Path, setting: str) -> str:
    return str(folder / f"{setting}.yaml")


def section(found: Sequence[Load]) -> Iterator[str]:
    """The table, and in how many of its rows the default reaches what is asked of it."""
    lightest = round(PER_MINUTE * FACTORS[0])
    yield _ABOUT.format(asked=_ASKED, lightest=lightest)
    heads = [
        "set-up, arrivals",
        "knee, a minute",
        f"{ROUND_ROBIN.name}, good %",
        f"{OURS.name}, good %",
        "full knowledge, good %",
        "default of full knowledge, %",
    ]
    yield from table(heads, map(_row, found))
    shares = [_share(load) for load in found]
    met = sum(share >= _ASKED for share in shares)
    yield (
        f"\nAt least {_ASKED:.0f} % in {met} of {len(found)} rows; {fmean(shares):.1f} % on "
        f"average, {min(shares):.1f} % in the worst."
    )


def _row(load: Load) -> list[str]:
    share = _share(load)
    text = f"{share:.1f}"
    return [
        f"{SETTINGS[load.setting][0]}, {load.arrivals}",
        str(load.per_minute),
        *(_good(load, who) for who in (ROUND_ROBIN.name, OURS.name)),
        f"{100 * fmean(_known(load)):.1f}",
        f"**{text}**" if share >= _ASKED else text,
    ]


def _good(load: Load, who: str) -> str:
    found = estimate([100 * row["attainment"] for row in load.board[who]])
    margin = "" if found.margin is None else f" ±{found.margin:.1f}"
    return f"{found.mean:.1f}{margin}"


def _known(load: Load) -> list[float]:
    return [best(load, seed) for seed in range(len(load.limits))]


def _share(load: Load) -> float:
    """The default's good answers, as a percentage of those with full knowledge."""
    mine = [row["attainment"] for row in load.board[OURS.name][: len(load.limits)]]
    return 100 * fmean(mine) / max(fmean(_known(load)), 1e-9)


_ABOUT = """
### At the knee

The knee of a set-up is the rate at which a plain first-come router over a fixed number of replicas
has nine tenths of the share of good answers that it has at {lightest} requests a minute: where the
machines begin to be short. Bold is at least {asked:.0f} % of full knowledge.
"""
