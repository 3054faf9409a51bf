"""Names that stand for several models: what the configuration and scenarios say of bad ones."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from slalom.assembly.parts import gateway_params
from slalom.config.load import load
from slalom.config.scenario_load import load_scenario
from slalom.core.actions import ModelChosen
from slalom.core.journal import Entry
from slalom.core.request import Alternatives, Choice
from slalom.errors import ConfigError
from slalom.twin.from_file import policy_sets, scenario_of
from slalom.twin.run import run
from slalom.units import SECOND


def _config(tmp_path: Path, *aliases: Mapping[str, object]) -> Path:
    path = tmp_path / "slalom.yaml"
    path.write_text(yaml.safe_dump({"aliases": list(aliases)}), encoding="utf-8")
    return path


def test_an_alias_becomes_alternatives(tmp_path: Path) -> None:
    alias = {
        "id": "coder",
        "targets": ["slalom-small", "slalom-mini"],
        "kind": "spillover",
        "max_wait_ms": 3000,
        "max_waiting": 2,
        "tasks": ["completion"],
    }
    config, _ = load(_config(tmp_path, alias), environ={})
    (served,) = gateway_params(config).aliases
    assert served.alternatives == Alternatives(
        ("slalom-small", "slalom-mini"), Choice.SPILLOVER, wait_ns=3 * SECOND, waiting_max=2
    )
    assert served.tasks == ("completion",)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"targets": []}, "targets"),
        ({"targets": ["coder"]}, "stands for itself"),
        ({"targets": ["other"]}, "is an alias too: name its models"),
        ({"targets": ["slalom-tiny"]}, "there is no model 'slalom-tiny'"),
        ({"targets": ["slalom-mini", "slalom-mini"]}, "named twice"),
        ({"id": "slalom-mini"}, "given twice"),
        ({"id": "other"}, "given twice"),
        ({"tasks": ["completon"]}, "there is no task 'completon'"),
        ({"kind": "coldest"}, "kind"),
        ({"max_wait_ms": -1}, "max_wait_ms"),
    ],
)
def test_a_bad_alias_is_refused_with_a_reason(
    wrong: dict[str, object], said: str, tmp_path: Path
) -> None:
    other = {"id": "other", "targets": ["slalom-mini"]}
    path = _config(tmp_path, other, {"id": "coder", "targets": ["slalom-small"], **wrong})
    with pytest.raises(ConfigError, match=said):
        load(path, environ={})


def test_two_that_name_each_other_are_refused(tmp_path: Path) -> None:
    path = _config(tmp_path, {"id": "x", "targets": ["y"]}, {"id": "y", "targets": ["x"]})
    with pytest.raises(ConfigError, match="is an alias too"):
        load(path, environ={})


_SCENARIO = """
name: degraded
duration_seconds: 40
clients:
  - name: people
    arrivals: {kind: poisson, rate_per_s: 2.0}
    mix:
      - {task: chat, model: coder, prompt: {kind: fixed, tokens: 50},
         output: {kind: fixed, tokens: 8}, max_tokens: 8}
      - {task: chat, model: small, prompt: {kind: fixed, tokens: 50},
         output: {kind: fixed, tokens: 8}, max_tokens: 8}
models:
  - {id: big, bytes: 6GiB, places: 4, load: {fixed_seconds: 20}, engine: {kind: simple}}
  - {id: small, bytes: 3GiB, places: 4, load: {fixed_seconds: 1}, engine: {kind: simple}}
devices: [{id: gpu, budget: 8GiB}]
aliases:
  - {id: coder, targets: [big, small], kind: KIND, TASKS}
"""


def _chosen(tmp_path: Path, kind: str, tasks: str = "") -> list[str]:
    path = tmp_path / "degraded.yaml"
    text = _SCENARIO.replace("KIND", kind).replace("TASKS", tasks or "max_wait_ms: 2000")
    path.write_text(text, encoding="utf-8")
    loaded = load_scenario(path)
    scenario = scenario_of(loaded, policy_sets(loaded)["default"], seed=1)
    entries: list[Entry] = []
    run(scenario, watch=entries.append)
    actions = [action for entry in entries for action in entry.actions]
    return [action.model for action in actions if isinstance(action, ModelChosen)]


def test_the_twin_plays_aliases(tmp_path: Path) -> None:
    warm, spills = _chosen(tmp_path, "warm-first"), _chosen(tmp_path, "spillover")
    assert len(warm) == len(spills) > 20
    assert set(warm) == {"big", "small"}, "whichever is ready"
    assert spills.count("small") > 0.8 * len(spills), "the big one takes 20 s to load"


def test_a_task_that_must_not_be_degraded_is_not(tmp_path: Path) -> None:
    assert not _chosen(tmp_path, "warm-first", "tasks: [completion]")


def test_a_scenario_with_a_bad_alias_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "degraded.yaml"
    text = _SCENARIO.replace("KIND", "warm-first").replace("TASKS", "max_wait_ms: 1")
    path.write_text(text.replace("[big, small]", "[big, smal]"), encoding="utf-8")
    with pytest.raises(ConfigError, match="there is no model 'smal'"):
        load_scenario(path)
