"""The engine's law: token times, what a neighbour costs, and that skipping ahead is exact."""

from hypothesis import example, given
from hypothesis import strategies as st

from slalom.twin.engine_model import EngineModel, Stage, StepLaw

_LAW = StepLaw(prefill_ns_per_token=10, token_ns=100, neighbour_ns=7)


def milestones(model: EngineModel[str], until_ns: int) -> list[tuple[int, str, Stage, int]]:
    return [(at_ns, m.job, m.stage, m.tokens) for at_ns, m in model.take_due(until_ns)]


def test_a_job_alone_reads_its_prompt_and_then_writes_at_full_pace() -> None:
    model: EngineModel[str] = EngineModel(_LAW)
    model.start("a", 5, 3, now_ns=1_000)
    assert model.next_ns() == 1_150
    assert milestones(model, 9_999) == [
        (1_150, "a", Stage.FIRST_TOKEN, 1),
        (1_350, "a", Stage.FINISHED, 3),
    ]
    assert len(model) == 0
    assert model.next_ns() is None


def test_a_token_that_has_begun_keeps_its_pace_and_the_next_is_slower() -> None:
    model: EngineModel[str] = EngineModel(_LAW)
    model.start("a", 0, 3, now_ns=0)
    milestones(model, 150)
    model.start("b", 0, 1, now_ns=150)
    assert milestones(model, 9_999) == [
        (257, "b", Stage.FIRST_TOKEN, 1),
        (257, "b", Stage.FINISHED, 1),
        (307, "a", Stage.FINISHED, 3),
    ]


def test_progress_is_reported_at_the_first_token_after_the_silence() -> None:
    model: EngineModel[str] = EngineModel(_LAW, report_every_ns=250)
    model.start("a", 0, 9, now_ns=0)
    assert milestones(model, 9_999) == [
        (100, "a", Stage.FIRST_TOKEN, 1),
        (400, "a", Stage.PROGRESS, 4),
        (700, "a", Stage.PROGRESS, 7),
        (900, "a", Stage.FINISHED, 9),
    ]


def test_a_stopped_job_tells_how_far_it_came_and_frees_the_others() -> None:
    model: EngineModel[str] = EngineModel(_LAW)
    model.start("a", 0, 4, now_ns=0)
    model.start("b", 0, 4, now_ns=0)
    milestones(model, 215)
    assert model.stop("b", 215) == 2
    assert model.stop("b", 215) == 0
    assert "b" not in model
    assert milestones(model, 9_999) == [(414, "a", Stage.FINISHED, 4)]


def test_an_engine_that_was_slowed_down_is_slower_from_the_next_token_on() -> None:
    model: EngineModel[str] = EngineModel(_LAW)
    model.start("a", 0, 3, now_ns=0)
    milestones(model, 120)
    model.slow_down(4, 120)
    assert milestones(model, 9_999) == [(600, "a", Stage.FINISHED, 3)]


class _Stepped:
    """The same law, stepped token by token: slow, and obviously right."""

    def __init__(self) -> None:
        self.jobs: dict[str, list[int]] = {}  # name -> [tokens left, next token at]

    def run_to(self, now_ns: int) -> list[tuple[int, str]]:
        """Play every token that is due before or at a time; who finished, and when."""
        finished: list[tuple[int, str]] = []
        while self.jobs and min(due for _, due in self.jobs.values()) <= now_ns:
            at_ns = min(due for _, due in self.jobs.values())
            running = len(self.jobs)
            ended = []
            for name, job in self.jobs.items():
                if job[1] == at_ns:
                    job[0] -= 1
                    job[1] += _LAW.step_ns(running)
                    if job[0] == 0:
                        ended.append(name)
            for name in ended:
                del self.jobs[name]
                finished.append((at_ns, name))
        return finished


@example([(1, 0, 4), (1, 6, 12), (198, 19, 9)])
@given(
    st.lists(
        st.tuples(st.integers(1, 400), st.integers(0, 30), st.integers(1, 12)),
        min_size=1,
        max_size=8,
    )
)
def test_skipping_ahead_equals_stepping(plan: list[tuple[int, int, int]]) -> None:
    model: EngineModel[str] = EngineModel(_LAW)
    stepped = _Stepped()
    skipped: list[tuple[int, str]] = []
    expected: list[tuple[int, str]] = []
    now_ns = 0
    for index, (gap_ns, prompt_tokens, output_tokens) in enumerate(plan):
        now_ns += gap_ns
        skipped += [(at, m.job) for at, m in model.take_due(now_ns) if m.stage is Stage.FINISHED]
        expected += stepped.run_to(now_ns)
        name = f"j{index}"
        model.start(name, prompt_tokens, output_tokens, now_ns)
        step_ns = _LAW.step_ns(len(stepped.jobs) + 1)
        stepped.jobs[name] = [output_tokens, now_ns + 10 * prompt_tokens + step_ns]
    skipped += [(at, m.job) for at, m in model.take_due(1 << 40) if m.stage is Stage.FINISHED]
    expected += stepped.run_to(1 << 40)
    assert skipped == expected
