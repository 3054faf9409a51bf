"""Ray, as far as a fleet needs it: connecting within a bound, names, calls that end.

Owns the errors: no Ray installed, no cluster, an actor that is gone. Ray is imported when a
function here is called, since it is an extra. Called by the other modules of this room that know
Ray.
"""

import asyncio
import importlib
import importlib.util
import logging
import os
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slalom.errors import ConfigError, SlalomError

_log = logging.getLogger(__name__)

#: A life that cannot start tries again after so long, s.
_AGAIN_S = 1.0
#: Longest wait for a cluster to answer, s.
CONNECT_S = 8.0
#: A client's first words in HTTP/2, with no settings of its own; the head of a frame and its kind.
_HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
_FRAME_HEAD_BYTES = 9
_SETTINGS = 4
#: Object store of a cluster that is started here: nothing of ours goes through it, bytes.
_STORE_BYTES = 100 << 20
#: Named actors of a fleet.
CORE = "core"
ENGINE_HEAD = "engine:"


_find = importlib.util.find_spec


def ingress_name(index: int) -> str:
    """Name of an ingress."""
    return f"ingress-{index}"


class FleetError(SlalomError):
    """A fleet cannot be reached, or is not what it should be; the message says what to do."""

    code = "fleet"


class ActorGoneError(FleetError):
    """An actor is dead, or its node cannot be reached now."""

    code = "actor_gone"


def check_installed() -> None:
    """Whether Ray is there, without importing it.

    Raises:
        ConfigError: It is not installed.
    """
    if _find("ray") is None:
        raise ConfigError("serving on Ray needs Ray, which is an extra: pip install 'slalom[ray]'")


def ray_module() -> Any:
    """Ray.

    Raises:
        ConfigError: It is not installed.
    """
    check_installed()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Otherwise Ray hides the GPUs from actors that ask for none, and warns that it will not.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Workers of a cluster that is started here: by default they give way to everything else.
    os.environ.setdefault("RAY_worker_niceness", "0")
    return importlib.import_module("ray")


def connect(address: str, namespace: str, *, local_cpus: int | None = None) -> Any:
    """Connect this process to a cluster, or start one; returns Ray.

    Args:
        address: ``HOST:PORT``, ``auto`` or ``local``.
        namespace: Of the fleet.
        local_cpus: CPUs of a cluster that is started here; None for the machine's.

    Raises:
        ConfigError: Ray is not installed, or the address is none.
        FleetError: Nobody answers there.
    """
    if address == "local":
        # Ray's own way, by an odd name, to have a cluster of one machine stay on loopback.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    where = os.environ.get("RAY_ADDRESS", "auto") if address == "auto" else address
    if where not in {"auto", "local"}:
        check_installed()
        _check_listening(where)  # before Ray is imported, which takes its time
    ray = ray_module()
    if ray.is_initialized():
        return ray
    quiet = {"namespace": namespace, "log_to_driver": False, "logging_level": "error"}
    if address == "local":
        ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=_STORE_BYTES,
            num_cpus=local_cpus or max(os.cpu_count() or 1, 4),
            _node_ip_address="127.0.0.1",
            **quiet,
        )
        return ray
    _init_within(ray, where, quiet)
    return ray


def _check_listening(where: str) -> None:
    """Whether anybody listens there, and speaks as Ray's head does: Ray would try for minutes."""
    host, _, port = where.rpartition(":")
    if not host or not port.isdecimal() or "://" in host:
        raise ConfigError(
            f"{where!r} is no address of a Ray cluster: write HOST:PORT of its head's port "
            "(6379 by default), auto or local (--address)"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_S / 2) as line:
            answers = os.environ.get("RAY_USE_TLS", "0") != "0" or _speaks_http2(line)
    except OSError as problem:
        raise FleetError(
            f"no Ray cluster answers at {where} ({problem.strerror or problem}): is its head "
            "running there (ray start --head), and can its port be reached from here?"
        ) from None
    if not answers:
        raise FleetError(
            f"no Ray cluster answers at {where}: something listens there, but it is not the head "
            "of a cluster, or hangs; the head's port is 6379 unless it was started with another"
        )


def _speaks_http2(line: socket.socket) -> bool:
    """Whether a connection is answered as by gRPC: with settings, which come first."""
    line.settimeout(CONNECT_S / 2)
    found = b""
    try:
        line.sendall(_HTTP2_HELLO)
        while len(found) < _FRAME_HEAD_BYTES and (piece := line.recv(64)):
            found += piece
    except OSError:
        return False
    return len(found) >= _FRAME_HEAD_BYTES and found[3] == _SETTINGS


