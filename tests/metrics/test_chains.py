"""What became of chains: which end counts, and what a chain is worth beside single requests."""

from slalom.metrics.records import NEVER, Fate, RequestRecord
from slalom.metrics.results import RunResult
from slalom.units import SECOND


def row(
    chain: str, step: int, at_s: float, end_s: float, fate: Fate = Fate.DONE, *, good: bool = True
) -> RequestRecord:
    times = round(at_s * SECOND), round(end_s * SECOND)
    good = good and fate is Fate.DONE
    place = (chain, step, 2) if chain else ("", 0, 0)
    return RequestRecord(
        f"{chain}.{step}",
        "chat",
        "m",
        times[0],
        times[0],
        NEVER,
        times[1],
        5,
        fate,
        good,
        0,
        "",
        *place,
    )


def figures(*rows: RequestRecord) -> dict[str, float]:
    return RunResult.of("p", 0, rows, 10 * SECOND).figures()


def test_a_chain_is_good_if_its_last_call_is_and_counts_once() -> None:
    found = figures(
        row("on-time", 1, 0, 1),
        row("on-time", 2, 2, 4),
        row("late", 1, 0, 1),
        row("late", 2, 2, 9, good=False),
        row("refused", 1, 0, 1, Fate.REFUSED),
        row("broken", 1, 0, 1),
        row("broken", 2, 2, 3, Fate.REFUSED),
        row("", 0, 0, 1),
    )
    assert found["chains"] == 4
    assert found["chain_attainment"] == 0.25
    assert found["chains_broken_off"] == 1
    assert found["on_time_per_s"] == 0.2, "one chain and one request in ten seconds"
    assert found["chain_e2e_ms.p95"] == 9_000


def test_what_its_client_gave_up_and_what_began_before_do_not_count() -> None:
    found = figures(
        row("left", 1, 0, 1, Fate.CANCELLED),
        row("before", 2, 0, 1),
        row("c", 1, 0, 1),
        row("c", 2, 1, 2),
    )
    assert (found["chains"], found["chain_attainment"]) == (1, 1.0)


def test_a_load_without_chains_has_no_such_figures() -> None:
    assert not [name for name in figures(row("", 0, 0, 1)) if "chain" in name or "on_time" in name]
