"""The committed numbers are what the twin gives today, to the last digit."""

import json

import pytest

from slalom.core.journal import replay
from slalom.twin.run import build_scheduler, run
from tests.twin.scorecard import COMMITTED, SCENARIOS, numbers

_CARD = json.loads(COMMITTED.read_text())


def test_the_card_has_a_row_for_each_scenario() -> None:
    assert list(_CARD) == list(SCENARIOS)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_numbers_are_those_committed(name: str) -> None:
    scenario = SCENARIOS[name]()
    result = run(scenario)
    # Moved on purpose? `python -m tests.twin.scorecard --write`, and say why in the commit.
    assert numbers(result) == _CARD[name]
    assert replay(build_scheduler(scenario), result.entries) is None
