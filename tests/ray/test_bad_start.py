"""What `slalom serve --on ray` says where it cannot start, and that it leaves nothing behind."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import yaml

from tests.ray.fleet import PYTHON, cluster, configuration

_BOUND_S = 10.0


def _serve(
    python: Path | str, folder: Path, address: str
) -> tuple["subprocess.CompletedProcess[str]", float]:
    path = folder / "slalom.yaml"
    path.write_text(yaml.safe_dump(configuration(folder)), encoding="utf-8")
    command = [str(python), "-m", "slalom", "serve", "--config", str(path), "--port", "0"]
    command += ["--on", "ray", "--address", address]
    began_s = time.monotonic()
    # Whatever of Ray it starts has this folder in its command line.
    env = {**os.environ, "RAY_TMPDIR": str(folder / "ray")}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100, check=False, env=env
    )
    return done, time.monotonic() - began_s


def _left(folder: Path) -> list[str]:
    """Programs that outlived a start that failed."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if str(folder) in line and process.pid != os.getpid():
                found.append(line[:200])
    return found


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed here")
def test_without_the_extra_it_says_how_to_get_it(tmp_path: Path) -> None:
    done, _ = _serve(sys.executable, tmp_path, "auto")
    assert done.returncode != 0
    assert "pip install 'slalom[ray]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.ray
@pytest.mark.skipif(not PYTHON.exists(), reason="no Ray: make ray-setup")
@pytest.mark.parametrize("listens", [False, True], ids=["nobody-listens", "no-ray-listens"])
def test_an_address_that_does_not_answer_is_told_soon(listens: bool, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        if listens:
            probe.listen()
        address = f"127.0.0.1:{probe.getsockname()[1]}"
        done, took_s = _serve(PYTHON, tmp_path, address)
    assert done.returncode != 0
    assert address in done.stderr
    assert "Traceback" not in done.stderr
    # Starting the interpreter is none of the bound's business.
    assert took_s < _BOUND_S + 5.0
    assert not _left(tmp_path)


@pytest.mark.ray
@pytest.mark.skipif(not PYTHON.exists(), reason="no Ray: make ray-setup")
def test_a_cluster_of_another_version_is_told_with_both(tmp_path: Path) -> None:
    with cluster(tmp_path, [{"num_cpus": 1}], version="2.0.0") as ray:
        done, took_s = _serve(PYTHON, tmp_path, ray.address)
        assert not ray.actors()
    assert done.returncode != 0
    assert "Ray: 2.0.0" in done.stderr
    assert "this process" in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert took_s < _BOUND_S + 5.0


@pytest.mark.ray
@pytest.mark.skipif(not PYTHON.exists(), reason="no Ray: make ray-setup")
def test_an_address_that_is_none_is_named(tmp_path: Path) -> None:
    done, _ = _serve(PYTHON, tmp_path, "nowhere at all")
    assert done.returncode != 0
    assert "nowhere at all" in done.stderr
    assert "Traceback" not in done.stderr
