"""Part 1, twice the gains: the default beside twice what CATO reports, and twice what `cato` gains.

Owns these two tables, what there is to be gained at all, and the counting of what was reached.
Loads and their results are `paper`'s; called by `summary`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from slalom.bench.fleet.cells import Result
from slalom.bench.fleet.choices import CATO, OURS, RAY, ROUND_ROBIN
from slalom.bench.fleet.paper import FIGURES, SETTINGS, Load, change
from slalom.bench.sla.tables import table

#: What the paper reports against Ray Serve and round robin, %; "up to" for the first two.
PUBLISHED = (10.0, 41.1, -18.0, -14.0)
#: Of which figures the default is to reach twice as much.
_DOUBLED = (0, 2, 3)


@dataclass(frozen=True, slots=True)
class _Case:
    """A figure of the default at one number of requests, changes in %."""

    #: The default's, what is asked of it, and the most that there is.
    ours: float
    bar: float
    most: float
    is_less_better: bool

    @property
    def is_met(self) -> bool:
        """Whether it reaches what is asked of it."""
        return self.ours <= self.bar if self.is_less_better else self.ours >= self.bar

    @property
    def is_beyond(self) -> bool:
        """Whether nobody could reach that."""
        return self.bar < self.most if self.is_less_better else self.bar > self.most

    def text(self, *, with_bar: bool) -> str:
        """As the table has it."""
        found = f"**{self.ours:+.1f}**" if self.is_met else f"{self.ours:+.1f}"
        asked = f" of {self.bar:+.1f}" if with_bar else ""
        return f"{found}{asked} ({self.most:+.1f})"


def section(groups: Mapping[tuple[str, int], Sequence[Load]]) -> Iterator[str]:
    """Both tables, and a line below each that counts.

    Args:
        groups: Loads that differ in their arrivals alone, by set-up and requests a minute.
    """
    yield _PUBLISHED_ABOUT
    bars = [2 * PUBLISHED[number] for number in _DOUBLED]
    heads = ["load, against", *(FIGURES[number][0] for number in _DOUBLED)]
    rows, cases = [["twice CATO's", *(f"{bar:+.0f}" for bar in bars)]], []
    for place, group in groups.items():
        for base in (RAY.name, ROUND_ROBIN.name):
            found = [
                _case(group, base, number, bar) for number, bar in zip(_DOUBLED, bars, strict=True)
            ]
            rows.append([f"{_title(place)}, {base}", *(one.text(with_bar=False) for one in found)])
            cases.append((base, found))
    yield from table(heads, rows)
    for base in (RAY.name, ROUND_ROBIN.name):
        mine = [one for name, found in cases if name == base for one in found]
        yield f"\nAgainst {base}: {_counted(mine)}"
    yield _OWN_ABOUT
    lines, all_cases = [], []
    for place, group in groups.items():
        found = [
            _case(group, RAY.name, number, _twice(group, CATO.name, number)) for number in _DOUBLED
        ]
        lines.append([_title(place), *(one.text(with_bar=True) for one in found)])
        all_cases += found
    yield from table(["load", *heads[1:]], lines)
    yield f"\n{_counted(all_cases).capitalize()}"


def changes(group: Sequence[Load], who: str, number: int, base: str = RAY.name) -> list[float]:
    """Changes of one of the paper's figures, by load, %.

    Args:
        group: The loads.
        who: A row of theirs.
        number: Which figure.
        base: The row it is compared with.
    """
    key = FIGURES[number][1]
    found = [change(load.board[base], load.board[who], key) for load in group]
    return [one for one in found if one is not None]


def _case(group: Sequence[Load], base: str, number: int, bar: float) -> _Case:
    ours = _mean(changes(group, OURS.name, number, base))
    most = _mean([_most(load, base, number) for load in group])
    return _Case(ours, bar, most, FIGURES[number][2])


def _most(load: Load, base: str, number: int) -> float:
    """By how much a row's figure could change: all requests alone, or every one good."""
    _, key, is_less_better = FIGURES[number]
    before = load.board[base]
    if is_less_better:
        found = change(before, load.alone, key)
    else:
        found = change(before, [_all_good(row) for row in load.board[OURS.name]], key)
    return 0.0 if found is None else found


def _all_good(row: Result) -> Result:
    share = row["urgent"]
    return {"urgent_good_per_s": row["urgent_good_per_s"] / share if share else 0.0}


def _twice(group: Sequence[Load], who: str, number: int) -> float:
    """Twice a row's gain; nothing where it has none."""
    found = 2 * _mean(changes(group, who, number))
    return min(found, 0.0) if FIGURES[number][2] else max(found, 0.0)


def _counted(cases: Sequence[_Case]) -> str:
    met = sum(one.is_met for one in cases)
    beyond = sum(one.is_beyond and not one.is_met for one in cases)
    return (
        f"reached in {met} of {len(cases)} cells; of the others {beyond} are beyond what there is "
        "to be gained."
    )


def _mean(found: Sequence[float]) -> float:
    return fmean(found) if found else 0.0


def _title(place: tuple[str, int]) -> str:
    return f"{SETTINGS[place[0]][0]}, {place[1]}"


_PUBLISHED_ABOUT = """
### The default beside twice CATO's published gains, %

Means over the arrivals, against Ray Serve's rules and against round robin with a fixed number of
replicas, at the same load. Bold is at least twice the paper's. In brackets what there is to be
gained: if every request were good; if each had a replica for itself, waited for nothing, and all
were answered.
"""

_OWN_ABOUT = """
### The default beside twice the gains of `cato` in the same runs, %

Against Ray Serve's rules: the default's, twice `cato`'s, and in brackets what there is to be
gained. A P95 cannot fall by twice what is more than half of it.
"""
