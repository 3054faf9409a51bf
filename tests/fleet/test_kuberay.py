"""The manifests of `deploy/kuberay` name what there is: flags, ports, versions, resources."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from slalom.cli.app import app
from slalom.config.load import load
from slalom.config.schema import Config
from slalom.fleet.fleet_config import environment_for, for_fleet

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kuberay"
DOCUMENTS: dict[str, Any] = {
    path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.yaml")
}
CLUSTER = DOCUMENTS["20-cluster.yaml"]["spec"]
(WORKERS,) = CLUSTER["workerGroupSpecs"]
JOB = DOCUMENTS["30-serve.yaml"]["spec"]
#: Fields that KubeRay's resources have (ray.io/v1), as far as these files might want them.
CLUSTER_FIELDS = {
    *("rayVersion", "headGroupSpec", "workerGroupSpecs", "gcsFaultToleranceOptions"),
    *(f"headGroupSpec.{name}" for name in ("serviceType", "rayStartParams", "template")),
    *(f"workerGroupSpecs.{name}" for name in ("groupName", "rayStartParams", "template")),
    *(f"workerGroupSpecs.{name}" for name in ("replicas", "minReplicas", "maxReplicas")),
}
JOB_FIELDS = {"clusterSelector", "entrypoint", "submitterPodTemplate", "submissionMode"}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """As the job reads it."""
    file = tmp_path / "slalom.yaml"
    file.write_text(DOCUMENTS["10-config.yaml"]["data"]["slalom.yaml"], encoding="utf-8")
    monkeypatch.setenv("SLALOM_KEY_TEAM", "secret")
    return for_fleet(load(file)[0], 24 << 30)


def test_the_job_starts_a_command_that_the_command_line_takes() -> None:
    program, command, *rest = shlex.split(JOB["entrypoint"])
    serve = get_command(app).commands[command]  # type: ignore[attr-defined]
    assert program == "slalom"
    asked = serve.make_context(command, list(rest)).params
    assert (asked["on"], asked["address"], asked["stop"]) == ("ray", "auto", False)
    mounts = CLUSTER["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert str(asked["config"]).startswith(mounts[0]["mountPath"])


def test_a_job_that_is_deleted_has_time_to_drain(config: Config) -> None:
    head, *_ = CLUSTER["headGroupSpec"]["template"]["spec"]["containers"]
    given = {one["name"]: one.get("value") for one in head["env"]}
    assert int(given["RAY_JOB_STOP_WAIT_TIME_S"]) >= 2 * config.server.drain_seconds


def _names(found: object, at: str = "") -> Iterator[str]:
    """Every field down to the templates of pods, which Kubernetes defines and not KubeRay."""
    if isinstance(found, dict) and not at.endswith(("emplate", "Params", "Selector")):
        for name, value in found.items():
            yield f"{at}.{name}".lstrip(".")
            yield from _names(value, f"{at}.{name}")
    elif isinstance(found, list):
        for value in found:
            yield from _names(value, at)


def test_kuberay_knows_every_field() -> None:
    assert set(_names(CLUSTER)) <= CLUSTER_FIELDS
    assert set(_names(JOB)) <= JOB_FIELDS
    for group in (CLUSTER["headGroupSpec"], WORKERS):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        assert group["template"]["spec"]["containers"]
    for name in ("20-cluster.yaml", "30-serve.yaml"):
        assert DOCUMENTS[name]["apiVersion"] == "ray.io/v1"


def test_the_recipe_of_the_image_copies_what_there_is() -> None:
    recipe = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    for file in re.findall(r"-r (\S+)", recipe):
        assert (ROOT / file).is_file(), file
    assert (ROOT / "pyproject.toml").is_file()


def test_ports_and_clusters_are_the_same_everywhere(config: Config) -> None:
    service = DOCUMENTS["40-service.yaml"]["spec"]
    (worker,) = WORKERS["template"]["spec"]["containers"]
    ports = {service["ports"][0]["targetPort"], worker["ports"][0]["containerPort"]}
    assert ports == {config.server.port}
    name = DOCUMENTS["20-cluster.yaml"]["metadata"]["name"]
    assert name == JOB["clusterSelector"]["ray.io/cluster"] == service["selector"]["ray.io/cluster"]


def test_one_version_of_ray(config: Config) -> None:
    lock = (ROOT / "requirements" / "ray.txt").read_text(encoding="utf-8")
    locked = re.search(r"^ray==(\S+)", lock, re.MULTILINE)
    assert locked is not None
    texts = [path.read_text(encoding="utf-8") for path in sorted(FOLDER.iterdir())]
    images = set(re.findall(r"(?:slalom-ray|rayproject/ray):([0-9.]+)", "".join(texts)))
    assert images == {locked[1]} == {CLUSTER["rayVersion"]}


def test_every_part_finds_a_node_and_each_worker_has_an_ingress(config: Config) -> None:
    resources = json.loads(json.loads(WORKERS["rayStartParams"]["resources"]))
    cpus = float(WORKERS["rayStartParams"]["num-cpus"])
    ray = config.ray
    assert resources["ingress"] == ray.ingress_resources["ingress"]
    assert WORKERS["replicas"] == WORKERS["minReplicas"] == ray.ingress_replicas
    assert ray.core_resources.keys() <= resources.keys()
    for model in config.models:
        assert model.ray.cpus <= cpus
    assert not environment_for(config, {})
    assert all(key.key_sha256 and key.key_env is None for key in config.keys)
