"""The gateway benchmark measures what it says: stub, client, ways, page."""

from pathlib import Path

import pytest

from slalom.bench.gateway import SCENARIOS, Scenario, run
from slalom.bench.gateway_paths import Cores, Way, programs
from slalom.bench.gateway_report import DEFAULT, DIRECT, LITELLM_WAY, OPEN, Measured, Results, page


def test_the_stub_keeps_its_pace_and_the_client_subtracts_it(tmp_path: Path) -> None:
    with programs(tmp_path, Cores(None, None)) as started:
        port = started.stub()
        plan = {"port": port, "streams": 3, "tokens": 5, "prompt": "pace:50000:10000"}
        tally = started.load({**plan, "seconds": 0.3})
        assert tally["errors"] == 0
        assert len(tally["first_ns"]) == len(tally["whole_ns"]) >= 3
        assert min(tally["whole_ns"]) >= 88_000_000, "50 ms and four gaps of 10 ms, less rounding"
        assert min(tally["first_ns"]) < 50_000_000, "the stub's own 50 ms are not the relay's"
        long = started.load({**plan, "tokens": 2000, "prompt": "pace:0:0", "seconds": 0.1})
        assert long["bytes_read"] > 2000 * 100 * len(long["whole_ns"])


@pytest.mark.slow
def test_one_round_makes_a_page() -> None:
    scenario = Scenario("short-50", 5, 8, "pace:0:0", 0.3, "unpaced")
    results = run([scenario], 1, scale=1.0, with_litellm=False)
    assert {way for _, way in results.runs} == {DIRECT, DEFAULT, OPEN}
    assert all(run.errors == 0 for runs in results.runs.values() for run in runs)
    assert results.median("short-50", DEFAULT, "relay_cpu") > 0
    text = page(results, "the command")
    assert "| short-50 | slalom (default) |" in text
    assert "LiteLLM was not installed" in text


def test_the_page_subtracts_the_direct_way() -> None:
    def measured(first_ms: float, rate: float) -> Measured:
        return Measured(first_ms, first_ms * 2, 10, rate, rate * 8, 0.5, 0.2, 0)

    results = Results(cores_pinned=True, repeats=2)
    for scenario in SCENARIOS:
        ways = ((DIRECT, 1, 9000), (DEFAULT, 1.75, 3000), (OPEN, 1.5, 4000), (LITELLM_WAY, 9, 50))
        for way, first_ms, rate in ways:
            for _ in range(2):
                results.add(scenario.name, way, measured(first_ms, rate))
    text = page(results, "the command")
    added = "0.75 (0.75 – 0.75) ms | 0.50 (0.50 – 0.50) ms"
    assert f"| paced-50: added TTFT p50 | {added} | ≤ 0.8 ms |" in text
    assert "| short-50: times LiteLLM's | 60 (60 – 60) | 80 (80 – 80) | ≥ 30 |" in text


def test_the_direct_way_has_no_relay_to_measure() -> None:
    assert Way("direct", 1, None).cpu_s() == 0.0
