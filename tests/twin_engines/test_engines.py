"""What each kind of engine does with its jobs: order, limits, reuse, leaving, slowing down."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slalom.errors import ConfigError
from slalom.twin.engine_kv import KvBlocks
from slalom.twin.engine_llama_cpp import pieces_of
from slalom.twin.engine_model import Stage
from slalom.twin.engine_protocol import Prefix, TwinEngine
from slalom.twin.engine_specs import EngineSpec, LlamaCppEngine, UslEngine, VllmEngine
from slalom.twin.engine_steps import StepEngine
from slalom.twin.engine_vllm import VllmBatching
from slalom.twin.step_time import StepProfile
from slalom.twin.usl import SABER_FIT, SABER_MEANS, UslLaw
from slalom.units import MS, SECOND

PROFILE = StepProfile(
    "made up",
    host_ns=1 * MS,
    dense_flat_tokens=100,
    dense_flat_ns=5 * MS,
    dense_ns_per_token=20_000,
    decode_kv_ns_per_token=100,
    ingest_ns=3 * MS,
)
Told = list[tuple[int, int, Stage, int]]


def drain(engine: TwinEngine[int], until_ns: int = 1 << 62) -> Told:
    """Everything that is reached up to a time, woken only when the engine asks."""
    told: Told = []
    while (next_ns := engine.next_ns()) is not None and next_ns <= until_ns:
        told += [(at_ns, m.job, m.stage, m.tokens) for at_ns, m in engine.take_due(next_ns)]
    return told


def ends(told: Told) -> dict[int, int]:
    return {job: at_ns for at_ns, job, stage, _ in told if stage is Stage.FINISHED}


def firsts(told: Told) -> dict[int, int]:
    return {job: at_ns for at_ns, job, stage, _ in told if stage is Stage.FIRST_TOKEN}


@pytest.mark.parametrize("spec", [VllmEngine(PROFILE), LlamaCppEngine(PROFILE)])
def test_a_job_alone_follows_the_law(spec: EngineSpec) -> None:
    engine = spec.build(0)
    engine.start(1, 80, 30, 0)
    told = drain(engine)
    first_ns = 3 * MS + PROFILE.prefill_ns(80)
    assert firsts(told)[1] == first_ns
    steps = sum(PROFILE.step_ns(1, 80 + written) for written in range(1, 30))
    assert ends(told)[1] == first_ns + steps == spec.alone_ns(80, 30)


def test_a_long_prompt_is_read_in_chunks_and_those_who_write_go_on() -> None:
    engine = VllmEngine(PROFILE, budget_tokens=100, seqs_max=4).build(0)
    engine.start(1, 10, 100, 0)
    drain(engine, 20 * MS)
    engine.start(2, 300, 1, 20 * MS)
    told = drain(engine)
    flat_ns = 6 * MS
    reading_ns = firsts(told)[2] - 20 * MS
    assert 4 * flat_ns <= reading_ns <= 6 * flat_ns, "99 tokens a step beside the one that writes"
    micro = replace(PROFILE, dense_flat_tokens=1)
    whole, pieces = LlamaCppEngine(micro), LlamaCppEngine(micro, micro_batch_tokens=100)
    assert pieces.alone_ns(1_000, 1) - whole.alone_ns(1_000, 1) > 7 * 4 * MS


def test_slots_with_their_own_caches_are_computed_with_their_neighbours() -> None:
    def sizes(*tokens: tuple[int, int], most: int = 512) -> list[int]:
        return list(pieces_of(tokens, most))

    assert sizes((0, 1), (1, 1), (2, 1)) == [3]
    assert sizes((0, 1), (2, 1)) == [1, 1]
    assert sizes((0, 1), (1, 200)) == [2, 199]
    assert sizes((0, 1), (2, 1), (3, 1), (1, 200)) == [2, 2, 199]
    assert sizes((0, 700), (1, 200)) == [400, 500]
    assert sizes((0, 700)) == [512, 188]
    assert sizes(*((slot, 1) for slot in range(5)), most=2) == [2, 2, 1]


def test_a_prompt_costs_more_where_it_cannot_be_computed_with_those_who_write() -> None:
    first_ns = []
    for kv_unified in (True, False):
        engine = LlamaCppEngine(PROFILE, kv_unified=kv_unified).build(0)
        engine.start(1, 10, 100, 0)
        drain(engine, 20 * MS)
        engine.start(2, 50, 1, 20 * MS)
        first_ns.append(firsts(drain(engine))[2])
    assert first_ns[1] - first_ns[0] == 5 * MS, "one more piece"


def test_a_request_is_placed_once_in_the_step_that_begins_to_read_it() -> None:
    placing = replace(PROFILE, join_ns=2 * MS)
    for kind in (LlamaCppEngine, VllmEngine):
        assert kind(placing).alone_ns(500, 9) == kind(PROFILE).alone_ns(500, 9) + 2 * MS
    chunks = [VllmEngine(profile, budget_tokens=300) for profile in (PROFILE, placing)]
    assert chunks[1].alone_ns(1_000, 9) == chunks[0].alone_ns(1_000, 9) + 2 * MS


def test_a_slot_ends_an_answer_at_the_end_of_its_context() -> None:
    engine = LlamaCppEngine(PROFILE, context_tokens=256).build(0)
    engine.start(1, 200, 100, 0)
    assert [tokens for _, _, stage, tokens in drain(engine) if stage is Stage.FINISHED] == [56]
    engine.start(2, 255, 100, SECOND)
    with pytest.raises(ConfigError, match="leaves no room"):
        engine.start(3, 256, 1, SECOND)
    assert LlamaCppEngine(PROFILE).alone_ns(9_000, 100) > 0, "no bound unless one is given"


def test_places_are_taken_in_the_order_of_coming() -> None:
    for spec in (
        VllmEngine(PROFILE, seqs_max=2),
        LlamaCppEngine(PROFILE, slots=2),
    ):
        engine = spec.build(0)
        for job in range(6):
            engine.start(job, 50, 10 + 5 * (job % 2), 1_000 + job)
        assert list(firsts(drain(engine))) == list(range(6))


def test_an_urgent_job_passes_those_that_wait_where_priority_counts() -> None:
    for by_priority, order in ((True, [0, 3, 1, 2]), (False, [0, 1, 2, 3])):
        engine = VllmEngine(PROFILE, seqs_max=1, by_priority=by_priority).build(0)
        for job, priority in enumerate([9, 9, 9, 1]):
            engine.start(job, 50, 10, job, None, priority)
        assert list(firsts(drain(engine))) == order


def test_the_least_urgent_gives_its_blocks() -> None:
    batching = VllmBatching(budget_tokens=512, seqs_max=8, kv=KvBlocks(12, 16), by_priority=True)
    engine: StepEngine[int] = StepEngine(PROFILE, batching)
    engine.start(0, 60, 60, 0, None, 9)
    engine.start(1, 60, 60, 1, None, 1)
    told = drain(engine)
    assert batching.preemptions > 0
    assert ends(told)[1] < ends(told)[0]
    alone_ns = VllmEngine(PROFILE, kv_blocks=12).alone_ns(60, 60)
    assert ends(told)[1] < alone_ns * 1.2 < ends(told)[0]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 300), st.integers(1, 90), st.integers(1, 60), st.integers(0, 3)),
        min_size=1,
        max_size=14,
    ),
    st.dictionaries(st.integers(0, 13), st.integers(0, 600), max_size=5),
)
def test_blocks_are_never_overdrawn_and_all_come_back(
    jobs: list[tuple[int, int, int, int]], leaving: dict[int, int]
) -> None:
    kv = KvBlocks(16, 16)
    batching = VllmBatching(budget_tokens=64, seqs_max=6, kv=kv)
    engine: StepEngine[int] = StepEngine(PROFILE, batching)
    happenings = [(at * MS, 0, index) for index, (at, *_) in enumerate(jobs)]
    happenings += [(at * MS, 1, job) for job, at in leaving.items() if job < len(jobs)]
    written: dict[int, int] = {}
    told: Told = []

    def advance(until_ns: int) -> None:
        while (next_ns := engine.next_ns()) is not None and next_ns <= until_ns:
            told.extend((at, m.job, m.stage, m.tokens) for at, m in engine.take_due(next_ns))
            assert kv.used + kv.kept_blocks <= kv.total
            assert 0 <= kv.pinned_blocks <= kv.kept_blocks

    for at_ns, leaves, job in sorted(happenings):
        advance(at_ns)
        _, prompt, output, session = jobs[job]
        if leaves:
            written[job] = engine.stop(job, at_ns)
        elif job not in written:
            prefix = Prefix(f"s{session}", prompt) if session else None
            engine.start(job, prompt, output, at_ns, prefix)
    advance(1 << 62)
    assert (len(engine), kv.used, kv.pinned_blocks) == (0, 0, 0)
    for job, (_, _, output, _) in enumerate(jobs):
        if job in ends(told):
            assert [tokens for _, j, stage, tokens in told if (j, stage) == (job, 2)] == [output]
        else:
            assert 0 <= written[job] < output


def test_a_prefix_that_was_read_is_not_read_again() -> None:
    for spec in (VllmEngine(PROFILE, kv_blocks=200), LlamaCppEngine(PROFILE)):
        engine = spec.build(0)
        engine.start(0, 1_600, 5, 0, Prefix("session", 0))
        cold_ns = firsts(drain(engine))[0]
        engine.start(1, 1_650, 5, SECOND, Prefix("session", 1_600))
        warm_ns = firsts(drain(engine))[1] - SECOND
        engine.start(2, 1_650, 5, 2 * SECOND, Prefix("another", 1_600))
        other_ns = firsts(drain(engine))[2] - 2 * SECOND
        assert warm_ns < 12 * MS < 30 * MS < cold_ns < other_ns
        after_swap = spec.build(0)
        after_swap.start(1, 1_650, 5, SECOND, Prefix("session", 1_600))
        assert firsts(drain(after_swap))[1] - SECOND == other_ns


def test_what_is_kept_gives_way_to_jobs_that_need_its_blocks() -> None:
    engine = VllmEngine(PROFILE, kv_blocks=120).build(0)
    engine.start(0, 1_600, 5, 0, Prefix("session", 0))
    drain(engine)
    engine.start(1, 1_600, 5, SECOND)
    drain(engine)
    engine.start(2, 1_650, 5, 2 * SECOND, Prefix("session", 1_600))
    assert firsts(drain(engine))[2] - 2 * SECOND > 30 * MS


def test_a_prompt_larger_than_all_blocks_is_refused_and_a_long_answer_cut() -> None:
    engine = VllmEngine(PROFILE, kv_blocks=10).build(0)
    with pytest.raises(ConfigError, match="161 tokens does not fit"):
        engine.start(0, 161, 1, 0)
    engine.start(1, 150, 1_000, 0)
    assert drain(engine)[-1][2:] == (Stage.FINISHED, 11)


def test_one_that_leaves_is_gone_after_the_step_that_runs() -> None:
    engine = VllmEngine(PROFILE).build(0)
    for job in (0, 1):
        engine.start(job, 10, 50, 0)
    drain(engine, 100 * MS)
    engine.take_due(100 * MS)
    beside = engine.stop(1, 100 * MS)
    assert 14 <= beside <= 17
    assert engine.stop(1, 100 * MS) == 0
    assert 1 not in engine
    told = drain(engine)
    assert ends(told).keys() == {0}
    alone_ns = VllmEngine(PROFILE).alone_ns(10, 50)
    assert alone_ns < ends(told)[0] < alone_ns + MS


def test_a_slow_engine_takes_its_factor_from_the_next_step_on() -> None:
    engine = VllmEngine(PROFILE).build(0)
    engine.start(0, 10, 21, 0)
    drain(engine, 60 * MS)
    engine.take_due(60 * MS)
    engine.slow_down(4, 60 * MS)
    end_ns = ends(drain(engine))[0]
    # 9 steps of 6 ms are over at 57 ms, the tenth runs; 11 more take 24 ms each.
    assert abs(end_ns - (63 + 11 * 24) * MS) < MS


def test_progress_is_told_at_the_first_token_after_the_silence() -> None:
    engine = VllmEngine(PROFILE).build(100 * MS)
    engine.start(0, 10, 60, 0)
    told = drain(engine)
    stages = [stage for *_, stage, _ in told]
    assert stages == [Stage.FIRST_TOKEN, *[Stage.PROGRESS] * 3, Stage.FINISHED]
    times = [at_ns for at_ns, *_ in told[:4]]
    gaps = [after - before for before, after in pairwise(times)]
    assert all(100 * MS <= gap <= 107 * MS for gap in gaps)


def test_the_usl_engine_gives_each_of_l_jobs_the_speed_at_l() -> None:
    engine = UslEngine(SABER_FIT).build(0)
    for job in range(10):
        engine.start(job, 900, 100, 0)
    told = drain(engine)
    assert ends(told)[9] == 100 * SABER_FIT.step_ns(10), "the last one never ran with fewer"
    speeds = [100 * SECOND / end_ns for end_ns in ends(told).values()]
    assert all(abs(speed - SABER_FIT.speed(10)) < 0.3 for speed in speeds)


def test_the_published_fit_and_the_published_means_agree_where_it_counts() -> None:
    errors = [abs(SABER_FIT.speed(load) / mean - 1) for load, mean in SABER_MEANS]
    assert max(errors) < 0.16
    assert sum(errors) / len(errors) < 0.07
    assert SABER_FIT.step_ns(1_000) == SABER_FIT.step_ns(150), "it does not turn back"


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: VllmEngine(PROFILE, seqs_max=0), "seqs_max is 0"),
        (lambda: VllmEngine(PROFILE, budget_tokens=100, seqs_max=200), "raise the budget"),
        (lambda: LlamaCppEngine(PROFILE, slots=0), "slots is 0"),
        (lambda: UslLaw(a=0, s=0, k=0), "no positive speed"),
        (lambda: UslLaw(a=10, s=-2, k=0), "no positive speed"),
    ],
)
def test_impossible_engines_are_refused(make: object, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        make()  # type: ignore[operator]
