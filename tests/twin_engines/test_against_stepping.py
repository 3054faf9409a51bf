"""Skipping ahead gives what stepping through every token gives, to the tick."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from slalom.twin.engine_kv import KvBlocks
from slalom.twin.engine_llama_cpp import LlamaCppBatching
from slalom.twin.engine_model import Stage
from slalom.twin.engine_steps import StepEngine
from slalom.twin.engine_vllm import VllmBatching
from slalom.twin.step_time import StepProfile
from slalom.units import MS
from tests.twin_engines.stepped import Outcome, Rules, Sent, Stepped

PROFILE = StepProfile(
    "made up",
    host_ns=0.7 * MS,
    dense_flat_tokens=24,
    dense_flat_ns=5.001 * MS,
    dense_ns_per_token=21_000.37,
    decode_flat_ns=90_000,
    decode_seq_ns=7_000.5,
    decode_kv_ns_per_token=333.033,
    prefill_attention_ns_per_token_ctx=1.2345,
    ingest_ns=2_000_000.5,
    join_ns=400_000.25,
)

_TIMES = st.integers(0, 400).map(lambda at_ms: at_ms * MS)
_JOBS = st.lists(
    st.builds(Sent, _TIMES, st.integers(1, 120), st.integers(1, 60)), min_size=1, max_size=12
)


def skipped(engine: StepEngine[int], sent: list[Sent]) -> Outcome:
    """Serve all jobs, waking only when the engine asks for it."""
    outcome = Outcome()

    def wake(now_ns: int) -> None:
        for at_ns, milestone in engine.take_due(now_ns):
            if milestone.stage is Stage.FIRST_TOKEN:
                outcome.first_ns[milestone.job] = at_ns
            elif milestone.stage is Stage.FINISHED:
                outcome.end_ns[milestone.job] = at_ns
                assert milestone.tokens == sent[milestone.job].output

    for at_ns, index in sorted((job.at_ns, index) for index, job in enumerate(sent)):
        while (next_ns := engine.next_ns()) is not None and next_ns <= at_ns:
            wake(next_ns)
        wake(at_ns)
        engine.start(index, sent[index].prompt, sent[index].output, at_ns)
    while (next_ns := engine.next_ns()) is not None:
        wake(next_ns)
    assert len(engine) == 0
    outcome.steps = engine.steps
    return outcome


@settings(max_examples=60, deadline=None)
@given(_JOBS, st.sampled_from([0, 12, 20, 60]), st.sampled_from([8, 40, 8_192]), st.integers(1, 8))
def test_vllm(sent: list[Sent], blocks: int, budget: int, seqs_max: int) -> None:
    rules = Rules(budget=budget, seqs_max=seqs_max, blocks=blocks, chunk=30)
    expected = Stepped(PROFILE, rules).play(sent)
    batching = VllmBatching(
        budget_tokens=budget, seqs_max=seqs_max, kv=KvBlocks(blocks, 16), long_prefill_tokens=30
    )
    found = skipped(StepEngine(PROFILE, batching), sent)
    assert (found.first_ns, found.end_ns) == (expected.first_ns, expected.end_ns)
    assert (found.steps, batching.preemptions) == (expected.steps, expected.preemptions)
    assert not blocks or expected.blocks_most <= blocks
    assert batching.kv.used == 0


@settings(max_examples=60, deadline=None)
@given(_JOBS, st.integers(1, 5), st.sampled_from([8, 33, 2_048]), st.booleans())
def test_llama_cpp(sent: list[Sent], slots: int, batch_tokens: int, kv_unified: bool) -> None:
    rules = Rules(budget=batch_tokens, slots=slots, micro_batch=16, kv_unified=kv_unified)
    expected = Stepped(PROFILE, rules).play(sent)
    batching = LlamaCppBatching(
        slots=slots, batch_tokens=batch_tokens, kv_unified=kv_unified, micro_batch=16
    )
    found = skipped(StepEngine(PROFILE, batching, micro_batch=16), sent)
    assert (found.first_ns, found.end_ns) == (expected.first_ns, expected.end_ns)
    assert found.steps == expected.steps


@settings(max_examples=60, deadline=None)
@given(_JOBS, st.integers(1, 200))
def test_reports_of_progress_move_nothing(sent: list[Sent], every_ms: int) -> None:
    def engine(report_every_ns: int) -> StepEngine[int]:
        batching = VllmBatching(budget_tokens=64, seqs_max=4, kv=KvBlocks(0, 16))
        return StepEngine(PROFILE, batching, report_every_ns=report_every_ns)

    assert skipped(engine(every_ms * MS), sent) == skipped(engine(0), sent)


def test_the_two_are_not_equal_by_chance() -> None:
    sent = [Sent(index * 7 * MS, 100, 40) for index in range(6)]
    rules = Rules(budget=64, seqs_max=4, blocks=24)
    plain = Stepped(PROFILE, rules).play(sent)
    other = Stepped(replace(PROFILE, decode_kv_ns_per_token=333.034), rules).play(sent)
    assert plain.end_ns != other.end_ns
    assert plain.preemptions > 0
