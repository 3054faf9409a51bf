"""The typing simulator's figures, its page, and the command from end to end."""

import asyncio
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slalom.bench.typing.asking import Heard
from slalom.bench.typing.background import Asked
from slalom.bench.typing.counters import Computed, Gauge, read
from slalom.bench.typing.figures import REFUSED, Run, Setting, figures
from slalom.bench.typing.page import Facts, document, page
from slalom.bench.typing.repeats import Spread, paired, spread
from slalom.bench.typing.report import QUICK, Wanted, typing_report
from slalom.bench.typing.rhythm import Keystroke
from slalom.bench.typing.runs import Sizes
from slalom.bench.typing.typist import Completion
from slalom.cli.bench_commands import bench_app
from slalom.metrics.records import NEVER
from slalom.units import MS

_LLAMA = """
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 1000
llamacpp:prompt_tokens_cached_total 250
llamacpp:tokens_predicted_total 64
llamacpp:requests_processing 0
"""
_VLLM = """
vllm:prompt_tokens_total{engine="0",model_name="m"} 700.0
vllm:prompt_tokens_total{engine="1",model_name="m"} 300.0
vllm:prefix_cache_hits_total{engine="0"} 250.0
vllm:generation_tokens_total{engine="0",model_name="m"} 64.0
"""


@pytest.mark.parametrize("text", [_LLAMA, _VLLM])
def test_an_engine_says_what_it_computed(text: str) -> None:
    assert read(text) == Computed(1000.0, 250.0, 64.0)


def test_other_pages_say_nothing() -> None:
    assert read("python_gc_objects_collected_total 1\n") is None
    assert asyncio.run(Gauge("http://127.0.0.1:1/metrics").computed()) is None
    assert Computed(9, 5, 7).since(Computed(4, 1, 2)) == Computed(5, 4, 5)


def _typed(
    next_ms: int,
    first_ms: int,
    whole_ms: int,
    *,
    pause: bool,
    tokens: int = 10,
    cached: bool = False,
) -> Completion:
    heard = Heard(
        sent_ns=MS, first_ns=first_ms * MS, whole_ns=whole_ms * MS, tokens=tokens, cached=cached
    )
    return Completion(
        0, Keystroke(0, 0, next_ms * MS, pause, follows=False), 0, next_ms * MS, heard
    )


def test_what_comes_after_the_next_key_is_of_no_use() -> None:
    typed = [
        _typed(80, 30, 60, pause=False),
        _typed(80, 30, 100, pause=False),  # too late
        _typed(900, 40, 200, pause=True),
        _typed(900, 400, 950, pause=True),  # begun in time, whole too late
    ]
    found = figures(typed, [], None, 1.0)
    assert found["before_next_key"] == 0.5
    assert found["before_pause_ends"] == 0.5
    assert (found["ttft_ms.p50"], found["ttft_ms.p95"]) == (40.0, 400.0)
    assert (found["answer_ms.p50"], found["answer_ms.p95"]) == (200.0, math.inf)
    assert found["client_lag_ms.p99"] == 1.0
    assert "generated" not in found


def test_waste_is_what_nobody_got() -> None:
    beside = [Asked("batch", 0, Heard(tokens=30)), Asked("chat", 0, Heard(tokens=5))]
    typed = [
        _typed(80, 30, 60, pause=False, tokens=8),
        _typed(80, 30, 100, pause=False, tokens=8),  # too late: nobody looks at it
        _typed(80, 1, 2, pause=False, tokens=9, cached=True),  # no engine computed it
    ]
    found = figures(typed, beside, Computed(600.0, 10.0, 100.0), 2.0)
    assert found["wasted"] == 100 - 30 - 5 - 8
    assert found["wasted_share"] == pytest.approx(0.57)
    assert found["prompt_per_keystroke"] == 200.0
    assert found["cache_hits"] == 1.0
    assert found["batch_tokens_per_s"] == 15.0
    assert found["chat_ttft_ms.p95"] == math.inf  # it never began


def _run(way: str, repeat: int, figures: Mapping[str, float], disturbed: float = 0.0) -> Run:
    return Run(way, Setting(4, cancels=True), repeat, figures, disturbed)


def _facts(left_out: str = "") -> Facts:
    sizes = replace(QUICK, typists=(4,), cancels=(True,), repeats=2)
    return Facts("the command", sizes, "a machine", own="Slalom", left_out=left_out)


def _runs(slalom: float = 0.9, disturbed: float = 0.0) -> list[Run]:
    direct = {"before_pause_ends": 0.5, "prompt": 100.0, "wasted": 50.0, "ttft_ms.p50": math.inf}
    own = {"before_pause_ends": slalom, "prompt": 25.0, "wasted": 5.0, "ttft_ms.p50": 80.0}
    own[f"{REFUSED}late"] = 2.0
    return [
        _run(way, repeat, found, disturbed)
        for repeat in range(2)
        for way, found in (("engine directly", direct), ("Slalom", own))
    ]


