"""The page of invariants is whole: fourteen, each stated, kept and noticed, by things that exist.

Owns the form of docs/explanation/invariants.md. That the files and tests it names are there is a
rule of tools/tidy.
"""

import re
from pathlib import Path

import pytest

from tests.mutants.mutants import MUTANTS

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "invariants.md"
SECTIONS = re.split(r"(?m)^## (\d+) ", PAGE.read_text("utf-8"))


def test_there_are_fourteen_in_order() -> None:
    assert SECTIONS[1::2] == [str(number) for number in range(1, 15)]


@pytest.mark.parametrize("section", SECTIONS[2::2], ids=SECTIONS[1::2])
def test_each_is_stated_kept_and_noticed(section: str) -> None:
    for mark in ("**Statement.** ", "**Kept by** ", "**Noticed by** "):
        assert section.count(mark) == 1


def test_the_mutants_it_names_are_hunted() -> None:
    told = " ".join(" ".join(SECTIONS).split())
    named = re.findall(r"mutants? ((?:\"[^\"]+\"(?:,? and )?)+)", told)
    names = {name for group in named for name in re.findall(r"\"([^\"]+)\"", group)}
    assert len(names) >= 5
    assert names <= {mutant.name for mutant in MUTANTS}
