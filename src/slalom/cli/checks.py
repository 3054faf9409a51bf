"""The checks of `slalom doctor`: one function each, from the configuration to the models.

Owns what is looked at and the advice. A check never raises and changes nothing on the machine.
"""

import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slalom.cli import machine_checks
from slalom.cli.server_client import RefusedError, ServerClient, ServerError
from slalom.cli.spare_server import configured_url
from slalom.config.engine_sections import (
    CommandEngine,
    EngineChoice,
    LlamaCppEngine,
    RemoteEngine,
)
from slalom.config.footprint import bytes_needed
from slalom.config.load import load
from slalom.config.origins import Origins
from slalom.config.params import device_specs
from slalom.config.places import journal_dir
from slalom.config.schema import Config
from slalom.config.secret_sources import key_sha256, remote_key
from slalom.config.vllm_section import VllmEngine
from slalom.core.request import DeviceSpec
from slalom.errors import SlalomError
from slalom.gateway.auth import check_exposure
from slalom.units import MIB, format_bytes

Status = Literal["ok", "warn", "fail"]
_JOURNAL_ROOM = 256 * MIB


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    name: str
    status: Status
    found: str
    #: What to do; empty if nothing.
    advice: str = ""


def run_checks(config_file: Path | None) -> Iterator[Finding]:
    """All checks; those that need a configuration are left out where it is wrong."""
    for name, status, found, advice in machine_checks.run():
        yield Finding(name, status, found, advice)
    try:
        config, origins = load(config_file)
    except SlalomError as error:
        yield Finding("configuration", "fail", str(error), "correct it; 'slalom config example'")
        return
    yield _configuration(config, origins)
    yield from _exposure(config)
    yield _port(config)
    yield _journal(config)
    yield from _models(config)
    yield _connections(config)


def _configuration(config: Config, origins: Origins) -> Finding:
    where = str(origins.file) if origins.file else "none: the built-in one holds"
    if not config.models:
        return Finding("configuration", "warn", f"{where}; no model", "add one under 'models'")
    return Finding("configuration", "ok", where)


def _exposure(config: Config) -> Iterator[Finding]:
    server = config.server
    for key in config.keys:
        try:
            key_sha256(key)
        except SlalomError as error:
            yield Finding("keys", "fail", str(error), "set it, or take the key out")
    try:
        check_exposure(server.host, has_keys=bool(config.keys), insecure=server.insecure)
    except SlalomError as error:
        yield Finding("keys", "fail", str(error), "'keys' in 'slalom config example' shows how")
        return
    if server.insecure and not config.keys:
        advice = "make sure that something else protects it"
        yield Finding("keys", "warn", f"insecure: {server.host} is open to everyone", advice)
        return
    yield Finding("keys", "ok", f"{len(config.keys)} configured; listening on {server.host}")


def _port(config: Config) -> Finding:
    server = config.server
    if server.port == 0:
        return Finding("port", "ok", "a free one is taken at start")
    problem = machine_checks.bind_problem(server.host, server.port)
    if problem is None:
        return Finding("port", "ok", f"{server.port} is free")
    try:
        cards = ServerClient(configured_url(config)).models()
        if any("slalom" in card for card in cards):
            return Finding("port", "ok", f"{server.port}: a Slalom server is running there")
    except RefusedError as error:
        if error.code in {"invalid_api_key", "missing_api_key"}:
            return Finding("port", "ok", f"{server.port}: a server with keys is running there")
    except ServerError:
        pass
    advice = "stop what listens there, or choose another (server.port, --port)"
    return Finding("port", "fail", f"{server.port}: {problem}", advice)