def test_the_page_compares_our_way_with_the_others() -> None:
    text = page(_facts("it is not installed"), _runs())
    assert "Slalom beside engine directly: better in every repeat (40.0 points before the" in text
    assert "prompt tokens × 0.25, wasted tokens × 0.10)" in text
    assert "| engine directly | - | 50.0% | late | - |" in text
    assert "| Slalom | - | 90.0% | 80.0 | - |" in text
    assert "| 4 | engine directly | - | 40.0 | - | - | 0.10 | 0.25 | - |" in text
    assert "- Errors of Slalom, all repeats: 4 × `late`." in text
    assert "LiteLLM is left out: it is not installed." in text
    assert "measure again" not in text
    worse = page(_facts(), _runs(slalom=0.2, disturbed=0.5))
    assert "Slalom beside engine directly: worse in every repeat (-30.0" in worse
    assert "measure again" in worse


def test_pairs_are_of_one_repeat_and_what_never_came_has_no_difference() -> None:
    runs = [_run("a", 0, {"x": 1.0}), _run("b", 0, {"x": 4.0}), _run("a", 1, {"x": math.inf})]
    ratio = paired([*runs, _run("b", 1, {"x": 2.0})], "a", "b", "x", ratio=True)
    assert ratio is not None
    assert ratio == Spread(0.25, 0.25, 0.25, 1)
    assert paired(runs, "a", "c", "x") is None


def test_a_spread_is_shown_from_its_least_to_its_greatest() -> None:
    found = spread([3.0, math.inf, 1.0])
    assert found is not None
    assert found.shown() == "3.00 (1.00 – late)"
    assert spread([0.5, math.nan]) == Spread(0.5, 0.5, 0.5, 1)
    assert spread([math.nan]) is None
    always = spread([math.inf, math.inf])
    assert always is not None
    assert always.shown(100, "%") == "late"


def test_figures_for_programs_have_no_infinity() -> None:
    told = json.loads(json.dumps(document(_facts(), _runs()), allow_nan=False))
    assert told["runs"][0]["figures"]["ttft_ms.p50"] is None
    assert told["runs"][1]["way"] == "Slalom"


def _command(tokens_per_s: int) -> str:
    return (
        f"{sys.executable} -m slalom.testing.fake_server --port ${{PORT}} --places 64 "
        f"--tokens-per-s {tokens_per_s}"
    )


def test_servers_of_the_users_own_are_compared(tmp_path: Path) -> None:
    told, written = tmp_path / "told.json", tmp_path / "page.md"
    options = ["--typists", "2", "--seconds", "1", "--repeats", "1", "--no-background"]
    options += ["--editors", "never", "--json", str(told), "--write", str(written)]
    targets = ["--target", f"slow={_command(40)}", "--target", f"quick={_command(4_000)}"]
    result = CliRunner().invoke(bench_app, ["type", "--model", "fake", *targets, *options])
    assert result.exit_code == 0, result.output
    assert written.read_text("utf-8") in result.output
    runs = {run["way"]: run["figures"] for run in json.loads(told.read_text("utf-8"))["runs"]}
    assert runs["quick"]["keystrokes"] == runs["slow"]["keystrokes"] > 4
    assert runs["quick"]["before_next_key"] > runs["slow"]["before_next_key"]
    # The slow one computes answers of which nobody sees the end in time.
    assert runs["slow"]["wasted"] > 0
    assert runs["quick"]["wasted_share"] < runs["slow"]["wasted_share"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--typists", "none"], "--typists"),
        (["--typists", "0"], "--typists"),
        (["--editors", "vi"], "--editors"),
        (["--target", "a=http://127.0.0.1:1"], "--model"),
        (["--fim", "<P> <S>"], "--fim"),
        (["--metrics", "a=http://127.0.0.1:1"], "--metrics a"),
    ],
)
def test_wrong_options_are_told(options: list[str], said: str) -> None:
    result = CliRunner().invoke(bench_app, ["type", *options])
    assert result.exit_code != 0
    assert said in result.output


def test_the_figures_of_a_keystroke_that_was_never_sent() -> None:
    never = replace(_typed(80, 1, 2, pause=True), heard=Heard())
    found = figures([never], [], None, 1.0)
    assert never.heard.whole_ns == NEVER
    assert found["before_pause_ends"] == 0.0
    assert found["ttft_ms.p50"] == math.inf


@pytest.mark.slow
def test_the_bundled_model_directly_and_by_slalom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    wanted = Wanted(QUICK, "the command", model="slalom-mini", litellm=False, calibrate_s=0.0)
    facts, runs = asyncio.run(typing_report(wanted))
    assert {run.way for run in runs} == {"engine directly", "Slalom"}
    assert all(run.figures["generated"] > 0 for run in runs)  # of Slalom's engine, too
    assert all(run.figures["failed"] < run.figures["keystrokes"] for run in runs)
    assert "LiteLLM is left out" in page(facts, runs)
    assert isinstance(facts.sizes, Sizes)
