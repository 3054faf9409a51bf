"""Layers of the configuration, their origins, and the messages when something is wrong."""

import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from slalom.config import Config, load
from slalom.config.footprint import model_specs
from slalom.config.load import find_file
from slalom.config.tree import known_paths
from slalom.errors import ConfigError

#: Every word of the schema, so that random documents get past its first level.
_WORDS = sorted({path.rpartition(".")[2] for path in known_paths(Config)})


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "slalom.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_a_file_the_bundled_models_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config, origins = load(environ={"XDG_CONFIG_HOME": str(tmp_path)})
    assert config == Config()
    assert origins.file is None
    assert [model.id for model in config.models] == ["slalom-mini", "slalom-small"]
    assert config.server.host == "127.0.0.1"


def test_the_file_here_comes_before_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, home = tmp_path / "here", tmp_path / "home"
    (home / "slalom").mkdir(parents=True)
    here.mkdir()
    monkeypatch.chdir(here)
    environ = {"XDG_CONFIG_HOME": str(home)}
    assert find_file(environ) is None
    (home / "slalom" / "slalom.yaml").write_text("server: {port: 1}", encoding="utf-8")
    assert load(environ=environ)[0].server.port == 1
    (here / "slalom.yaml").write_text("server: {port: 2}", encoding="utf-8")
    assert load(environ=environ)[0].server.port == 2


def test_flags_win_over_variables_and_those_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "server:\n  port: 1\n  host: 127.0.0.2\n  drain_seconds: 3\n")
    config, origins = load(
        path,
        environ={"SLALOM__SERVER__PORT": "2", "SLALOM__SERVER__HOST": "127.0.0.3"},
        flags={"server.port": 3, "server.insecure": None},
    )
    assert (config.server.port, config.server.host) == (3, "127.0.0.3")
    assert config.server.drain_seconds == 3
    assert origins.of(("server", "port")) == "--port"
    assert origins.of(("server", "host")) == "SLALOM__SERVER__HOST"
    assert origins.of(("server", "drain_seconds")) == f"{path}:4"
    assert origins.exactly(("server", "insecure")) is None


