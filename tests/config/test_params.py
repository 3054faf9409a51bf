"""What the other rooms get of the configuration."""

import dataclasses
import hashlib
from pathlib import Path

import pytest
from pydantic import BaseModel

from slalom.config import Config, load
from slalom.config.params import auto_threads, device_specs, policies, scheduler_params, task_table
from slalom.config.places import _cgroup_room, available_bytes, journal_dir
from slalom.config.plain import plain, settings
from slalom.config.secret_sources import key_sha256, remote_key
from slalom.config.sections import JournalSection, KeySection
from slalom.core.params import SchedulerParams
from slalom.errors import ConfigError
from slalom.policies.ordering import Edf, Fcfs
from slalom.policies.registry import POLICIES, SERVING_KINDS
from slalom.units import GIB
from slalom.workload.tasks import DEFAULT_TASKS


def parse(document: dict[str, object]) -> Config:
    return Config.model_validate(document)


def test_the_defaults_are_the_cores_defaults() -> None:
    assert scheduler_params(Config().scheduler) == SchedulerParams()


def test_every_bound_of_the_core_can_be_configured() -> None:
    section = Config().scheduler
    policy_slots = set(POLICIES)
    numbers = {
        name: getattr(section, name) * 2
        for name in type(section).model_fields
        if name not in policy_slots
    }
    doubled = scheduler_params(parse({"scheduler": numbers}).scheduler)
    for name, value in dataclasses.asdict(SchedulerParams()).items():
        assert getattr(doubled, name) == 2 * value, name


def test_every_policy_of_the_registry_can_be_chosen_with_its_options() -> None:
    for slot, kinds in POLICIES.items():
        for kind, policy in kinds.items():
            section = parse({"scheduler": {slot: {"kind": kind}}}).scheduler
            assert getattr(policies(section), slot) == policy()
            options = dataclasses.asdict(policy())
            section = parse({"scheduler": {slot: {"kind": kind, **options}}}).scheduler
            assert getattr(policies(section), slot) == policy()


def test_the_defaults_of_the_policies_are_the_registrys() -> None:
    section = Config().scheduler
    assert {slot: getattr(section, slot).kind for slot in POLICIES} == dict(SERVING_KINDS)


def test_options_of_a_policy_arrive() -> None:
    section = parse({"scheduler": {"ordering": {"kind": "edf", "ageing_ms": 7}}}).scheduler
    assert policies(section).ordering == Edf(ageing_ms=7)
    assert policies(parse({"scheduler": {"ordering": {"kind": "fcfs"}}}).scheduler).ordering == (
        Fcfs()
    )


def test_an_automatic_budget_is_a_share_of_what_is_available() -> None:
    config = parse({"devices": [{"auto_share": 0.5}, {"id": "gpu0", "budget": "2GiB"}]})
    host, gpu = device_specs(config, available=10 * GIB)
    assert (host.id, host.budget_bytes, host.window) == ("host", 5 * GIB, 0)
    assert (gpu.id, gpu.budget_bytes) == ("gpu0", 2 * GIB)
    assert device_specs(Config())[0].budget_bytes > 0


def test_automatic_budgets_exist_for_main_memory_only() -> None:
    with pytest.raises(ConfigError, match="budget of 'gpu0' cannot be auto"):
        device_specs(parse({"devices": [{"id": "host"}, {"id": "gpu0"}]}))


def test_an_automatic_window_follows_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    assert device_specs(parse({"devices": [{"window": "auto"}]}))[0].window == 24
    assert auto_threads() == 3


def test_tasks_are_laid_over_the_built_in_ones() -> None:
    table = task_table(
        parse(
            {
                "tasks": {
                    "completion": {"ttft_ms": 90, "e2e_ms": None},
                    "review": {"e2e_ms": 9000, "predicted_tokens": 40},
                }
            }
        )
    )
    assert table["completion"].ttft_ms == 90
    assert table["completion"].e2e_ms is None
    assert table["completion"].predicted_tokens == DEFAULT_TASKS["completion"].predicted_tokens
    assert table["review"].e2e_ms == 9000
    assert table["chat"] is DEFAULT_TASKS["chat"]


