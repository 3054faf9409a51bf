"""Scenario files: those that ship are right, and what is wrong in one is said with its line."""

import os
from pathlib import Path

import pytest

from slalom.config.scenario_load import TraceSpan, load_scenario
from slalom.errors import ConfigError
from slalom.twin.engine_specs import VllmEngine
from slalom.twin.faults import FaultPlan
from slalom.twin.from_file import policy_sets, scenario_of
from slalom.units import SECOND
from slalom.workload.clients import Retries
from slalom.workload.load import draw_load

SCENARIOS = Path(__file__).parents[2] / "scenarios"
SHIPPED = sorted(SCENARIOS.glob("*.yaml"))

#: Lines count: the tests below name them.
TEXT = """\
name: tiny
duration_seconds: 20
clients:
  - arrivals: {kind: poisson, rate_per_s: 5}
    mix:
      - task: completion
        model: small
        prompt: {kind: fixed, tokens: 100}
        output: {kind: uniform, low: 1, high: 20}
        max_tokens: 20
models:
  - id: small
    bytes: 2GiB
    engine: {kind: simple}
devices:
  - {id: gpu, budget: 4GiB}
"""
FIXED = "{kind: fixed, tokens: 100}"


def a_file(folder: Path, text: str = TEXT) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_ships_is_right(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.environ.get("SLALOM_DATA"):
        folder = tmp_path / "azure_llm_2023"
        folder.mkdir()
        trace = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n"
        (folder / "AzureLLMInferenceTrace_code.csv").write_text(trace)
        monkeypatch.setenv("SLALOM_DATA", str(tmp_path))
    loaded = load_scenario(path)
    assert loaded.file.name == path.stem
    assert loaded.file.about
    assert loaded.file.source
    assert draw_load(loaded.plan, 0)


def test_the_standing_loads_are_all_there() -> None:
    assert {path.stem for path in SHIPPED} >= {
        "azure-code",
        "coding-day",
        "poisson",
        "gamma-cv2",
        "gamma-cv4",
        "gamma-cv8",
        "step",
        "mix-drift",
        "many-models",
        "agents",
        "typing",
        "saber-w1",
        "saber-w2",
        "saber-w3",
        "cato-even",
        "cato-poisson",
        "cato-burst",
    }


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("rate_per_s: 5", "rate_per_s: -5", 4, "rate_per_s: must be greater than 0 (it is -5)"),
        ("rate_per_s: 5", "rate: 5", 4, "known: kind, rate_per_s"),
        ("kind: poisson", "kind: posson", 4, "did you mean 'poisson'?"),
        ("duration_seconds", "duration", 2, "did you mean 'duration_seconds'?"),
        (
            "bytes: 2GiB",
            "bytes: 8GiB",
            13,
            "needs 8.0 GiB, but gpu has 4.0 GiB: take a larger device",
        ),
        ("mix:\n", "mix: []\n    x:\n", 5, "needs at least one entry"),
        ("bytes: 2GiB", "bytes: a lot", 13, "write a number and one of"),
        ("model: small", "model: smalll", 7, "did you mean 'small'?"),
        ("task: completion", "task: complete", 6, "did you mean 'completion'?"),
        ("{kind: simple}", "{kind: simple, a: 1}", 14, "no such option"),
        ("low: 1, high: 20", "low: 30, high: 20", 9, "low 30 is above high 20: exchange them"),
        (FIXED, "{kind: quantiles, points: [[0, 5], [90, 7]]}", 8, "at 100"),
        (FIXED, "{kind: quantiles, points: [[0, 5], [100, 2]]}", 8, "ascend"),
        ("    bytes: 2GiB", "    device: cpu\n    bytes: 2GiB", 13, "there is no device 'cpu'"),
        ("duration_seconds: 20\n", "", 0, "give duration_seconds or requests"),
        ("        max_tokens: 20", "        max_tokens: 20\n        weight: 0", 4, "all 0"),
        ("{id: gpu, budget: 4GiB}", "{id: gpu, budget: 4GiB, x: 1}", 16, "no such option"),
        (
            "        max_tokens: 20",
            "        typed_on_share: 0.1\n        keystrokes: {share: 0.4}",
            6,
            "leave one out",
        ),
        (
            "        max_tokens: 20",
            "        keystrokes: {share: 0.4, after_ms: [5, 2]}",
            10,
            "ascending",
        ),
        (
            "models:\n",
            "    retries: {tries: 0}\nmodels:\n",
            11,
            "greater than or equal to 1 (it is 0)",
        ),
        (
            "  - {id: gpu, budget: 4GiB}",
            "  - {id: gpu, budget: 4GiB}\n  - {id: gpu, budget: 4GiB}",
            17,
            "'gpu' is given twice",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, says: str
) -> None:
    assert old in TEXT
    path = a_file(tmp_path, TEXT.replace(old, new))
    with pytest.raises(ConfigError) as wrong:
        load_scenario(path)
    message = str(wrong.value)
    assert says in message
    assert not line or f"{path}:{line}: " in message


def test_a_file_that_is_not_there_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file; name one of those in scenarios/"):
        load_scenario(tmp_path / "absent.yaml")


def with_trace(path: str) -> str:
    return TEXT.replace("kind: poisson, rate_per_s: 5", f"kind: trace, format: azure, path: {path}")


def test_a_trace_is_looked_for_beside_the_scenario(tmp_path: Path) -> None:
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9,48,10\n"
    (tmp_path / "t.csv").write_text(text + text.splitlines()[1].replace(":03.9", ":09.9") + "\n")
    path = a_file(tmp_path, with_trace("t.csv"))
    assert len(draw_load(load_scenario(path).plan, 0)) == 2
    assert len(draw_load(load_scenario(path, trace=TraceSpan(from_s=3)).plan, 0)) == 1


def test_a_trace_that_is_wrong_or_away_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLALOM_DATA", raising=False)
    path = a_file(tmp_path, with_trace("$SLALOM_DATA/t.csv"))
    with pytest.raises(ConfigError, match=r"tiny\.yaml:4: .*needs the environment variable SLALOM"):
        load_scenario(path)
    path = a_file(tmp_path, with_trace("gone.csv"))
    with pytest.raises(ConfigError, match=r"gone\.csv: cannot be read"):
        load_scenario(path)


def test_a_span_needs_a_trace(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tiny\.yaml: no group of clients plays a trace"):
        load_scenario(a_file(tmp_path), trace=TraceSpan(from_s=3))


def test_models_of_a_trace_must_be_there(tmp_path: Path) -> None:
    row = '{"at_ms": 1, "prompt_tokens": 1, "output_tokens": 1, "model": "large"}\n'
    (tmp_path / "t.jsonl").write_text(row)
    path = a_file(tmp_path, with_trace("t.jsonl").replace("format: azure, ", ""))
    with pytest.raises(ConfigError, match=r"tiny\.yaml:4: .*models that the scenario lacks: large"):
        load_scenario(path)
    (tmp_path / "t.jsonl").write_text(row.replace("large", "small"))
    assert draw_load(load_scenario(path).plan, 0)[0].model == "small"


def test_sessions_do_not_go_with_traces(tmp_path: Path) -> None:
    two = "{kind: fixed, tokens: 2}"
    steps = f"    steps: {{count: {two}, gap_seconds: 1, appended: {two}}}\n"
    path = a_file(tmp_path, with_trace("t.csv").replace("models:\n", f"{steps}models:\n"))
    with pytest.raises(ConfigError, match="leave steps out"):
        load_scenario(path)


def test_keystrokes_go_neither_with_traces_nor_with_steps(tmp_path: Path) -> None:
    types = "max_tokens: 20\n        keystrokes: {share: 0.4}"
    path = a_file(tmp_path, with_trace("t.csv").replace("max_tokens: 20", types))
    with pytest.raises(ConfigError, match="leave keystrokes out"):
        load_scenario(path)
    two = "{kind: fixed, tokens: 2}"
    steps = f"    steps: {{count: {two}, gap_seconds: 1, appended: {two}}}\n"
    text = TEXT.replace("max_tokens: 20", types).replace("models:\n", f"{steps}models:\n")
    with pytest.raises(ConfigError, match="make two groups"):
        load_scenario(a_file(tmp_path, text))


def test_what_a_file_says_of_clients_reaches_the_load(tmp_path: Path) -> None:
    types = "max_tokens: 20\n        keystrokes: {share: 0.6, cancels: 0, supersede: true}"
    text = TEXT.replace("max_tokens: 20", types)
    path = a_file(tmp_path, text.replace("models:\n", "    retries: {tries: 3}\nmodels:\n"))
    items = draw_load(load_scenario(path).plan, 0)
    assert any(item.stale_after_ns >= 0 for item in items)
    assert all(item.supersedes for item in items)
    assert {item.retries for item in items} == {Retries(3, SECOND // 2, 0.25)}


@pytest.mark.parametrize("says", ["true", "false"])
def test_what_a_file_says_of_its_models_and_faults_reaches_the_twin(
    tmp_path: Path, says: str
) -> None:
    engine = f"{{kind: vllm, profile: h100/qwen2.5-coder-7b, by_priority: {says}}}"
    text = TEXT.replace("{kind: simple}", f"{engine}\n    resumable: {says}")
    faults = "faults: {foreign_memory: 0.1, lost: 0.2, late: 0.3, duplicate: 0.4}\n"
    loaded = load_scenario(a_file(tmp_path, text + faults))
    scenario = scenario_of(loaded, policy_sets(loaded)["default"], 0)
    assert {one.request.resumable for one in scenario.arrivals} == {says == "true"}
    engine_spec = scenario.models[0].engine
    assert isinstance(engine_spec, VllmEngine)
    assert engine_spec.by_priority is (says == "true")
    plan = FaultPlan(foreign_memory=0.1, lost=0.2, late=0.3, duplicate=0.4)
    assert scenario.faults == plan
