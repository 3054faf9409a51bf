"""What a configuration becomes on its way to other machines, and errors that come before Ray."""

import socket
import threading
import time

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from slalom.assembly.launchers import capabilities_for, launcher_for
from slalom.assembly.vllm import vllm_options
from slalom.cli.app import app
from slalom.config.schema import Config
from slalom.config.vllm_section import VllmEngine
from slalom.engines.vllm import environment
from slalom.errors import ConfigError
from slalom.fleet import ray_client
from slalom.fleet.fleet_config import environment_for, for_fleet, ingress_params
from slalom.units import GIB

RUNNER = CliRunner()


def config(**sections: object) -> Config:
    return Config.model_validate(sections)


def test_secrets_stay_here_and_their_digests_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K", "hush")
    told = for_fleet(config(keys=[{"name": "k", "key_env": "K"}]), GIB)
    assert (told.keys[0].key_env, len(told.keys[0].key_sha256 or "")) == (None, 64)
    assert "hush" not in told.model_dump_json()
    assert len(ingress_params(told).keys[0].sha256) == 32


def test_memory_is_the_clusters() -> None:
    told = for_fleet(config(devices=[{"id": "host", "auto_share": 0.5}]), 8 * GIB)
    assert told.devices[0].budget == 4 * GIB
    assert told.measurements.file == "none"
    devices = [{"id": "host", "budget": 0}, {"id": "a100", "gpu": 0}]
    with pytest.raises(ConfigError, match="'a100' cannot be auto on Ray"):
        for_fleet(config(devices=devices), GIB)


def _on_gpus(tensor_parallel: int, gpus: float) -> Config:
    engine = {"kind": "vllm", "model": "Some/Model", "tensor_parallel": tensor_parallel}
    model = {"id": "m", "engine": engine, "memory": "1GiB", "device": "a", "ray": {"gpus": gpus}}
    return config(devices=[{"id": "a", "gpu": 0, "budget": "40GiB"}], models=[model])


def test_vllm_runs_on_as_many_gpus_as_ray_gives_it() -> None:
    for_fleet(_on_gpus(2, 2), GIB)
    for_fleet(_on_gpus(1, 0.5), GIB)
    with pytest.raises(ConfigError, match=r"'m' spreads over 2 GPUs.*asks Ray for 1 "):
        for_fleet(_on_gpus(2, 1), GIB)


def test_vllm_gets_the_gpus_that_ray_chose_and_the_core_needs_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")  # where no nvidia-smi tells of any GPU
    model = _on_gpus(2, 2).models[0]
    able = capabilities_for(model, tokens_max=1, gpu=0, host="10.0.0.1")
    assert able.priority
    assert not able.sleep_levels, "its sleep calls are open on loopback only"
    engine = model.engine
    assert isinstance(engine, VllmEngine)
    options = vllm_options(model, engine, 0, "10.0.0.1", (3, 1), is_here=False)
    assert environment(options)["CUDA_VISIBLE_DEVICES"] == "3,1"
    with pytest.raises(ConfigError, match=r"was given 1 \(ray.gpus\)"):
        launcher_for(model, tokens_max=1, gpu=0, gpus=(3,))


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"gpus": 1.5}, "whole ones"), ({"nodes": 2, "cpus": 0}, "nothing is asked of each")],
)
def test_what_ray_could_never_place_is_told_before(asked: dict[str, object], said: str) -> None:
    engine = {"kind": "command", "cmd": "x ${PORT}"}
    with pytest.raises(ValidationError, match=said):
        config(models=[{"id": "m", "engine": engine, "memory": "1MiB", "ray": asked}])


@pytest.mark.parametrize("option", ["--detach", "--stop"])
def test_a_cluster_of_the_commands_own_keeps_no_server(option: str) -> None:
    result = RUNNER.invoke(app, ["serve", "--on", "ray", "--address", "local", option])
    assert result.exit_code == 1
    assert "not local" in result.output


def test_off_loopback_a_fleet_needs_keys() -> None:
    with pytest.raises(ConfigError, match="keys"):
        for_fleet(config(server={"host": "0.0.0.0"}), GIB)


def test_keys_of_remote_engines_travel_as_variables() -> None:
    engine = {"kind": "remote", "base_url": "https://x.example", "api_key_env": "REMOTE"}
    told = config(models=[{"id": "m", "engine": engine}])
    assert environment_for(told, {"REMOTE": "r", "OTHER": "o"}) == {"REMOTE": "r"}


def test_ray_that_is_missing_is_an_error_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_client, "_find", lambda _name: None)
    result = RUNNER.invoke(app, ["serve", "--on", "ray"])
    assert result.exit_code == 1
    assert "pip install 'slalom[ray]'" in result.output


def test_an_address_that_does_not_answer_is_an_error_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_client, "_find", lambda _name: object())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    began_s = time.monotonic()
    with pytest.raises(ray_client.FleetError, match="no Ray cluster answers"):
        ray_client.connect(f"127.0.0.1:{port}", "slalom")
    assert time.monotonic() - began_s < 10
    with pytest.raises(ConfigError, match="HOST:PORT"):
        ray_client.connect("somewhere", "slalom")


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_who_listens_but_is_no_cluster_is_told_at_once(
    says: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_client, "_find", lambda _name: object())
    monkeypatch.setattr(ray_client, "CONNECT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            line, _ = listener.accept()
            with line:
                line.sendall(says)
                line.recv(1 << 16)
                while says == b"" and line.recv(64):
                    pass

        answering = threading.Thread(target=answer)
        answering.start()
        with pytest.raises(ray_client.FleetError, match="not the head"):
            ray_client.connect(f"127.0.0.1:{listener.getsockname()[1]}", "slalom")
        answering.join()


def test_options_of_ray_without_ray_are_a_mistake() -> None:
    result = RUNNER.invoke(app, ["serve", "--ingresses", "3"])
    assert result.exit_code == 1
    assert "--on ray" in result.output
