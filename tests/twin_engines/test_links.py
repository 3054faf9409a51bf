"""Loads that come over one link at a time slow each other down, and no more than they must."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slalom.config.scenario_load import load_scenario
from slalom.core.events import LoadProgress, ReplicaReady
from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla
from slalom.errors import ConfigError
from slalom.policies.registry import policies
from slalom.twin.from_file import scenario_of
from slalom.twin.links import SharedLinks
from slalom.twin.run import TwinRun, run
from slalom.twin.scenario import Arrival, Link, LoadLaw, Scenario, TwinModel
from slalom.units import GIB, SECOND


def ends(links: SharedLinks) -> dict[str, int]:
    over: dict[str, int] = {}
    while (next_ns := links.next_ns()) is not None:
        over.update((name, next_ns) for name, _ in links.take_due(next_ns))
    return over


def test_two_share_a_link_and_the_second_has_it_alone_at_the_end() -> None:
    links = SharedLinks({"disk": 100})
    links.add(("a", 1), 1_000, 0, links=["disk"], per_s_max=10**9)
    links.add(("b", 1), 1_000, 5 * SECOND, links=["disk"], per_s_max=10**9)
    # Alone 500 bytes in 5 s; then 50 a second each: a ends at 15 s; b has 500 left, alone.
    assert ends(links) == {"a": 15 * SECOND, "b": 20 * SECOND}


def test_what_a_slow_one_leaves_the_others_get() -> None:
    links = SharedLinks({"host": 100, "bus 0": 30, "bus 1": 100})
    links.add(("a", 1), 300, 0, links=["host", "bus 0"], per_s_max=10**9)
    links.add(("b", 1), 700, 0, links=["host", "bus 1"], per_s_max=10**9)
    assert ends(links) == {"a": 10 * SECOND, "b": 10 * SECOND}
    links.add(("c", 1), 100, 10 * SECOND, links=["host"], per_s_max=10)
    assert ends(links) == {"c": 20 * SECOND}


def test_one_that_breaks_off_leaves_its_share() -> None:
    links = SharedLinks({"disk": 100})
    links.add(("a", 1), 1_000, 0, links=["disk"], per_s_max=10**9)
    links.add(("b", 1), 1_000, 0, links=["disk"], per_s_max=10**9)
    assert links.remove(("b", 1), 10 * SECOND)
    assert not links.remove(("b", 1), 10 * SECOND)
    assert ends(links) == {"a": 15 * SECOND}


def test_a_link_that_is_not_there_is_named() -> None:
    links = SharedLinks({"disk": 100})
    with pytest.raises(ConfigError, match="'dsik', which is no link"):
        links.add(("a#1", 1), 1, 0, links=["dsik"], per_s_max=1)


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(1, 10**6), st.integers(1, 10**5)),
        min_size=1,
        max_size=8,
    )
)
def test_a_link_carries_no_more_than_it_can_and_is_not_left_idle(
    loads: list[tuple[int, int, int]],
) -> None:
    links = SharedLinks({"disk": 10_000})
    over: dict[str, int] = {}
    for index, (at_s, byte_count, most) in enumerate(sorted(loads)):
        while (next_ns := links.next_ns()) is not None and next_ns <= at_s * SECOND:
            over.update((name, next_ns) for name, _ in links.take_due(next_ns))
        name = (str(index), 1)
        links.add(name, byte_count, at_s * SECOND, links=["disk"], per_s_max=most)
    over.update(ends(links))
    assert len(over) == len(loads)
    for index, (at_s, byte_count, most) in enumerate(sorted(loads)):
        fastest_s = byte_count / min(10_000, most)
        assert over[str(index)] >= (at_s + fastest_s) * SECOND - 1
        slowest_s = max(byte for _, byte, _ in loads) * len(loads) / min(most, 10_000 // len(loads))
        assert over[str(index)] <= (at_s + slowest_s + 1) * SECOND
    total_s = sum(byte_count for _, byte_count, _ in loads) / 10_000
    assert max(over.values()) >= (min(loads)[0] + total_s) * SECOND - len(loads)


def loads(links: tuple[Link, ...], law: LoadLaw) -> TwinRun:
    """Two models wanted at the same moment."""
    arrivals = [
        Arrival(Request(f"r{name}", name, "task", Sla(), SECOND, 10, 5, 5), 5) for name in "ab"
    ]
    return run(
        Scenario(
            models=tuple(TwinModel(ModelSpec(n, "gpu", 4 * GIB, 2), load=law) for n in "ab"),
            devices=(DeviceSpec("gpu", 10 * GIB),),
            arrivals=arrivals,
            policies=policies(),
            links=links,
        )
    )


def ready_s(result: TwinRun) -> list[float]:
    events = [(entry.now_ns, event) for entry in result.entries for event in entry.events]
    return [at_ns / SECOND for at_ns, event in events if isinstance(event, ReplicaReady)]


def test_loads_in_the_world_share_their_disk() -> None:
    alone = LoadLaw(fixed_ns=SECOND, bytes_per_s=2 * GIB, reports=2)
    shared = LoadLaw(fixed_ns=SECOND, bytes_per_s=2 * GIB, reports=2, links=("disk",))
    assert ready_s(loads((), alone)) == [4.0, 4.0]
    result = loads((Link("disk", 2 * GIB),), shared)
    assert ready_s(result) == [6.0, 6.0]
    told = [e.fraction for entry in result.entries for e in entry.events if type(e) is LoadProgress]
    assert told == [0.0, 0.0, 1.0, 1.0]
    assert ready_s(loads((Link("disk", 4 * GIB),), shared)) == [4.0, 4.0]


_FILE = """\
name: two
requests: 2
clients:
  - arrivals: {kind: even, rate_per_s: 1000}
    mix:
      - task: completion
        model: [a, b]
        prompt: {kind: fixed, tokens: 10}
        output: {kind: fixed, tokens: 5}
        max_tokens: 5
models:
  - id: a
    bytes: 4GiB
    engine: {kind: simple}
    pinned: true
    load: {fixed_seconds: 1, bytes_per_second: 2GiB, links: [disk]}
  - id: b
    bytes: 4GiB
    engine: {kind: simple}
    pinned: true
    load: {fixed_seconds: 1, bytes_per_second: 2GiB, links: [disk]}
devices:
  - {id: gpu, budget: 10GiB}
links:
  - {id: disk, bytes_per_second: 2GiB}
"""


def test_a_scenario_file_names_links(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(_FILE)
    assert ready_s(run(scenario_of(load_scenario(path), policies(), 0))) == [5.0, 5.0]
    path.write_text(_FILE.replace("{id: disk,", "{id: disc,"))
    with pytest.raises(ConfigError, match=r"'disk' is not among links .disc."):
        load_scenario(path)
