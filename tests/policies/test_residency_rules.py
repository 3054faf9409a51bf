"""The rule of each residency policy, by worlds of two in which it names the one and not the other.

Owns one contrast for each rule and for each factor. Ties in all else: what is left is the rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from slalom.core.keeping import Keeper, Keeping, Need, Plain
from slalom.core.planning import Moment, Observation
from slalom.core.request import ModelSpec, Request, Sla
from slalom.policies.registry import build
from slalom.policies.residency.cace import Cace
from slalom.policies.residency.counting import Gdsf
from slalom.policies.residency.simple import Lemonade, Ollama
from slalom.units import GIB, MS, SECOND
from tests.policies.test_residency_penalty import View

NOW_NS = 100 * SECOND
SPECS = tuple(ModelSpec(name, "gpu", GIB, 8, load_ns=10 * SECOND) for name in ("a", "b"))


@dataclass
class Lived(View):
    """A replica of a model that takes ten seconds to load."""

    load_ns: int = 10 * SECOND
    sleeps: bool = False
    spec: ModelSpec = field(default_factory=lambda: SPECS[0])


def keeper_of(policy: object, specs: Sequence[ModelSpec] = SPECS) -> Keeper:
    if isinstance(policy, Keeping):
        return policy.begin(specs, ())
    return Plain(policy)  # type: ignore[arg-type]


def request(model: str, at_ns: int, ttft_ns: int = 200 * MS, tokens: int = 10) -> Request:
    return Request(f"{model}{at_ns}", model, "t", Sla(ttft_ns=ttft_ns), at_ns, 9, tokens, tokens)


def used(
    keeper: Keeper, model: str, *at_s: float, ttft_ns: int = 200 * MS, tokens: int = 10
) -> None:
    """Requests for a model come, and start at once."""
    for second in at_s:
        now_ns = int(second * SECOND)
        one = request(model, now_ns, ttft_ns, tokens)
        for moment in (Moment.ARRIVED, Moment.STARTED):
            keeper.observe(Observation(moment, one, None, finished=False), now_ns)


def victims(keeper: Keeper, views: Sequence[View], count: int = 1) -> list[str]:
    found = keeper.select(views, Need(None, count * GIB), NOW_NS)
    return [one.id for one in found.victims]


def both_ways(keeper: Keeper, views: Sequence[View]) -> str:
    """The victim, whatever order they stand in."""
    (first,) = victims(keeper, views)
    assert victims(keeper, list(reversed(views))) == [first], "the order decides, and not the rule"
    return first


def test_lru_takes_them_in_the_order_of_their_use() -> None:
    assert victims(keeper_of(build("residency", "lru")), [Lived("b"), Lived("a")]) == ["b"]


def test_fifo_takes_who_came_first() -> None:
    views = [Lived("a", ready_ns=5, last_used_ns=1), Lived("b", ready_ns=2, last_used_ns=9)]
    assert both_ways(keeper_of(build("residency", "fifo")), views) == "b"


def test_lfu_takes_who_was_used_least_often() -> None:
    keeper = keeper_of(build("residency", "lfu"))
    used(keeper, "a", 1, 2, 3)
    used(keeper, "b", 98, 99)
    assert both_ways(keeper, [Lived("a"), Lived("b")]) == "b"


def test_gdsf_weighs_uses_by_load_time_and_by_size() -> None:
    slow, big = replace(SPECS[0], load_ns=60 * SECOND), replace(SPECS[0], bytes_needed=8 * GIB)
    for spec, other in ((slow, "b"), (big, "a")):
        keeper = keeper_of(Gdsf(), (spec, SPECS[1]))
        used(keeper, "a", 1, 2)
        used(keeper, "b", 3, 4)
        assert both_ways(keeper, [Lived("a"), Lived("b")]) == other


def test_gdsf_forgets_what_was_used_long_ago() -> None:
    """Its clock rises to the worth of each victim, so that old uses are worth less and less."""
    third = ModelSpec("c", "gpu", GIB, 8, load_ns=10 * SECOND)
    keeper = keeper_of(Gdsf(), (*SPECS, third))
    used(keeper, "a", 1, 2, 3)
    used(keeper, "b", 4, 5)
    assert victims(keeper, [Lived("a"), Lived("b")]) == ["b"]
    used(keeper, "c", 6, 7)
    assert both_ways(keeper, [Lived("a"), Lived("c")]) == "a"


def test_lemonade_weighs_idle_time_by_load_time() -> None:
    longer_idle = [Lived("a", last_used_ns=90 * SECOND), Lived("b", last_used_ns=80 * SECOND)]
    assert both_ways(keeper_of(Lemonade()), longer_idle) == "b"
    quick = [Lived("a", last_used_ns=90 * SECOND, load_ns=SECOND), longer_idle[1]]
    assert both_ways(keeper_of(Lemonade()), quick) == "a"
    assert both_ways(keeper_of(Lemonade(weights={"b": 5.0})), longer_idle) == "a"


def test_ollama_takes_the_shortest_keep_alive_and_then_the_first_name() -> None:
    views = [Lived("a", last_used_ns=2), Lived("b", last_used_ns=1)]
    assert both_ways(keeper_of(Ollama()), views) == "a"
    assert both_ways(keeper_of(Ollama(keep_alive_s={"b": 10.0})), views) == "b"


def test_exclusive_takes_all_of_them_or_none() -> None:
    keeper = keeper_of(build("residency", "exclusive"))
    views = [Lived("a"), Lived("b")]
    assert victims(keeper, views) == ["a", "b"]
    assert victims(keeper, views, count=3) == []


@pytest.mark.parametrize("kind", ["fifo", "lfu", "gdsf", "lemonade", "ollama", "cace"])
def test_who_works_goes_after_who_idles_whatever_the_rule(kind: str) -> None:
    keeper = keeper_of(build("residency", kind))
    used(keeper, "b", *range(90))
    busy = Lived("a", running_count=1, last_used_ns=1, ready_ns=1)
    assert victims(keeper, [Lived("b", last_used_ns=99 * SECOND, ready_ns=2), busy]) == ["b"]


#: Factor of `cace` -> what makes `a` worth more by it, all else being equal.
ALONE = {"load_time": 0.0, "sensitivity": 0.0, "output_length": 0.0, "uses": 0.0, "demand": 0.0}


def only_by(factor: str) -> Keeper:
    return keeper_of(Cace(**{**ALONE, factor: 1.0}))


def test_cace_keeps_what_takes_long_to_load() -> None:
    views = [Lived("a", load_ns=60 * SECOND), Lived("b", load_ns=5 * SECOND)]
    assert both_ways(only_by("load_time"), views) == "b"


def test_cace_keeps_what_is_urgent() -> None:
    keeper = only_by("sensitivity")
    used(keeper, "a", 98)
    used(keeper, "b", 99, ttft_ns=20 * SECOND)
    assert both_ways(keeper, [Lived("a"), Lived("b")]) == "b"


def test_cace_keeps_what_answers_shortly() -> None:
    keeper = only_by("output_length")
    used(keeper, "a", 98, tokens=10)
    used(keeper, "b", 99, tokens=900)
    assert both_ways(keeper, [Lived("a"), Lived("b")]) == "b"


def test_cace_keeps_what_was_used_in_the_window_and_not_before_it() -> None:
    keeper = keeper_of(Cace(**{**ALONE, "uses": 1.0}, window_s=30.0))
    used(keeper, "b", *range(20))
    used(keeper, "a", 90, 95)
    assert both_ways(keeper, [Lived("a"), Lived("b")]) == "b"


def test_cace_keeps_what_is_waited_for() -> None:
    keeper = only_by("demand")
    used(keeper, "a", 98)
    used(keeper, "b", 98)
    assert victims(
        keeper, [Lived("a", running_count=1, waiting_count=4), Lived("b", running_count=1)]
    ) == ["b"]


def test_who_is_worth_least_rests_without_its_weights() -> None:
    keeper = keeper_of(build("residency", "lfu"))
    used(keeper, "a", 1, 2, 3)
    used(keeper, "b", 4)
    asleep = {"host_bytes": GIB, "deep_wake_ns": 4 * SECOND}
    often, seldom = Lived("a", **asleep), Lived("b", **asleep)  # type: ignore[arg-type]
    bed = keeper.bed(seldom, [often], GIB, NOW_NS)
    assert (bed.level, list(bed.dropped)) == (2, [])
    bed = keeper.bed(often, [seldom], GIB, NOW_NS)
    assert (bed.level, [one.id for one in bed.dropped]) == (1, ["b"])
