"""What all loads of part 1 say together: the tables that a reader sees first, and the figure.

Owns these tables, the paper's published figures beside ours, and the drawing. Loads and their
results are `paper`'s.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from slalom.bench.fleet import doubling, knee
from slalom.bench.fleet.choices import CATO, OURS, RAY, ROUND_ROBIN
from slalom.bench.fleet.doubling import PUBLISHED, changes
from slalom.bench.fleet.paper import FIGURES, SETTINGS, Load, best
from slalom.bench.sla.tables import table
from slalom.twin.plots import pyplot, save

_HINDSIGHT = "with full knowledge"
#: Name of the figure, beside the page.
FIGURE = "fleet-good.svg"


def section(found: Sequence[Load], at_knee: Sequence[Load] = ()) -> Iterator[str]:
    """The part, line by line.

    Args:
        found: All loads.
        at_knee: Those at the knees; none to leave these out.
    """
    yield _OPENING
    yield from _good(found)
    yield from _four(found)
    yield from doubling.section(_groups(found))
    yield from _near(found)
    if at_knee:
        yield from knee.section(at_knee)
    yield _READING


def _good(found: Sequence[Load]) -> Iterator[str]:
    """Good answers of everybody, and of full knowledge, at each number of requests."""
    groups = _groups(found)
    yield "\n### Good answers, %\n\nMeans over uniform, Poisson and bursty arrivals.\n"
    heads = [f"{SETTINGS[setting][0]}, {per_minute}" for setting, per_minute in groups]
    whole = [[_good_of(group, who) for group in groups.values()] for who in found[0].board]
    best = [max(column) for column in zip(*whole, strict=True)]
    rows = [
        [who, *(_bold(one, top) for one, top in zip(line, best, strict=True))]
        for who, line in zip(found[0].board, whole, strict=True)
    ]
    if all(load.limits for load in found):
        rows.append([_HINDSIGHT, *(f"{_known(group):.1f}" for group in groups.values())])
    yield from table(["scheduler", *heads], rows)
    yield f"\n![Good answers by load]({FIGURE})"


def _four(found: Sequence[Load]) -> Iterator[str]:
    """The paper's figures against Ray Serve's rules, over all loads of a set-up."""
    yield (
        "\n### The paper's four figures against Ray Serve's rules, %\n\nMeans of the changes over "
        "all loads, and in brackets the best of them: the paper says *up to*.\n"
    )
    rows = [["CATO, as published", *(f"{one:+.1f}" for one in PUBLISHED)]]
    for setting, (about, _) in SETTINGS.items():
        mine = [load for load in found if load.setting == setting]
        for who in mine[0].board if mine else ():
            if who != RAY.name:
                whole = [changes(mine, who, number) for number in range(len(FIGURES))]
                rows.append([f"{who}, {about}", *map(_mean_and_best, whole, range(len(FIGURES)))])
    yield from table(["scheduler, set-up", *(name for name, _, _ in FIGURES)], rows)


def _mean_and_best(found: Sequence[float], number: int) -> str:
    top = min(found) if FIGURES[number][2] else max(found)
    return f"{fmean(found):+.1f} ({top:+.1f})"


def _near(found: Sequence[Load]) -> Iterator[str]:
    """How near the default comes to full knowledge."""
    if not all(load.limits for load in found):
        return
    yield (
        "\n### The default beside full knowledge, %\n\nGood answers as a share of those of the "
        "schedule that knows every length and the best way to hand the machines out, over the "
        "seeds of which that was found.\n"
    )
    groups = _groups(found)
    heads = ["scheduler", *(f"{SETTINGS[setting][0]}, {count}" for setting, count in groups)]
    rows = []
    for who in (ROUND_ROBIN.name, CATO.name, OURS.name):
        shares = []
        for group in groups.values():
            mine = fmean(
                row["attainment"] for load in group for row in load.board[who][: len(load.limits)]
            )
            shares.append(f"{100 * mine / (_known(group) / 100):.1f}")
        rows.append([who, *shares])
    yield from table(heads, rows)


def draw(found: Sequence[Load], folder: Path) -> Path:
    """Good answers by load, a panel for each set-up.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    plt = pyplot()
    figure, panels = plt.subplots(1, len(SETTINGS), sharey=True, figsize=(10, 4))
    for axes, (setting, (about, _)) in zip(panels, SETTINGS.items(), strict=True):
        groups = {count: one for (name, count), one in _groups(found).items() if name == setting}
        counts = list(groups)
        for who in found[0].board:
            good = [_good_of(group, who) for group in groups.values()]
            axes.plot(counts, good, marker="o", label=who, linewidth=3 if who == OURS.name else 1)
        if all(load.limits for load in found):
            known = [_known(group) for group in groups.values()]
            axes.plot(counts, known, color="0.6", linestyle="--", label=_HINDSIGHT)
        axes.set(title=about, xlabel="requests a minute", xticks=counts, ylim=(0, 100))
    panels[0].set_ylabel("good answers, %")
    panels[-1].legend(fontsize=8)
    figure.tight_layout()
    return save(plt, figure, folder / FIGURE)


