"""Chains in scenario files: their calls, their deadline, and what may be said beforehand."""

from pathlib import Path

import pytest

from slalom.config.scenario_load import LoadedScenario, load_scenario
from slalom.errors import ConfigError
from slalom.units import SECOND
from slalom.workload.load import LoadItem, draw_load
from tests.workload_files.test_scenario_files import TEXT, a_file

CHAIN = """\
        chain:
          deadline_seconds: 9
          then:
            - task: chat
              model: small
              prompt: {kind: fixed, tokens: 7}
              output: {kind: uniform, low: 1, high: 30}
              max_tokens: 30
              gap_seconds: 2
            - task: completion
              model: small
              prompt: {kind: fixed, tokens: 50}
              output: {kind: fixed, tokens: 3}
              carries: false
"""
TWO = "{kind: fixed, tokens: 2}"
WITH_CHAIN = TEXT.replace("        max_tokens: 20\n", f"        max_tokens: 20\n{CHAIN}")


def load(folder: Path, text: str = WITH_CHAIN) -> LoadedScenario:
    return load_scenario(a_file(folder, text))


def calls_of(first: LoadItem) -> list[LoadItem]:
    found = [first]
    while found[-1].then is not None:
        found.append(found[-1].then)
    return found


def test_a_chain_is_drawn_whole_with_one_deadline(tmp_path: Path) -> None:
    first = draw_load(load(tmp_path).plan, 0)[0]
    calls = calls_of(first)
    assert [one.task for one in calls] == ["completion", "chat", "completion"]
    assert [one.id for one in calls] == [f"load-0.{step}" for step in range(3)]
    links = [one.link for one in calls if one.link is not None]
    assert [(one.step, one.steps, one.chain) for one in links] == [
        (step, 3, "load-0") for step in (1, 2, 3)
    ]
    assert {one.deadline_ns for one in links} == {first.at_ns + 9 * SECOND}
    assert [len(one.rest) for one in links] == [2, 1, 0]
    second, third = calls[1:]
    assert second.prompt_tokens == first.prompt_tokens + first.output_tokens + 7
    assert second.shared_tokens == first.prompt_tokens + first.output_tokens
    assert (third.prompt_tokens, third.shared_tokens) == (50, 0)
    assert second.gap_ns == 2 * SECOND


def test_what_a_client_says_of_later_calls_does_not_depend_on_what_will_be(tmp_path: Path) -> None:
    loads = [draw_load(load(tmp_path).plan, seed) for seed in (0, 1)]
    said = {item.link.rest for items in loads for item in items if item.link is not None}
    assert len(said) == 1, "prompts of 100 and the tasks' expectations, whatever is drawn"
    true = {call.output_tokens for items in loads for item in items for call in calls_of(item)}
    assert len(true) > 5


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("task: chat", "task: chatt", "there is no task 'chatt'"),
        ("              model: small", "              model: smal", "there is no model 'smal'"),
        ("deadline_seconds: 9", "deadline_seconds: 0", "greater than 0"),
        (
            "        max_tokens: 20\n",
            "        max_tokens: 20\n        typed_on_share: 0.5\n",
            "who types on",
        ),
        (
            "    mix:",
            f"    steps: {{count: {TWO}, gap_seconds: 1, appended: {TWO}}}\n    mix:",
            "chains go neither with steps",
        ),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load(tmp_path, WITH_CHAIN.replace(old, new, 1))
