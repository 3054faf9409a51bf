"""Calibration: a known engine is found again from its stream, and profiles from their keys."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slalom.bench.calibrate import calibrate
from slalom.bench.calibrate_fit import fit
from slalom.bench.calibrate_probe import Kind, Observation, widths
from slalom.bench.calibrate_store import key_of, store, stored
from slalom.bench.calibrate_streams import Stream, watch
from slalom.bench.calibrate_work import Shape, Work, busy
from slalom.cli.app import app
from slalom.config.engine_sections import ModelSection
from slalom.engines.protocol import Call
from slalom.errors import EngineError
from slalom.testing.fake_engine import FakeEngine
from slalom.testing.fake_launcher import FakeLauncher
from slalom.testing.fake_script import FakeScript, FakeTimings
from slalom.testing.virtual_loop import VirtualClock, run_virtual
from slalom.twin.engine_specs import LlamaCppEngine
from slalom.twin.step_time import StepProfile, load_profile
from slalom.units import MS, US

LAW = StepProfile(
    name="true",
    dense_flat_ns=2 * MS,
    dense_ns_per_token=50 * US,
    decode_seq_ns=300 * US,
    decode_kv_ns_per_token=400,
    prefill_attention_ns_per_token_ctx=60,
    ingest_ns=MS,
    join_ns=3 * MS / 2,
)


def _observations(law: StepProfile, *, noise: float = 0.0) -> list[Observation]:
    rng = random.Random(1)
    asked = [(Kind.PREFILL, 0, 0, size) for size in (1, 16, 64, 128, 256, 512, 1024)]
    asked += [(Kind.DECODE, n, n * kv, 0) for n in (1, 2, 3, 4, 8) for kv in (50, 700)]
    asked += [(Kind.MIXED, n, n * 50, size) for n in (2, 4) for size in (16, 128, 384)]
    found = []
    for number, (kind, seqs, kv, size) in enumerate(asked):
        idle = kind is Kind.PREFILL
        ns = law.step_ns(seqs, kv, size, size**2 / 2)
        ns += round(law.ingest_ns) if idle else 0
        ns += round(law.join_ns) if size else 0
        pairs = size**2 / 2
        work = Work((seqs + size,), seqs, kv, pairs, int(size > 0), from_idle=idle)
        for _ in range(3):
            factor = 1 + noise * rng.random()
            found.append(Observation(number, kind, work, round(ns * factor)))
    return found


def test_a_law_is_found_again_from_its_steps() -> None:
    found = fit(_observations(LAW), name="x", source="y").profile
    for seqs, kv, size in ((1, 300, 0), (4, 2_000, 0), (8, 400, 0), (0, 0, 300), (3, 90, 200)):
        true = LAW.step_ns(seqs, kv, size, size**2 / 2)
        assert found.step_ns(seqs, kv, size, size**2 / 2) == pytest.approx(true, rel=0.01)
    assert found.ingest_ns == pytest.approx(LAW.ingest_ns, rel=0.02)
    assert found.join_ns == pytest.approx(LAW.join_ns, rel=0.02)
    assert found.fit_error < 0.001


def test_one_disturbed_repeat_hardly_moves_the_fit() -> None:
    rows = _observations(LAW)
    rows[0] = replace(rows[0], ns=rows[0].ns * 50)
    found = fit(rows, name="x", source="y").profile
    assert found.prefill_ns(300) == pytest.approx(LAW.prefill_ns(300), rel=0.01)


def test_the_error_that_remains_is_told() -> None:
    found = fit(_observations(LAW, noise=0.6), name="x", source="y")
    assert found.profile.fit_error > 0.01
    assert {error.kind for error in found.errors} == set(Kind)
    assert all(error.median <= error.p90 <= error.largest for error in found.errors)


def test_a_busy_machine_does_not_pull_the_law_to_nothing() -> None:
    rng = random.Random(3)
    rows = [
        replace(row, ns=round(row.ns * rng.choice((1, 1.2, 1.5, 2, 4, 8))))
        for row in _observations(LAW)
    ]
    found = fit(rows, name="x", source="y").profile
    for size in (64, 300, 900):
        assert found.prefill_ns(size) > 0.8 * LAW.prefill_ns(size)
        assert found.prefill_ns(size) < 3 * LAW.prefill_ns(size)
    assert 0.8 * LAW.decode_ns(4, 300) < found.decode_ns(4, 300) < 3 * LAW.decode_ns(4, 300)


def test_a_flat_part_is_found() -> None:
    flat = StepProfile(
        name="gpu", dense_flat_tokens=128, dense_flat_ns=8 * MS, dense_ns_per_token=40 * US
    )
    found = fit(_observations(flat), name="x", source="y").profile
    assert found.dense_flat_tokens == 128
    assert found.prefill_ns(100) == pytest.approx(flat.prefill_ns(100), rel=0.02)
    assert found.prefill_ns(1_000) == pytest.approx(flat.prefill_ns(1_000), rel=0.02)


def test_prompts_in_micro_batches_are_fitted_as_such() -> None:
    rows = [
        Observation(n, Kind.PREFILL, Work(pieces, requests=1, from_idle=True), len(pieces) * 5 * MS)
        for n, pieces in enumerate(((1,), (100,), (512,), (512, 88), (512, 512), (512, 512, 176)))
    ]
    rows.append(Observation(9, Kind.DECODE, Work((1,), 1, 10), 5 * MS))
    found = fit(rows, name="x", source="y")
    assert found.profile.dense_flat_ns == pytest.approx(5 * MS, rel=0.02)
    assert found.profile.fit_error < 0.01


def test_too_little_to_fit_is_an_error_with_a_remedy() -> None:
    with pytest.raises(EngineError, match="idle machine"):
        fit(_observations(LAW)[:3], name="x", source="y")


def test_steps_have_the_pieces_that_the_engine_makes_of_them() -> None:
    pool = Shape(4, micro_batch=512)
    assert pool.pieces((0, 2), [(1, 600)]) == (512, 90)
    assert Shape(4).pieces((0, 2), [(1, 600)]) == (602,)
    apart = Shape(4, kv_unified=False, micro_batch=512)
    assert apart.pieces((0, 2), [(1, 600)]) == (2, 1, 512, 87)


def test_the_work_of_busy_places_is_the_sum_of_its_steps() -> None:
    alone = busy(Shape(1), [(100, 3), (10, 1)])
    assert alone.pieces == (100, 1, 1, 10)
    assert alone.decode_seqs == 2
    assert alone.kv_tokens == 101 + 102
    assert alone.prefill_pairs == (100**2 + 10**2) / 2
    assert alone.requests == 2
    together = busy(Shape(2), [(100, 5), (10, 1), (20, 2)])
    assert together.pieces == (110, 1, 21, 2, 1), "the third came a step late"
    assert together.decode_seqs == 5


@pytest.mark.parametrize("kv_unified", [True, False])
def test_the_work_of_busy_places_takes_the_twin_as_long_as_it_says(kv_unified: bool) -> None:
    sizes = [(1 + (k * 619) % 300, 1 + (k * 389) % 40) for k in range(3)]
    spec = LlamaCppEngine(LAW, slots=3, prefix_caching=False, kv_unified=kv_unified)
    engine = spec.build(0)
    for number, (prompt, output) in enumerate(sizes):
        engine.start(number, prompt, output, 0)
    ended_ns = 0
    while (next_ns := engine.next_ns()) is not None:
        ended_ns = next_ns
        engine.take_due(next_ns)
    shape = Shape(3, kv_unified=kv_unified, micro_batch=512, batch_tokens=2_048)
    work = busy(shape, sizes)
    ns = len(work.pieces) * LAW.dense_flat_ns
    ns += sum(size - 1 for size in work.pieces) * LAW.dense_ns_per_token
    ns += work.decode_seqs * LAW.decode_seq_ns + work.kv_tokens * LAW.decode_kv_ns_per_token
    ns += work.prefill_pairs * LAW.prefill_attention_ns_per_token_ctx
    ns += work.requests * LAW.join_ns + LAW.ingest_ns
    assert ended_ns == pytest.approx(ns, rel=1e-6)


def test_widths_end_at_all_places() -> None:
    assert widths(1) == [1]
    assert widths(5) == [1, 2, 3, 4, 5]
    assert widths(20) == [1, 2, 3, 4, 6, 8, 12, 16, 20]


def _model(places: int = 4) -> ModelSection:
    engine = {"kind": "remote", "base_url": "http://127.0.0.1:1", "places": places}
    return ModelSection.model_validate({"id": "m", "engine": engine})


def _calibrated(places: int) -> tuple[StepProfile, FakeLauncher]:
    timings = FakeTimings(prefill_ns_per_token=100 * US, token_ns=5 * MS, neighbour_ns=1 * MS)
    launcher = FakeLauncher(FakeScript(timings=timings, places=places))

    async def main(clock: VirtualClock) -> StepProfile:
        found = await calibrate(_model(places), launcher, clock=clock)
        assert found.left_out == 0
        return found.profile

    return run_virtual(main), launcher


def test_the_pace_of_an_engine_is_read_from_its_streams() -> None:
    profile, launcher = _calibrated(places=4)
    assert profile.decode_ns(1, 200) == pytest.approx(5 * MS, rel=0.05)
    assert profile.decode_ns(4, 200) == pytest.approx(8 * MS, rel=0.05)
    (engine,) = launcher.engines
    assert engine.aborted > 0, "the background of a mixed probe is ended early"


def test_the_time_to_read_a_prompt_is_read_from_its_streams() -> None:
    profile, _ = _calibrated(places=1)
    first_ns = profile.ingest_ns + profile.prefill_ns(512)
    assert first_ns == pytest.approx(512 * 100 * US + 5 * MS, rel=0.05)


def test_a_stored_profile_is_found_by_its_key_only(tmp_path: Path) -> None:
    key = key_of(_model())
    path = store(LAW, key, directory=tmp_path)
    assert stored(key, directory=tmp_path) == LAW
    assert load_profile(path) == LAW, "a scenario can name the file"
    other = _model().model_copy(update={"engine": _model().engine.model_copy(update={"places": 5})})
    assert key_of(other) != key
    assert stored(key_of(other), directory=tmp_path) is None
    path.write_text("{")
    assert stored(key, directory=tmp_path) is None


def test_a_model_that_is_not_configured_is_told_with_those_that_are() -> None:
    done = CliRunner().invoke(app, ["calibrate", "no-such-model"])
    assert done.exit_code == 1
    assert "configured are: slalom-" in done.stderr


class _Reply:
    """An answer whose only token has no text."""

    status = 200
    content_type = "text/event-stream"

    def __init__(self) -> None:
        self._left = [b'data: {"choices":[{"text":"","finish_reason":"length"}]}\n\n', b""]

    async def read(self) -> bytes:
        return self._left.pop(0)

    async def close(self) -> None:
        return


class _Silent(FakeEngine):
    """An engine that answers so."""

    async def generate(self, call: Call) -> _Reply:  # type: ignore[override]
        return _Reply()


def test_a_token_without_text_still_has_a_time() -> None:
    async def main(clock: VirtualClock) -> Stream:
        return await watch(_Silent(), clock, Stream(1), salt=1, output_tokens=1)

    assert len(run_virtual(main, start_ns=MS).arrivals_ns) == 1
