"""What a changed configuration does to a running server: pure comparison."""

from typing import Any

import pytest

from slalom.config.difference import Fate, difference
from slalom.config.engine_sections import ModelSection
from slalom.config.schema import Config
from slalom.config.sections import ServerSection
from slalom.errors import ConfigError

REMOTE = {"kind": "remote", "base_url": "http://127.0.0.1:9/v1"}


def config(*models: dict[str, Any], **more: Any) -> Config:
    """Models at a remote engine, unless they say otherwise."""
    return Config.model_validate({"models": [{"engine": REMOTE, **one} for one in models], **more})


def fates(old: Config, new: Config) -> dict[str, str]:
    return {one.model: one.fate.value for one in difference(old, new).models}


def test_only_what_changed_is_touched() -> None:
    old = config({"id": "a"}, {"id": "b"}, {"id": "c"}, {"id": "d"})
    new = config(
        {"id": "d", "swap": "never"},
        {"id": "b", "engine": {**REMOTE, "places": 9}},
        {"id": "a"},
        {"id": "new"},
    )
    assert fates(old, new) == {
        "a": "untouched",
        "b": "replaced",
        "c": "removed",
        "d": "adjusted",
        "new": "added",
    }
    changed = {one.model: one.options for one in difference(old, new).models}
    assert changed["b"] == ("engine.places",)
    assert changed["d"] == ("swap",)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("aliases", ["other"]),
        ("replicas", 2),
        ("pinned", True),
        ("preload", True),
        ("swap", "idle"),
        ("apart", ["group"]),
        ("idle_sleep_seconds", 5),
        ("idle_unload_seconds", 5),
        ("tool_hold_seconds", 5),
        ("max_tokens_default", 5),
        ("default_task", "chat"),
        ("tasks", ["chat"]),
    ],
)
def test_what_the_scheduler_alone_heeds_needs_no_other_process(option: str, value: Any) -> None:
    assert fates(config({"id": "a"}), config({"id": "a", option: value})) == {"a": "adjusted"}


@pytest.mark.parametrize("option", sorted(ModelSection.model_fields))
def test_every_option_of_a_model_is_thought_of(option: str) -> None:
    """A new one is either adjustable, or gives the model another engine: nothing is ignored."""
    other: dict[str, Any] = {
        "device": "second",
        "devices": ["host", "second"],
        "memory": "1GiB",
        "sleep_memory": "1GiB",
        "sleep_residual": "1MiB",
    }
    if option not in other:
        return
    devices = [{"id": "host", "window": 0}, {"id": "second", "budget": "1GiB", "window": 0}]
    old = config({"id": "a"}, devices=devices)
    assert fates(old, config({"id": "a", option: other[option]}, devices=devices)) == {
        "a": "replaced"
    }


def test_what_needs_a_restart_is_said_and_has_no_effect() -> None:
    old = config({"id": "a"})
    new = config(
        {"id": "a"},
        server={"port": 1234, "drain_seconds": 3},
        devices=[{"id": "host", "budget": "2GiB"}],
        scheduler={"queue_max": 5},
        log={"level": "debug", "format": "json"},
        tasks={"chat": {"ttft_ms": 5}},
        keys=[{"name": "k", "key": "secret-of-twenty-bytes"}],
    )
    found = difference(old, new)
    assert set(found.needs_restart) == {
        "server.port",
        "devices",
        "scheduler.queue_max",
        "log.format",
    }
    assert set(found.applied) == {"server.drain_seconds", "tasks", "keys", "log.level"}
    assert found.effective.server.port == old.server.port
    assert found.effective.server.drain_seconds == 3
    assert found.effective.scheduler == old.scheduler
    assert found.effective.devices == old.devices
    assert found.effective.log.level == "debug"
    assert found.effective.tasks == new.tasks
    assert "secret" not in repr(found.needs_restart) + repr(found.applied)


def test_what_is_in_force_is_compared_so_that_it_is_said_again() -> None:
    old, new = config({"id": "a"}), config({"id": "a"}, server={"port": 1234})
    once = difference(old, new).effective
    assert difference(once, new).needs_restart == ("server.port",)
    assert difference(once, old).needs_restart == ()


def test_the_same_again_changes_nothing() -> None:
    one = config({"id": "a"}, {"id": "b"})
    found = difference(one, config({"id": "b"}, {"id": "a"}))
    assert found.named(Fate.UNTOUCHED) == ("b", "a")
    assert found.applied == found.needs_restart == ()


def test_a_model_on_a_device_that_comes_with_a_restart_is_wrong() -> None:
    devices = [{"id": "host"}, {"id": "second", "budget": "1GiB"}]
    with pytest.raises(ConfigError, match=r"'second'.*restart"):
        difference(config({"id": "a"}), config({"id": "a", "device": "second"}, devices=devices))


def test_the_live_options_exist() -> None:
    live = {"max_answer_mib", "wait_comment_after_ms", "drain_seconds", "default_max_tokens"}
    assert live <= set(ServerSection.model_fields)
