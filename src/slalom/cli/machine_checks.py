"""The checks of `slalom doctor` that need no configuration: Python, cores, memory, processes.

Owns only the looking and its advice. Called by `checks`.
"""

import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Literal

import psutil

from slalom.cli.version import package_version
from slalom.config.places import available_bytes
from slalom.units import GIB, format_bytes

Result = tuple[str, Literal["ok", "warn", "fail"], str, str]

_PYTHON_MIN = (3, 11)
_IMPORT_TIMEOUT_S = 60.0
_ENGINE_MODULE = "slalom.engines.llama_cpp_process"


def run() -> Iterator[Result]:
    """Every check as (name, status, what was found, what to do)."""
    yield _python()
    yield _cores()
    yield _memory()
    yield _engine()
    yield _strays()


def _python() -> Result:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < _PYTHON_MIN:
        return "python", "fail", found, "Slalom needs Python 3.11 or newer"
    return "python", "ok", found, ""


def _cores() -> Result:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if (cores or 1) < 2:
        return "cores", "warn", "1", "engine and gateway share it: expect slow answers"
    return "cores", "ok", str(cores), ""


def _memory() -> Result:
    free = available_bytes()
    found = f"{format_bytes(free)} available of {format_bytes(psutil.virtual_memory().total)}"
    if free < GIB:
        return "memory", "warn", found, "end other programs, or serve small models only"
    return "memory", "ok", found, ""


def _engine() -> Result:
    """Import llama.cpp in a process of its own: a wrong build can kill the one it is in."""
    version = package_version("xllamacpp")
    if version is None:
        return "llama.cpp", "fail", "xllamacpp is not installed", "pip install slalom again"
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import xllamacpp"],
            capture_output=True,
            timeout=_IMPORT_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        found = f"xllamacpp {version} does not import within {_IMPORT_TIMEOUT_S:g} s"
        return "llama.cpp", "fail", found, "try again on a calmer machine"
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        found = f"xllamacpp {version} cannot be imported: {last[0]}"
        return "llama.cpp", "fail", found, "install the build for this processor and Python"
    return "llama.cpp", "ok", f"xllamacpp {version}", ""


def _strays() -> Result:
    """Engine processes whose server has gone."""
    strays = []
    for process in psutil.process_iter(["pid", "ppid", "cmdline"]):
        command = process.info["cmdline"] or []
        parent = process.info["ppid"]
        if _ENGINE_MODULE in command and (parent in {0, 1} or not psutil.pid_exists(parent)):
            strays.append(process.info["pid"])
    if strays:
        ids = " ".join(map(str, strays))
        return "processes", "warn", f"engines without a server: {ids}", f"kill {ids}"
    return "processes", "ok", "no engine without a server", ""


def bind_problem(host: str, port: int) -> str | None:
    """Why a server could not listen there; None if it could."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, number) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1)
    except OSError as error:
        return error.strerror or str(error)
    return None


def open_files_max() -> int | None:
    """Files and connections this process may have open; None if there is no bound."""
    if sys.platform == "win32":
        return None
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft
