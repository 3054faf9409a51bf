"""The parameters that `deploy/kuberay` starts Ray's nodes with are options of `ray start`.

Opt-in (`make test-ray`): needs the environment of `make ray-setup`.
"""

import json
import subprocess

import pytest

from tests.fleet.test_kuberay import CLUSTER, WORKERS
from tests.ray.fleet import PYTHON

_PROGRAM = (
    "import json; from ray.scripts.scripts import start; "
    "print(json.dumps([name for one in start.params for name in one.opts]))"
)


@pytest.mark.ray
@pytest.mark.skipif(not PYTHON.exists(), reason="no Ray: make ray-setup")
def test_ray_start_has_every_parameter() -> None:
    done = subprocess.run([PYTHON, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    known = set(json.loads(done.stdout.splitlines()[-1]))
    for group in (CLUSTER["headGroupSpec"], WORKERS):
        assert {f"--{name}" for name in group["rayStartParams"]} <= known
