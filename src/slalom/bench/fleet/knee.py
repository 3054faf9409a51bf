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
    for setting, (_, static) in SETTINGS.items():
        path, plain = str(folder / f"{setting}.yaml"), fixed(static)
        for arrivals in ARRIVALS:
            per_minute = round(PER_MINUTE * _knee(runner, path, static, arrivals, seeds))
            place = (setting, arrivals, per_minute)
            found.append(play_load(runner, path, place, (plain, OURS), seeds, seeds))
    return found


def _knee(runner: Runner, path: str, static: int, arrivals: Arrivals, seeds: int) -> float:
    """The factor of the file's rate at which a first-come router over fixed replicas has it."""
    shares: list[float] = []
    for factor in FACTORS:
        cells = [Cell(path, arrivals, factor, seed, fixed(static)) for seed in range(seeds)]
        results = runner.play(cells, f"{Path(path).stem}, {arrivals}: knee, {factor:.2g}")
        shares.append(fmean(results[cell]["attainment"] for cell in cells))
        if is_past(shares):
            break
    return knee(FACTORS[: len(shares)], shares)


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
