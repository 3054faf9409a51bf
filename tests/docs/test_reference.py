"""The reference pages hold everything the code offers, and each generated part has its page.

Owns the check that what `tools.docs.reference` writes is complete; `make docs` builds the site.
"""

import re
from pathlib import Path

import pytest

from slalom.config.scenario_file import ScenarioFile
from slalom.config.schema import Config
from slalom.gateway.error_table import ERROR_TABLE
from slalom.policies.registry import POLICIES
from slalom.workload.tasks import DEFAULT_TASKS
from tools.docs import hooks, reference

ROOT = Path(__file__).parents[2]


def test_every_option_of_the_configuration_is_there() -> None:
    page = reference.configuration()
    schema = Config.model_json_schema()
    kinds = {kind for slot in POLICIES.values() for kind in slot}
    missing = [
        f"{name}.{option}"
        for name, definition in schema["$defs"].items()
        if definition.get("properties", {}).get("kind", {}).get("const") not in kinds
        for option, value in definition.get("properties", {}).items()
        if f"`{option}`" not in page or value.get("description", "") not in page
    ]
    assert not missing


def test_every_option_of_a_scenario_is_there() -> None:
    page = reference.scenario()
    definitions = ScenarioFile.model_json_schema()["$defs"]
    elsewhere = {"TaskSection", "SchedulerSection"}
    kinds = {kind for slot in POLICIES.values() for kind in slot}
    missing = [
        f"{name}.{option}"
        for name, definition in definitions.items()
        if name not in elsewhere
        and definition["properties"].get("kind", {}).get("const") not in kinds
        for option, value in definition["properties"].items()
        if f"`{option}`" not in page or value.get("description", "") not in page
    ]
    assert not missing
    assert "kind `quantiles`" in page


def test_every_policy_is_there_with_its_options() -> None:
    page = reference.policies()
    for kinds in POLICIES.values():
        for kind, policy in kinds.items():
            assert f"### `{kind}`" in page
            for option in policy.__dataclass_fields__:
                row = re.search(rf"^\| `{option}` \| .+ \| (.*) \|$", page, re.MULTILINE)
                assert row is not None, f"{kind}.{option}"
                assert row[1], f"{kind}.{option} has no #: comment that says what it is"


def test_every_task_and_every_reason_is_there() -> None:
    tasks, refusals = reference.tasks(), reference.refusals()
    assert [name for name in DEFAULT_TASKS if f"`{name}`" not in tasks] == []
    assert [code for code in ERROR_TABLE if f"`{code}`" not in refusals] == []


@pytest.mark.parametrize("name", reference.GENERATED)
def test_a_generated_part_stands_on_a_page(name: str) -> None:
    pages = (ROOT / "docs" / "reference").glob("*.md")
    assert any(f"<!-- generated: {name} -->" in page.read_text("utf-8") for page in pages)


def test_a_page_gets_its_generated_part_and_loses_the_runners_marks() -> None:
    page = hooks.on_page_markdown(
        "<!-- run -->\n```console\n$ x\n```\n\n<!-- generated: tasks -->\n"
    )
    assert "<!--" not in page
    assert "`completion`" in page
    assert "```console" in page


def test_an_unknown_part_stops_the_build() -> None:
    with pytest.raises(KeyError):
        hooks.on_page_markdown("<!-- generated: nothing -->")
