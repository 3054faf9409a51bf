"""Step times that outlive a server: calibrated ones and those that traffic taught."""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from slalom.assembly.parts import Parts, assemble
from slalom.assembly.serving import save_learned
from slalom.assembly.step_costs import CostStore
from slalom.bench import calibrate_store
from slalom.bench.calibrate_store import key_of, store
from slalom.config import Config
from slalom.config.engine_sections import ModelSection
from slalom.core.planning import Learned
from slalom.core.request import StepCost
from slalom.policies.trim.plan_and_trim import PlanAndTrim
from slalom.twin.step_costs import cost_of_profile
from slalom.twin.step_time import StepProfile
from slalom.units import MS, US

_PROFILE = StepProfile(
    "mini", dense_flat_ns=5.0 * MS, dense_ns_per_token=100.0 * US, decode_kv_ns_per_token=50.0
)
_COST = StepCost(3.0 * MS, sequence_ns=0.5 * MS, prompt_ns=80.0 * US, sequence_sq_ns=-10.0)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "slalom" / "profiles"


def _config(admission: str = "plan-and-trim", *, places: int = 4) -> Config:
    engine = {"kind": "llama-cpp", "source": "bundled:slalom-mini", "places": places}
    return Config.model_validate(
        {
            "models": [{"id": "mini", "engine": engine}],
            "scheduler": {"admission": {"kind": admission}},
            "journal": {"dir": "none"},
        }
    )


def _model(config: Config) -> ModelSection:
    return config.models[0]


_TAUGHT = Learned(
    "mini",
    _COST,
    seen_s=60.0,
    step_error=0.05,
    first_error=0.1,
    coverage=0.9,
    healthy=True,
    changes=0,
)


def _known(parts: Parts) -> StepCost | None:
    return parts.scheduler.state.models["mini"].spec.step_cost


def _teach(parts: Parts, monkeypatch: pytest.MonkeyPatch, *lessons: Learned) -> None:
    class Taught:
        def learned(self) -> Sequence[Learned]:
            return lessons

        def observe(self, *_: object) -> None: ...

        def plan(self, *_: object) -> None: ...

    monkeypatch.setattr(parts.scheduler.state, "planner", Taught())
    save_learned(parts)


def test_without_anything_stored_planners_learn_from_traffic(state: Path) -> None:
    parts = assemble(_config())
    assert isinstance(parts.scheduler.policies.admission, PlanAndTrim)
    assert _known(parts) is None


def test_a_calibration_is_what_a_server_starts_from(state: Path) -> None:
    config = _config(places=6)
    store(_PROFILE, key_of(_model(config)))
    found = _known(assemble(config))
    assert found == cost_of_profile(_PROFILE, places=6, budget_tokens=2_048, micro_batch=512).cost
    assert found is not None
    assert found.of(4, 400, 0) == pytest.approx(_PROFILE.step_ns(4, 400), rel=0.02)
    # Measured with six places: it says nothing of an engine with two.
    assert _known(assemble(_config(places=2))) is None


def test_what_traffic_taught_is_what_the_next_server_starts_from(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _teach(assemble(_config()), monkeypatch, _TAUGHT)
    assert _known(assemble(_config())) == _COST
    assert not list(state.glob("*.new"))


def test_the_newer_of_the_two_counts(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = _config()
    profile = store(_PROFILE, key_of(_model(config)))
    _teach(assemble(config), monkeypatch, _TAUGHT)
    (learned,) = state.glob("*.learned.json")
    os.utime(profile, ns=(10**18, 10**18))
    os.utime(learned, ns=(10**18 + 1, 10**18 + 1))
    assert _known(assemble(config)) == _COST
    os.utime(profile, ns=(10**18 + 2, 10**18 + 2))
    assert _known(assemble(config)) not in {None, _COST}


@pytest.mark.parametrize(
    "poor",
    [
        replace(_TAUGHT, seen_s=2.0),
        replace(_TAUGHT, step_error=0.6),
        replace(_TAUGHT, step_error=-1.0),
        replace(_TAUGHT, healthy=False),
    ],
)
def test_what_is_not_sure_is_not_kept(
    state: Path, monkeypatch: pytest.MonkeyPatch, poor: Learned
) -> None:
    _teach(assemble(_config()), monkeypatch, poor)
    assert _known(assemble(_config())) is None


def test_what_is_no_news_is_not_written_again(state: Path) -> None:
    costs = CostStore(_config().models)
    costs.save([_TAUGHT])
    (path,) = state.glob("*.learned.json")
    path.unlink()
    costs.save([_TAUGHT])
    assert not path.exists()
    costs.save([replace(_TAUGHT, seen_s=90.0)])
    assert path.exists()


@pytest.mark.parametrize(
    "damage",
    [
        "{",
        "[]",
        '{"step_cost": 3}',
        '{"step_cost": {"step_ns": "much"}}',
        '{"step_cost": {"step_ns": -1}}',
        '{"step_cost": {"step_ns": 0}}',
        '{"step_cost": {"step_ns": 1, "prompt_ns": NaN}}',
        '{"step_cost": {"prompt_ns": 1}}',
    ],
)
def test_a_damaged_file_is_as_none(state: Path, damage: str) -> None:
    costs = CostStore(_config().models)
    costs.save([_TAUGHT])
    (path,) = state.glob("*.learned.json")
    path.write_text(damage, encoding="utf-8")
    assert costs.known("mini") is None


def test_a_key_that_a_later_version_wrote_is_left_alone(state: Path) -> None:
    costs = CostStore(_config().models)
    costs.save([_TAUGHT])
    (path,) = state.glob("*.learned.json")
    document = json.loads(path.read_text(encoding="utf-8"))
    document["step_cost"]["colour_ns"] = 1
    path.write_text(json.dumps(document), encoding="utf-8")
    assert costs.known("mini") == _COST


def test_a_folder_that_cannot_be_written_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "slalom").write_text("a file where a folder should be")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("logging.Logger.propagate", True, raising=False)
    CostStore(_config().models).save([_TAUGHT])
    assert "cannot keep the learned step times" in caplog.text


def test_where_nothing_plans_nothing_is_read_or_kept(state: Path) -> None:
    config = _config("open")
    store(_PROFILE, key_of(_model(config)))
    parts = assemble(config)
    assert parts.costs is None
    assert _known(parts) is None
    save_learned(parts)
    assert not list(state.glob("*.learned.json"))


def test_a_large_file_is_hashed_once(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = calibrate_store._computed_sha256
    hashed: list[Path] = []

    def count(path: Path) -> str:
        hashed.append(path)
        return whole(path)

    model = _model(_config())
    plain = key_of(model)
    monkeypatch.setattr(calibrate_store, "_computed_sha256", count)
    monkeypatch.setattr(calibrate_store, "_REMEMBERED_FROM_BYTES", 1)
    assert [key_of(model), key_of(model)] == [plain, plain]
    assert len(hashed) == 1
    (state / "hashes.json").write_text("[]", encoding="utf-8")
    assert key_of(model) == plain
    assert len(hashed) == 2
