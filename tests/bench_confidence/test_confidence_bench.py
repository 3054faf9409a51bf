"""The benchmark of confidence: its models, its holes, its arithmetic, its page, one small run."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from slalom.bench.confidence import __main__ as command
from slalom.bench.confidence.asking import Heard, body
from slalom.bench.confidence.deepened import deepened
from slalom.bench.confidence.device_time import device_times
from slalom.bench.confidence.figures import Row, Run, runs
from slalom.bench.confidence.holes import AFTER_CHARS_MAX, BEFORE_CHARS_MAX, Hole, holes
from slalom.bench.confidence.live import Measured
from slalom.bench.confidence.page import Facts, page
from slalom.bench.confidence.setting import (
    ALL_LARGE,
    ALL_SMALL,
    BOTH,
    FIRST_GATE,
    IN_ONE_PIECE,
    LARGE,
    QUICK,
    SECOND_GATE,
    SMALL,
    TOKENS_MAX,
    WAYS,
    configuration,
    files,
)
from slalom.bench.confidence.twin_cells import FIRST, NOBODY, WHOLE, Cell, play
from slalom.bench.confidence.twin_page import draw
from slalom.bench.confidence.twin_sweep import RATES, Point, Swept, break_even
from slalom.config.schema import Config
from slalom.core.actions import Dispatch
from slalom.core.events import AttemptFailed, AttemptFinished, FailureKind
from slalom.core.journal import Entry
from slalom.errors import ModelError
from slalom.models.gguf_header import read_header
from slalom.models.sources import resolve
from slalom.units import MS
from tests.live.live_server import live_server, model

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = str(ROOT / "scenarios" / "confident.yaml")


# -- the models --------------------------------------------------------------------------------


def test_the_dear_model_has_the_originals_layers_and_silent_ones(tmp_path: Path) -> None:
    source, path = resolve("bundled:slalom-mini").path, tmp_path / "large.gguf"
    deepened(source, path, times=3)
    was, made = read_header(source), read_header(path)
    assert made.values["qwen2.block_count"] == 12
    assert {name for name in was.values if "tokenizer" in name} <= set(made.values)
    before, after = ({one.name: one for one in header.tensors} for header in (was, made))
    assert len(after) == len(before) + 8 * sum(name.startswith("blk.0.") for name in before)
    data, own = path.read_bytes(), source.read_bytes()
    for layer, copy in ((0, 0), (0, 2), (3, 0), (3, 1)):
        for name in ("ffn_down.weight", "ffn_up.weight", "attn_norm.weight"):
            old, new = before[f"blk.{layer}.{name}"], after[f"blk.{3 * layer + copy}.{name}"]
            at, found = was.data_offset + old.offset, made.data_offset + new.offset
            silent = name == "ffn_down.weight" and copy
            expected = bytes(old.byte_count) if silent else own[at : at + old.byte_count]
            assert data[found : found + new.byte_count] == expected


def test_another_layout_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    source = resolve("bundled:slalom-mini").path
    path.write_bytes(source.read_bytes().replace(b"qwen2.block_count", b"llama.block_count"))
    with pytest.raises(ModelError, match="Qwen2"):
        deepened(path, tmp_path / "made.gguf", times=2)


@pytest.mark.live
async def test_the_dear_model_says_what_the_original_says(tmp_path: Path) -> None:
    deepened(resolve("bundled:slalom-small").path, tmp_path / "large.gguf", times=2)
    dear = model("large", source=str(tmp_path / "large.gguf"))
    config = {"models": [model("slalom-small"), dear]}
    async with live_server(tmp_path, config) as server:
        said = [
            (await server.complete(name, 24, temperature=0))["choices"][0]["text"]
            for name in ("slalom-small", "large")
        ]
    assert said[0]
    assert said[0] == said[1]


def test_the_server_knows_an_alias_for_each_way(tmp_path: Path) -> None:
    config = Config.model_validate(configuration(files(tmp_path, 2)))
    gates = {one.id: (one.min_logprob, one.parse) for one in config.aliases}
    assert {way.model for way in WAYS} == {SMALL, LARGE, *gates}
    assert gates[FIRST_GATE.model] == (FIRST_GATE.min_logprob, False)
    assert gates[SECOND_GATE.model] == (-100.0, True)
    assert [gates[way.model] for way in BOTH] == [(way.min_logprob, True) for way in BOTH]
    assert IN_ONE_PIECE.model == BOTH[1].model


# -- the holes ---------------------------------------------------------------------------------


def test_holes_are_ends_of_lines_of_own_and_foreign_files() -> None:
    drawn = holes(12, seed=3)
    assert drawn == holes(12, seed=3)
    assert drawn != holes(12, seed=4)
    assert [hole.is_own for hole in drawn] == [True, False] * 6
    for hole in drawn:
        assert hole.line
        assert "\n" not in hole.line
        assert hole.before.rpartition("\n")[2].strip()
        assert hole.after[:1] in {"", "\n", " "}
        assert len(hole.before) <= BEFORE_CHARS_MAX
        assert len(hole.after) <= AFTER_CHARS_MAX


def test_ways_ask_for_the_same_and_one_wants_no_stream() -> None:
    (hole,) = holes(1, seed=0)
    asked = {way.name: dict(body(way, hole)) for way in WAYS}
    assert "stream" not in asked[IN_ONE_PIECE.name]
    streamed = [fields for name, fields in asked.items() if name != IN_ONE_PIECE.name]
    assert len({fields.pop("model") for fields in streamed}) == len(streamed)
    assert all(fields == streamed[0] for fields in streamed)
    assert streamed[0]["cache_prompt"] is False, "else the first way would pay for all"


# -- the arithmetic ----------------------------------------------------------------------------


def test_an_engine_is_busy_from_dispatch_to_end_also_if_that_is_broken_off() -> None:
    entries = [
        Entry(10 * MS, (), (Dispatch("r", 1, "small#1", 1), Dispatch("s", 1, "large#1", 1))),
        Entry(14 * MS, (AttemptFailed("r", 1, FailureKind.ABORTED, delivered=False),), ()),
        Entry(15 * MS, (), (Dispatch("r", 2, "large#1", 1),)),
        Entry(55 * MS, (AttemptFinished("r", 2, 9), AttemptFinished("x", 1, 9)), ()),
    ]
    assert device_times(entries) == {"r": {"small": 4 * MS, "large": 40 * MS}}


HOLE = Hole("a.py", is_own=True, before="x = (1 + ", after="\n\ny = 2\n", line="2)")


def row(way: str, text: str, by: str, judged: str = "", tokens: int = 2) -> Row:
    heard = Heard(f"{way}-id", 5 * MS, 9 * MS, tokens, by, judged, text)
    return Row(way, 0, HOLE, heard, {"small": 0.001, "large": 0.002})


def test_the_figures_of_a_way() -> None:
    both = BOTH[1].name
    rows = [
        row(ALL_LARGE.name, "2)", LARGE),
        row(ALL_SMALL.name, "2", SMALL),
        row(both, "2)", LARGE, "broken; taken over from small"),
        row(FIRST_GATE.name, "2", SMALL, "unsure; kept"),
        row(SECOND_GATE.name, "2", SMALL, "trusted", TOKENS_MAX),
    ]
    spent = {f"{both}-id": {"small": 4 * MS, "large": 40 * MS}}
    found = {run.way: run.figures() for run in runs(rows, spent)}
    mine = found[both]
    assert (mine["device_ms"], mine["small_ms"], mine["large_ms"]) == (44, 4, 40)
    assert mine["unused_ms"] == 4
    assert mine["cpu_ms"] == pytest.approx(3)
    assert (mine["broken"], mine["unsure"], mine["by_small"]) == (1, 0, 0)
    assert (mine["agrees"], mine["right"], mine["parses"]) == (1, 1, 1)
    assert (mine["ttft_ms.p50"], mine["e2e_ms.p95"]) == (5, 9)
    small = found[ALL_SMALL.name]
    assert (small["agrees"], small["right"], small["parses"], small["by_small"]) == (0, 0, 0, 1)
    assert found[FIRST_GATE.name]["unsure"] == 1
    assert found[SECOND_GATE.name]["parses"] == 1, "what a limit cut does not count"


def point(share: float, *costs: float, ratio: float = 4.0, when: str = WHOLE) -> Point:
    results = [figures(cost) for cost in costs]
    return Point(1.0, ratio, when, share, results, [figures(2.0) for _ in costs])


def figures(cost: float) -> Mapping[str, float]:
    return {"device_s": cost, "good": 0.5, "e2e_p95_ms": 100.0, "kept": 0.25}


def test_it_breaks_even_where_two_models_cost_as_much_as_one() -> None:
    assert break_even([point(0.0, 0.5), point(0.5, 1.5), point(1.0, 2.5)]) == 0.75
    assert break_even([point(0.0, 2.5), point(1.0, 3.0)]) == 0.0
    assert break_even([point(0.0, 0.5), point(1.0, 1.5)]) is None


# -- the twin ----------------------------------------------------------------------------------


def test_doubts_cost_device_time_and_late_ones_more() -> None:
    def spent(share: float, when: str) -> float:
        return play(Cell(SCENARIO, 0, 60, 0.5, 4.0, share, when))["device_s"]

    alone = play(Cell(SCENARIO, 0, 60, 0.5))
    assert alone["by_large"] == 1
    assert spent(0.0, WHOLE) < alone["device_s"] / 3
    assert spent(0.0, WHOLE) < spent(0.5, FIRST) < spent(0.5, WHOLE) < spent(1.0, WHOLE)
    assert spent(1.0, WHOLE) > alone["device_s"]
    half = play(Cell(SCENARIO, 0, 60, 0.5, 4.0, 0.5, WHOLE))
    assert half["by_large"] == pytest.approx(0.5, abs=0.2)
    assert Cell(SCENARIO, 0, 60, 0.5).doubted_at == NOBODY


def test_who_has_an_answer_takes_no_place_from_those_who_wait_for_one() -> None:
    """At twice what the large model alone can do, with every answer doubted."""
    found = play(Cell(SCENARIO, 0, 120, 8.0, 10.0, 1.0, WHOLE))
    assert found["kept"] > 0.5
    assert found["good"] > 0.7, "a fifth of it where every doubt sends one more to the queue"


# -- the page ----------------------------------------------------------------------------------


def _sweep() -> Swept:
    points = [
        Point(rate, ratio, when, share, [figures(2 * share + 0.5)], [figures(2.0)])
        for rate in RATES
        for ratio in QUICK.ratios
        for when in (FIRST, WHOLE)
        for share in QUICK.shares
    ]
    return Swept(points, {rate: [figures(2.0)] for rate in RATES}, 2.0)


def _live() -> Sequence[Run]:
    named = {
        **dict.fromkeys(("small_ms", "large_ms", "unused_ms", "cpu_ms", "tokens"), 1.0),
        **{f"{name}.p{rank}": 7.0 for name in ("ttft_ms", "e2e_ms") for rank in (50, 95)},
        **dict.fromkeys(("by_small", "unsure", "broken", "parses", "agrees", "right"), 0.25),
    }
    costs = {ALL_LARGE.name: 40.0, ALL_SMALL.name: 4.0}
    return [
        Run(way.name, repeat, {**named, "device_ms": costs.get(way.name, 20.0) + repeat})
        for way in WAYS
        for repeat in range(2)
    ]


def test_the_page_says_what_is_saved_and_where_it_ends(tmp_path: Path) -> None:
    facts = Facts("the command", "a machine", QUICK, separate_cores=True, took_s=90)
    live = Measured(_live(), {SMALL: 1 << 20, LARGE: 8 << 20}, 0.5)
    text = page(facts, live, _sweep())
    assert "`the command` (1.5 minutes)" in text
    assert "9.10 ±" in text, "what the large model costs by the small one's"
    assert "× 0.51 ±" in text
    assert "rough guide" in text
    assert "| × 4 | 75 | 75 | 75 | 75 | 75 |" in text
    assert all(line in text for line in ("## Live", "## In the twin"))
    assert "svg" in draw(_sweep(), QUICK, tmp_path).read_text()[:400]


@pytest.mark.live
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="the load client needs a core of its own")
def test_a_small_run_of_the_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.md"
    scenarios = str(ROOT / "scenarios")
    command.main(["--quick", "--write", str(out), "--scenarios", scenarios])
    text = out.read_text()
    assert capsys.readouterr().out == text
    for way in WAYS:
        assert f"| {way.name} |" in text
    assert (tmp_path / "confidence-twin.svg").exists()
