"""Aliases of kind `confident` in the twin: doubts move requests, and cost or save device time."""

from pathlib import Path

import pytest

from slalom.config.scenario_load import load_scenario
from slalom.core.actions import AnswerKept, ModelChosen
from slalom.core.events import AnswerJudged, Verdict
from slalom.core.journal import Entry
from slalom.errors import ConfigError
from slalom.testing.checker import Checker
from slalom.twin.from_file import policy_sets, scenario_of
from slalom.twin.meter import Meter
from slalom.twin.run import run

SCENARIO = """
name: confident
requests: 200
clients:
  - name: people
    arrivals: {kind: poisson, rate_per_s: RATE}
    mix:
      - {task: completion, model: complete, prompt: {kind: fixed, tokens: 200},
         output: {kind: fixed, tokens: 20}, max_tokens: 32}
models:
  - {id: small, bytes: 2GiB, places: 8, pinned: true,
     engine: {kind: simple, token_ms: 2, neighbour_ms: 0.1, prefill_us_per_token: 10}}
  - {id: large, bytes: 8GiB, places: 8, pinned: true,
     engine: {kind: simple, token_ms: 10, neighbour_ms: 0.5, prefill_us_per_token: 60}}
devices: [{id: gpu, budget: 16GiB}]
aliases:
  - {id: complete, targets: [small, large], kind: confident, parse: PARSE}
doubts: {DOUBTS}
"""


def played(
    tmp_path: Path, doubts: str, *, parse: str = "true", rate: str = "4"
) -> tuple[list[Entry], Meter]:
    path = tmp_path / "confident.yaml"
    text = SCENARIO.replace("{DOUBTS}", f"{{{doubts}}}").replace("PARSE", parse)
    path.write_text(text.replace("RATE", rate), encoding="utf-8")
    loaded = load_scenario(path)
    scenario = scenario_of(loaded, policy_sets(loaded)["default"], seed=1)
    entries: list[Entry] = []
    meter = Meter(scenario)
    run(scenario, watch=entries.append, observer=meter)
    checker = Checker(
        (model.spec for model in scenario.models),
        scenario.devices,
        scenario.params,
        scenario.policies,
    )
    for entry in entries:
        checker.see(entry)
    return entries, meter


def moves(entries: list[Entry]) -> dict[str, int]:
    """How often a model took over, by why."""
    found: dict[str, int] = {}
    for entry in entries:
        for action in entry.actions:
            if isinstance(action, ModelChosen) and action.model == "large":
                for _, why in action.passed:
                    found[why] = found.get(why, 0) + 1
    return found


def verdicts(entries: list[Entry]) -> list[Verdict]:
    events = (event for entry in entries for event in entry.events)
    return [event.verdict for event in events if isinstance(event, AnswerJudged)]


def test_the_shares_that_are_doubted_go_to_the_large_model(tmp_path: Path) -> None:
    entries, meter = played(tmp_path, "unsure: 0.2, broken: 0.3")
    found = moves(entries)
    assert 20 < found["unsure"] < 60
    assert 40 < found["broken"] < 80
    assert len(verdicts(entries)) == 200, "each answer is looked at once"
    models = [record.model for record in meter.records]
    assert models.count("large") == sum(found.values())


def test_the_same_answers_are_doubted_whatever_else_is_decided(tmp_path: Path) -> None:
    def unsure(rate: str) -> set[str]:
        entries, _ = played(tmp_path, "unsure: 0.3", rate=rate)
        events = (event for entry in entries for event in entry.events)
        return {
            event.request_id
            for event in events
            if isinstance(event, AnswerJudged) and event.verdict is Verdict.UNSURE
        }

    assert unsure("1") == unsure("4")


def test_early_doubts_cost_less_of_the_small_model_than_late_ones(tmp_path: Path) -> None:
    early, late = played(tmp_path, "unsure: 0.5")[1], played(tmp_path, "broken: 0.5")[1]
    never, always = played(tmp_path, "unsure: 0")[1], played(tmp_path, "broken: 1")[1]

    def spent(meter: Meter) -> float:
        return meter.usage().busy_share * max(record.ended_ns for record in meter.records)

    assert spent(never) < spent(early) < spent(late) < spent(always)


def test_a_client_sees_a_held_answer_when_it_was_looked_at(tmp_path: Path) -> None:
    whole, first = played(tmp_path, "unsure: 0")[1], played(tmp_path, "unsure: 0", parse="false")[1]
    for record in whole.records:
        assert record.first_token_ns == record.ended_ns
    assert all(record.first_token_ns < record.ended_ns for record in first.records)


def test_what_the_large_model_cannot_do_in_time_is_kept(tmp_path: Path) -> None:
    entries, meter = played(tmp_path, "broken: 1", rate="30")
    kept = [a for entry in entries for a in entry.actions if isinstance(a, AnswerKept)]
    assert kept
    assert moves(entries)
    assert len(meter.records) == 200


def test_shares_of_more_than_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at most 1 together"):
        played(tmp_path, "unsure: 0.6, broken: 0.6")