def _groups(found: Sequence[Load]) -> dict[tuple[str, int], list[Load]]:
    """Loads that differ in their arrivals alone."""
    groups: dict[tuple[str, int], list[Load]] = {}
    for load in found:
        groups.setdefault((load.setting, load.per_minute), []).append(load)
    return groups


def _good_of(group: Sequence[Load], who: str) -> float:
    return 100 * fmean(row["attainment"] for load in group for row in load.board[who])


def _known(group: Sequence[Load]) -> float:
    """Good answers with full knowledge, %: the better of that schedule and of the default's own."""
    return 100 * fmean(best(load, seed) for load in group for seed in range(len(load.limits)))


def _bold(one: float, top: float) -> str:
    return f"**{one:.1f}**" if one == top else f"{one:.1f}"


_OPENING = """\
## CATO's set-up

Two machines of four GPUs, a replica on each; completion, generation, summarisation and translation
at once, 100 to 200 requests in a minute after some seconds of warm-up; uniform, Poisson and bursty
arrivals (thirty at a time). From the paper: two machines, the tasks, the numbers of requests, the
kinds of arrivals, Ray Serve and round robin to compare with. Ours: the hardware (A100), models of
33 and 34 billion parameters, so that this load fills the machines; lengths and targets, as in
`scenarios/fleet-*.yaml`; *utilisation* as good tokens of TTFT-critical tasks by replica second,
which counts from the beginning of a load. *Round robin* has a fixed number of replicas that fills
the machines from the start; the others begin with none. P95s are of whole answers, so that
*answered* belongs to them: whoever answers fewer has an easier time."""

#: In words, without numbers: to be read again after each run of the benchmark.
_READING = """
### What this says, and what it does not

- The default has more good answers than every other row at every number of requests, in both
  set-ups. It fills the machines as a fixed fleet does, and refuses or lets wait whom it cannot
  help; where others serve all, each a little late, it serves most on time.
- `cato` shows the paper's direction in all four figures with two models, and with a model for each
  task at 100 requests a minute. From 150 on its scaling gives the machines there to whichever
  model is late first, and good tokens by replica second fall.
- Twice the gains, the paper's and those of `cato` itself: the lines below these tables count. What
  stands in brackets is all there is: with a model for each task the P95 of summarisation is nearly
  what an engine takes that has nothing else to do, so that at 100 a minute no schedule lowers it by
  a third. Against a fixed fleet that fills the machines from the start, the two latencies have
  little room, and only good answers tell the two apart.
- Full knowledge knows each answer's length and the best way to hand the machines out beforehand.
  Of what the default loses to that, most is due to the lengths: told of them, and with the same
  equal parts, it is nearly there. The parts cost little within a minute, since no way to hand the
  machines out suits even arrivals and bursts.
- It pays in the burst: a completion that comes with twenty others is refused where a generation of
  the same burst is saved, so that `answered` is below a hundred."""