def test_variables_reach_lists_mappings_and_texts_that_look_like_numbers() -> None:
    config, _ = load(
        environ={
            "SLALOM__MODELS": "[{id: a, engine: {kind: command, cmd: run}, memory: 1GiB}]",
            "SLALOM__MODELS__0__PINNED": "true",
            "SLALOM__MODELS__0__ENGINE__ENV__HF_HOME": "0123",
            "SLALOM__KEYS__0__NAME": "first",
            "SLALOM__KEYS__0__KEY": "0123",
            "SLALOM__TASKS__CHAT__TTFT_MS": "90",
        },
        path=None,
    )
    model = config.models[0]
    assert model.pinned
    assert model.memory == 1 << 30
    assert model.engine.kind == "command"
    assert model.engine.env["HF_HOME"].get_secret_value() == "0123"
    secret = config.keys[0].key
    assert secret is not None
    assert secret.get_secret_value() == "0123"
    assert config.tasks["chat"].ttft_ms == 90


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("server: {prot: 1}", ["slalom.yaml:1", "server.prot", "did you mean 'port'"]),
        ("a: 1\nport: 1", ["slalom.yaml:2", "did you mean server.port"]),
        ("server: {port: 70000}", ["server.port", "less than or equal to 65535", "70000"]),
        ("server: 3", ["server: must be a section"]),
        ("server: {host: yes}", ["server.host", "put it in quotes", "True"]),
        ("scheduler: {ordering: {kind: edff}}", ["no kind 'edff'", "did you mean 'edf'"]),
        ("scheduler: {ordering: {ageing_ms: 1}}", ["needs a kind", "fcfs"]),
        ("scheduler: {ordering: {kind: edf, aging_ms: 1}}", ["ageing_ms"]),
        ("scheduler: {ordering: {kind: edf, ageing_ms: -1}}", ["ordering.ageing_ms", "-1"]),
        ("devices: [{budget: 2GX}]", ["devices[0].budget", "'2GX' is not a size"]),
        ("devices: [{window: -1}]", ["devices[0].window", "auto or a whole number"]),
        (
            "models:\n- id: m\n  engine: {kind: llama-cpp, source: a, plaecs: 3}",
            ["slalom.yaml:3", "models[0].engine.plaecs", "did you mean 'places'"],
        ),
        ("models: [{id: m, engine: {kind: llamacpp}}]", ["did you mean 'llama-cpp'"]),
        (
            "models: [{id: m, engine: {source: a}}]",
            ["needs a kind: llama-cpp, vllm, command, remote"],
        ),
        ("models: [{engine: {kind: remote, base_url: 'http://x'}}]", ["models[0].id", "required"]),
        ("models: [{id: m, engine: {kind: remote, base_url: 'x.com'}}]", ["write http(s)://"]),
        (
            "models: [{id: m, device: hots, engine: {kind: command, cmd: x}}]",
            ["models[0].device", "did you mean 'host'"],
        ),
        ("rules: [{when: {has: tools}, task: agnet}]", ["rules[0].task", "did you mean 'agent'"]),
        ("rules: [{when: {}, task: agent}]", ["empty condition"]),
        ("keys: [{name: a}]", ["exactly one of key, key_env, key_file, key_sha256"]),
        ("keys: [{name: a, key: x, key_env: Y}]", ["exactly one of"]),
        ("keys: [{name: a, key_sha256: abc}]", ["64 hexadecimal digits"]),
        (
            "models: [{id: a, engine: &e {kind: command, cmd: x}}, {id: a, engine: *e}]",
            ["models", "'a' is given twice"],
        ),
        ("server: {port: 1}\nserver: {port: 2}", ["slalom.yaml:2", "server is given twice"]),
        ("server: [", ["slalom.yaml:1", "not valid YAML"]),
        ("server: {drain_seconds: .inf}", ["server.drain_seconds", "finite"]),
        ("tasks: {chat: {ttft_ms: .nan}}", ["tasks.chat.ttft_ms", "finite"]),
        (
            "models: [{id: m, engine: {kind: command, cmd: 'run \"it'}}]",
            ["models[0].engine.cmd", "no command line: no closing quotation"],
        ),
        ("models: [{id: m, engine: {kind: command, cmd: ' '}}]", ["cmd", "needs a program"]),
        (
            "models: [{id: 'a b', engine: {kind: command, cmd: x}}]",
            ["models[0].id: must match pattern", "'a b'"],
        ),
        ("server: {}\n1: 2", ["slalom.yaml:2", "the key 1 must be text"]),
        ("a: &a [*a]", ["nested or repeated too often"]),
        ("- 1", ["the top of the file must be sections"]),
        ("server: !!python/object/apply:os.getcwd []", ["not valid YAML"]),
    ],
)
def test_a_mistake_names_its_place_and_what_was_meant(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text), environ={})
    for word in words:
        assert word in str(caught.value)


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "server:\n  prot: 1\nlog:\n  level: loud\n")
    with pytest.raises(ConfigError) as caught:
        load(path, environ={})
    lines = str(caught.value).splitlines()
    assert lines[0] == "2 problems in the configuration:"
    assert f"{path}:2" in lines[1]
    assert f"{path}:4" in lines[2]


def test_a_wrong_variable_or_flag_is_named() -> None:
    with pytest.raises(ConfigError, match=r"SLALOM__SERVR__PORT: servr: .*'server'"):
        load(environ={"SLALOM__SERVR__PORT": "1"})
    with pytest.raises(ConfigError, match=r"--port: server\.port"):
        load(environ={}, flags={"server.port": -1})
    with pytest.raises(ConfigError, match=r"SLALOM__KEYS__7__NAME: .*without gaps"):
        load(environ={"SLALOM__KEYS__7__NAME": "a"})
    with pytest.raises(ConfigError, match="SLALOM__SERVER__PORT: cannot set"):
        load(environ={"SLALOM__SERVER": "[1", "SLALOM__SERVER__PORT": "1"})
    with pytest.raises(ConfigError, match="SLALOM__SERVER: server: must be a section"):
        load(environ={"SLALOM__SERVER": "[1"})