def test_a_length_that_is_written_is_meant_for_every_prompt() -> None:
    table = task_table(parse({"tasks": {"translation": {"e2e_ms": 9000}}}))
    assert [table["translation"].predicted_for(count) for count in (100, 3_000)] == [100, 3_000]
    table = task_table(parse({"tasks": {"translation": {"predicted_tokens": 300}}}))
    assert [table["translation"].predicted_for(count) for count in (100, 3_000)] == [300, 300]
    written = {"predicted_tokens": 50, "predicted_per_prompt_token": 0.5}
    table = task_table(parse({"tasks": {"review": written}}))
    assert table["review"].predicted_for(100) == 100


def test_a_control_groups_limit_bounds_what_is_available(tmp_path: Path) -> None:
    assert _cgroup_room(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n", encoding="utf-8")
    (tmp_path / "memory.current").write_text("300\n", encoding="utf-8")
    assert _cgroup_room(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n", encoding="utf-8")
    assert _cgroup_room(tmp_path) == 700
    assert available_bytes() > 0


def test_the_journals_folder(tmp_path: Path) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    assert journal_dir(JournalSection(), environ) == tmp_path / "slalom" / "journal"
    assert journal_dir(JournalSection(dir="none"), environ) is None
    assert journal_dir(JournalSection(dir=str(tmp_path)), environ) == tmp_path


def test_secrets_come_from_four_places(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("s3cret\nsecond line\n", encoding="utf-8")
    digest = hashlib.sha256(b"s3cret").digest()
    for given in (
        {"key": "s3cret"},
        {"key_env": "K"},
        {"key_file": file},
        {"key_sha256": digest.hex().upper()},
    ):
        key = KeySection.model_validate({"name": "a", **given})
        assert key_sha256(key, {"K": "s3cret"}) == digest


def test_a_missing_secret_is_named_by_its_place(tmp_path: Path) -> None:
    absent = KeySection(name="a", key_env="NOT_THERE")
    with pytest.raises(ConfigError, match=r"key 'a': .*NOT_THERE is not set"):
        key_sha256(absent, {})
    with pytest.raises(ConfigError, match="cannot be read from"):
        key_sha256(KeySection(name="a", key_file=tmp_path / "none"), {})
    empty = tmp_path / "empty"
    empty.write_text("\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"first line of .* is empty"):
        key_sha256(KeySection(name="a", key_file=empty), {})


def test_the_key_of_a_remote_engine() -> None:
    config = parse(
        {
            "models": [
                {
                    "id": "r",
                    "engine": {
                        "kind": "remote",
                        "base_url": "https://x.org/api/v1/",
                        "api_key_env": "K",
                    },
                },
                {"id": "open", "engine": {"kind": "remote", "base_url": "http://x.org"}},
            ]
        }
    )
    first, second = (model.engine for model in config.models)
    assert first.kind == second.kind == "remote"
    assert first.base_url == "https://x.org/api"
    assert remote_key("r", first, {"K": "abc"}) == "abc"
    assert remote_key("open", second, {}) is None
    with pytest.raises(ConfigError, match="model 'r'"):
        remote_key("r", first, {})


def test_plain_data_masks_secrets_and_round_trips() -> None:
    config = parse(
        {
            "keys": [{"name": "a", "key": "hunter2"}],
            "models": [
                {
                    "id": "c",
                    "engine": {"kind": "command", "cmd": ["x", "1"], "env": {"T": "hunter2"}},
                    "memory": "1536MiB",
                }
            ],
        }
    )
    data = plain(config)
    assert "hunter2" not in str(data)
    assert "hunter2" not in repr(config)
    assert data["keys"][0]["key"] == "***"
    assert data["models"][0]["engine"]["env"] == {"T": "***"}
    assert data["models"][0]["memory"] == "1536MiB"
    assert Config.model_validate(plain(Config())) == Config()


def test_settings_tell_where_each_value_came_from(tmp_path: Path) -> None:
    path = tmp_path / "slalom.yaml"
    path.write_text("server:\n  port: 1\n", encoding="utf-8")
    found = {s.path: s for s in settings(*load(path, environ={"SLALOM__LOG__LEVEL": "debug"}))}
    assert found["server.port"].origin == f"{path}:2"
    assert found["server.host"].origin == "default"
    assert found["log.level"].origin == "SLALOM__LOG__LEVEL"
    assert found["models[0].engine.source"].value == "bundled:slalom-mini"


def test_the_schema_is_a_json_schema_with_a_sentence_for_every_option() -> None:
    schema = Config.model_json_schema()
    assert schema["additionalProperties"] is False
    for name, definition in schema["$defs"].items():
        for option, details in definition["properties"].items():
            assert details.get("description"), f"{name}.{option}"
    assert issubclass(Config, BaseModel)