def _journal(config: Config) -> Finding:
    directory = journal_dir(config.journal)
    if directory is None:
        return Finding("journal", "warn", "none is written", "'slalom explain' needs journal.dir")
    existing = next(p for p in (directory, *directory.absolute().parents) if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        advice = "make it writable, or set journal.dir"
        return Finding("journal", "fail", f"{directory} cannot be written", advice)
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Finding("journal", "fail", f"{directory}: {error.strerror}", "set journal.dir")
    free = shutil.disk_usage(existing).free
    if free < _JOURNAL_ROOM:
        found = f"{directory}: only {format_bytes(free)} free on that disk"
        return Finding("journal", "warn", found, "make room, or lower journal.keep_files")
    return Finding("journal", "ok", f"{directory} ({format_bytes(free)} free)")


def _models(config: Config) -> Iterator[Finding]:
    try:
        devices = {device.id: device for device in device_specs(config)}
    except SlalomError as error:
        yield Finding("memory budget", "fail", str(error), "write its size")
        return
    needed = dict.fromkeys(devices, 0)
    pinned = dict.fromkeys(devices, 0)
    gpus = {device.id: device.gpu for device in config.devices}
    for model in config.models:
        problem = _engine_problem(model.id, model.engine)
        try:
            size = bytes_needed(model, gpu=gpus[model.homes[0]])
        except SlalomError as error:
            problem, size = problem or (str(error), _source_advice(model.engine)), 0
        budget = devices[model.homes[0]].budget_bytes
        needed[model.homes[0]] += size * model.replicas
        pinned[model.homes[0]] += size * model.replicas if model.pinned else 0
        name = f"model {model.id}"
        if problem:
            yield Finding(name, "fail", *problem)
        elif size > budget:
            found = f"needs {format_bytes(size)}, but {model.homes[0]} has {format_bytes(budget)}"
            yield Finding(name, "fail", found, "fewer places, less context, or a larger budget")
        else:
            yield Finding(name, "ok", f"{model.engine.kind}, {format_bytes(size)} a replica")
    for device in devices.values():
        yield _budget(device, needed[device.id], pinned[device.id])


def _engine_problem(model_id: str, engine: EngineChoice) -> tuple[str, str] | None:
    """(what is wrong, what to do) apart from the model's file and size."""
    if isinstance(engine, VllmEngine) and shutil.which(engine.program) is None:
        return f"there is no program {engine.program!r}", "install vLLM, or correct engine.program"
    if isinstance(engine, CommandEngine):
        words = shlex.split(engine.cmd) if isinstance(engine.cmd, str) else list(engine.cmd)
        if shutil.which(words[0]) is None:
            return f"there is no program {words[0]!r}", "install it, or correct engine.cmd"
    if isinstance(engine, RemoteEngine):
        try:
            remote_key(model_id, engine)
        except SlalomError as error:
            return str(error), "set it, or correct engine.api_key_env"
    return None


def _source_advice(engine: EngineChoice) -> str:
    if isinstance(engine, LlamaCppEngine) and engine.source.startswith("hf:"):
        return f"slalom models pull {engine.source}"
    return "correct its entry under 'models'"


def _budget(device: DeviceSpec, needed: int, pinned: int) -> Finding:
    name = f"memory {device.id}"
    budget = format_bytes(device.budget_bytes)
    if pinned > device.budget_bytes:
        found = f"budget {budget}, but pinned models need {format_bytes(pinned)}"
        return Finding(name, "fail", found, "pin fewer models, or raise the budget")
    found = f"budget {budget}; all models together need {format_bytes(needed)}"
    if needed > device.budget_bytes:
        return Finding(name, "ok", f"{found}: they will take turns")
    return Finding(name, "ok", found)


def _connections(config: Config) -> Finding:
    allowed = machine_checks.open_files_max()
    # Each request may hold a connection to the client and one to an engine.
    wanted = config.server.max_connections * 2
    if allowed is not None and allowed < wanted:
        found = f"{allowed} allowed, {wanted} needed for server.max_connections"
        return Finding("open files", "warn", found, f"ulimit -n {wanted} before the start")
    return Finding("open files", "ok", f"{allowed or 'any number'} allowed")