def test_no_message_quotes_a_secret(tmp_path: Path) -> None:
    for text in (
        "keys: [{name: a, key: 123454321}]",
        "keys: [{name: a, key: [hunter2]}]",
        "keys: [{name: a, key: hunter2, key_env: X}]",
        "models: [{id: m, engine: {kind: command, cmd: x, env: {TOKEN: 123454321}}}]",
        "models: [{id: m, engine: {kind: remote, base_url: 'http://me:hunter2@x'}}]",
    ):
        with pytest.raises(ConfigError) as caught:
            load(write(tmp_path, text), environ={})
        assert "hunter2" not in str(caught.value)
        assert "123454321" not in str(caught.value)


def test_unreadable_files_are_config_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file; 'slalom config example"):
        load(tmp_path / "absent.yaml", environ={})
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path, environ={})
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(binary, environ={})
    big = tmp_path / "big.yaml"
    big.write_text("#" * (1 << 20) + "\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        load(big, environ={})


def test_a_yaml_bomb_is_refused_quickly(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(ConfigError, match="nested or repeated too often"):
        load(write(tmp_path, "\n".join(lines)), environ={})


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*_WORDS, "x"]) | st.integers(0, 3).map(str), inner, max_size=4
            )
        ),
        max_leaves=12,
    )
)
def test_whatever_is_written_it_loads_or_is_a_config_error(document: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), yaml.safe_dump(document))
        try:
            load(path, environ={"SLALOM__SERVER__PORT": "1"}, flags={"log.level": "info"})
        except ConfigError:
            return


def test_nesting_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nested too deep"):
        load(write(tmp_path, "a: " + "[" * 50_000), environ={})


def test_a_flag_below_something_that_is_no_section_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--port: cannot set server\.port"):
        load(write(tmp_path, "server: 3"), environ={}, flags={"server.port": 1})


def test_relative_paths_start_at_the_files_folder(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "journal: {dir: logs}\n"
        "keys: [{name: a, key_file: secret}]\n"
        "models:\n"
        "- {id: a, engine: {kind: llama-cpp, source: models/a.gguf}}\n"
        "- {id: b, engine: {kind: llama-cpp, source: 'hf:o/r'}}\n",
    )
    config, _ = load(path, environ={})
    assert config.journal.dir == str(tmp_path / "logs")
    assert config.keys[0].key_file == tmp_path / "secret"
    sources = [m.engine.source for m in config.models if m.engine.kind == "llama-cpp"]
    assert sources == [str(tmp_path / "models" / "a.gguf"), "hf:o/r"]


def test_the_configuration_is_frozen() -> None:
    config = load(environ={})[0]
    with pytest.raises(ValueError, match="frozen"):
        config.server.port = 1  # type: ignore[misc]


def _with_models(tmp_path: Path, devices: str, window: int = 0) -> Config:
    text = (
        "devices: [{id: one, budget: 8GiB}, "
        f"{{id: two, budget: 8GiB, window: {window}}}]\n"
        f"models: [{{id: m, {devices}, engine: {{kind: remote, base_url: 'http://127.0.0.1:9'}}}}]"
    )
    return load(write(tmp_path, text), environ={})[0]


def test_a_model_may_have_a_choice_of_devices(tmp_path: Path) -> None:
    config = _with_models(tmp_path, "devices: [two, one]")
    assert config.models[0].homes == ("two", "one")
    (spec,) = model_specs(config)
    assert (spec.device, spec.devices) == ("two", ("two", "one"))
    assert _with_models(tmp_path, "devices: [two]").models[0].homes == ("two",)


@pytest.mark.parametrize(
    ("devices", "window", "said"),
    [
        ("devices: [one, three]", 0, "there is no device 'three'"),
        ("devices: [one, one]", 0, "is given twice"),
        ("device: one, devices: [one, two]", 0, "write one of the two"),
        ("devices: [one, two]", 3, "has a window"),
    ],
)
def test_a_choice_of_devices_that_cannot_be(
    tmp_path: Path, devices: str, window: int, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        _with_models(tmp_path, devices, window)
