"""Chains described: which graphs make sense, and what is still to come after a step."""

import pytest

from slalom.units import MS
from slalom.workload.chains import ChainSpec, StepSpec, later_of, problem_of, repeated
from slalom.workload.tasks import DEFAULT_TASKS


def step(name: str, *then: str, ends: bool = False, tokens: int = 10) -> StepSpec:
    following = () if ends else (then or None)
    return StepSpec(name, "m", "chat", output_tokens=tokens, then=following)


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([], "1 to 64"),
        ([step("a"), step("a")], "two steps"),
        ([step("a", "b")], "no step of this chain"),
        ([step("a", "a")], "a -> a"),
        ([step("a"), step("b"), step("c", "b")], "b -> c -> b"),
        ([step("a", ends=True), step("b")], "leads to 'b'"),
        ([step("a"), step("b"), step("c")], ""),
        ([step("a", "b", "c"), step("b", "d"), step("c", "d"), step("d")], ""),
    ],
)
def test_what_is_wrong_with_a_chain_is_said(steps: list[StepSpec], says: str) -> None:
    problem = problem_of(steps)
    assert says in problem
    assert bool(says) == bool(problem)


def test_many_branches_are_looked_through_once() -> None:
    """Sixty-four steps that each lead to all later ones have more ways than anybody can walk."""
    names = [f"s{n}" for n in range(64)]
    steps = [
        StepSpec(name, "m", "chat", then=tuple(names[n + 1 :])) for n, name in enumerate(names)
    ]
    assert problem_of(steps) == ""
    assert ChainSpec("wide", steps).length == 64


def test_the_longest_way_counts() -> None:
    chain = ChainSpec(
        "c", [step("a", "b", "c"), step("b", "d", tokens=5), step("c", "d", tokens=500), step("d")]
    )
    assert [one.name for one in chain.after("a")] == ["c", "d"]
    assert [one.name for one in chain.after("b")] == ["d"]
    assert chain.after("d") == ()
    assert (chain.first, chain.length, chain.next_of("a")) == ("a", 3, ("b", "c"))


def test_what_a_step_leaves_open_comes_from_what_was_said_before_it() -> None:
    steps = [StepSpec("b", "m", "chat", gap_ms=20), StepSpec("c", "m", "chat", 7, 8)]
    chat_tokens = DEFAULT_TASKS["chat"].predicted_tokens
    later = later_of(steps, DEFAULT_TASKS, prompt_tokens=100, answer_tokens=40)
    assert [(one.prompt_tokens, one.predicted_tokens) for one in later] == [
        (140, chat_tokens),
        (7, 8),
    ]
    assert [one.gap_ns for one in later] == [20 * MS, 0]
    again = repeated(later[1], 2)
    assert [one.prompt_tokens for one in again] == [15, 23]