def _init_within(ray: Any, where: str, options: Mapping[str, Any]) -> None:
    """`ray.init`, which knows no time-out, on a thread that is left behind if it takes too long."""
    outcome: list[BaseException | None] = []

    def attempt() -> None:
        try:
            ray.init(address=where, **options)
        except BaseException as problem:  # noqa: BLE001 - it is raised again below
            outcome.append(problem)
        else:
            outcome.append(None)

    thread = threading.Thread(target=attempt, name="ray.init", daemon=True)
    thread.start()
    thread.join(CONNECT_S)
    if not outcome:
        raise FleetError(
            f"no Ray cluster answered at {where} within {CONNECT_S:g} s: it asks for a token "
            "(set RAY_AUTH_MODE=token where the token is, see Ray's documentation), it is busy, or "
            "what listens there is no head of a cluster"
        )
    if (problem := outcome[0]) is None:
        return
    if isinstance(problem, ConnectionError) and where == "auto":
        raise FleetError(
            "no Ray cluster runs on this machine, and RAY_ADDRESS names none: start one with "
            "'ray start --head', name one with --address HOST:PORT, or say --address local"
        ) from None
    raise FleetError(
        f"the Ray cluster at {where} cannot be used: {type(problem).__name__}: {_all(problem)}"
    ) from None


def _first(problem: BaseException) -> str:
    lines = str(problem).strip().splitlines()
    return lines[0][:300] if lines else "no reason given"


def _all(problem: BaseException) -> str:
    """What Ray says on several lines, on one: which versions there are, for one."""
    return " ".join(str(problem).split())[:600] or "no reason given"


async def ask(handle: Any, method: str, *args: object, timeout_s: float | None = None) -> Any:
    """Call a method of an actor from any event loop.

    Raises:
        ActorGoneError: It is dead or unreachable.
        TimeoutError: It took longer.
    """
    exceptions = importlib.import_module("ray.exceptions")
    try:
        reference = getattr(handle, method).remote(*args)
        async with asyncio.timeout(timeout_s):
            return await asyncio.wrap_future(reference.future())
    except (exceptions.RayActorError, exceptions.ActorUnschedulableError) as problem:
        raise ActorGoneError(f"an actor of the fleet is gone: {_first(problem)}") from None
    except exceptions.RaySystemError as problem:
        raise ActorGoneError(f"the cluster does not answer: {_first(problem)}") from None


@dataclass(frozen=True, slots=True)
class Here:
    """Where a worker process of Ray runs."""

    host: str
    node: str
    #: Indices of the GPUs that it was given; none where one of them has no number.
    gpus: tuple[int, ...]


def here() -> Here:
    """This process's place; call it in an actor."""
    ray = ray_module()
    ids = [str(one) for one in ray.get_gpu_ids()]
    gpus = tuple(map(int, ids)) if all(one.isdecimal() for one in ids) else ()
    node = ray.get_runtime_context().get_node_id()
    # As the cluster knows it: a machine may have other addresses, and a cluster none but loopback.
    host = next(one["NodeManagerAddress"] for one in ray.nodes() if one["NodeID"] == node)
    return Here(host, node, gpus)


def leave_if_restarted(problem: SlalomError) -> None:
    """End this actor if it is a later life that cannot start, so that Ray tries again.

    A first life stays, and tells its problem to whoever started it.
    """
    if ray_module().get_runtime_context().was_current_actor_reconstructed:
        _log.critical("it cannot start again: %s", problem)
        time.sleep(_AGAIN_S)
        os._exit(1)


class GcsKept:
    """`Kept` in the key-value store of Ray's own head: it outlives every node but that one.

    Where Ray Serve keeps what its controller must not lose; Ray has no public name for it.

    Args:
        namespace: Of the fleet.
    """

    def __init__(self, namespace: str) -> None:
        self._kv = importlib.import_module("ray.experimental.internal_kv")
        self._namespace = f"slalom:{namespace}".encode()

    def __repr__(self) -> str:
        return f"<GcsKept {self._namespace.decode()}>"

    def get(self, name: str) -> bytes | None:
        """A blob; None where there is none."""
        get = self._kv._internal_kv_get  # noqa: SLF001 - see above
        blob: bytes | None = get(name.encode(), namespace=self._namespace)
        return blob

    def put(self, name: str, blob: bytes) -> None:
        """Keep a blob."""
        put = self._kv._internal_kv_put  # noqa: SLF001 - see above
        put(name.encode(), blob, overwrite=True, namespace=self._namespace)

    def forget(self, name: str) -> None:
        """Keep it no longer."""
        delete = self._kv._internal_kv_del  # noqa: SLF001 - see above
        delete(name.encode(), namespace=self._namespace)
