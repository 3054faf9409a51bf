"""Builds the parts of a server from its configuration: scheduler, runtime, gateway, journal.

Owns the wiring only; each part's meaning is its own room's. Called by `serving` and by tests.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from slalom.assembly.batches import desk_for, idle_places, runner_for
from slalom.assembly.launchers import launcher_for
from slalom.assembly.ledgers import ledger_watch
from slalom.assembly.model_costs import ModelCosts
from slalom.assembly.model_facts import facts_of
from slalom.assembly.recorder import Recorder
from slalom.assembly.step_costs import CostStore
from slalom.batches.runner import Runner
from slalom.clock import MonotonicClock
from slalom.config.alias_section import AliasSection
from slalom.config.chain_sections import chain_specs
from slalom.config.engine_sections import ModelSection
from slalom.config.footprint import model_specs
from slalom.config.params import device_specs, policies, scheduler_params, task_table
from slalom.config.places import journal_dir
from slalom.config.schema import Config
from slalom.config.secret_sources import key_sha256
from slalom.config.sections import DeviceSection
from slalom.core.planning import Planning
from slalom.core.scheduler import Scheduler
from slalom.engines.protocol import Capabilities, Launcher
from slalom.gateway.app import Gateway
from slalom.gateway.auth import check_exposure
from slalom.gateway.batches.idle import IdlePlaces
from slalom.gateway.batches.routes import protocol
from slalom.gateway.params import (
    GateParams,
    GatewayParams,
    KeyEntry,
    ServedAlias,
    ServedModel,
    TaskRule,
)
from slalom.journal.codec import header_for
from slalom.journal.files import JournalParams, JournalWriter
from slalom.runtime.driver import Runtime
from slalom.runtime.ledger_watch import LedgerWatch
from slalom.runtime.params import RuntimeParams
from slalom.units import KIB, MIB, ms_to_ns, seconds_to_ns

#: Makes the launcher of a model on a device; the last argument is its answer limit, tokens.
MakeLauncher = Callable[[ModelSection, DeviceSection, int], tuple[Launcher, Capabilities]]


def on_this_machine(
    model: ModelSection, device: DeviceSection, tokens_max: int
) -> tuple[Launcher, Capabilities]:
    """A launcher of processes of this machine.

    Raises:
        ConfigError: An option cannot be used.
        ModelError: The model's file is missing or damaged.
    """
    return launcher_for(model, tokens_max=tokens_max, gpu=device.gpu)


@dataclass(frozen=True, slots=True)
class Parts:
    """A server that has not started: nothing listens, nothing is loaded."""

    config: Config
    scheduler: Scheduler
    runtime: Runtime
    gateway: Gateway
    #: What is known of step times; None where nothing plans with them.
    costs: CostStore | None = None
    #: Remembers what models cost; None where nothing is to be remembered.
    recorder: Recorder | None = None
    #: Holds the ledgers against the devices.
    ledgers: LedgerWatch | None = None
    #: Works on batches; None where there are to be none.
    batches: Runner | None = None
    #: The places that batches may use.
    idle: IdlePlaces | None = None


def assemble(config: Config, make_launcher: MakeLauncher = on_this_machine) -> Parts:
    """Build every part.

    Args:
        config: As loaded.
        make_launcher: Where engines are to run, if not on this machine; then its memory says
            nothing of theirs, and is not measured.

    Raises:
        ConfigError: Something configured cannot be used, or the server would be open to the
            network without keys.
        ModelError: A model's file is missing or damaged.
        JournalError: The journal cannot be written.
    """
    server = config.server
    check_exposure(server.host, has_keys=bool(config.keys), insecure=server.insecure)
    launchers: dict[str | tuple[str, str], Launcher] = {}
    capabilities = {}
    for model in config.models:
        made, capabilities[model.id] = launchers_of(config, model, make_launcher)
        launchers |= made
    chosen = policies(config.scheduler)
    model_costs = ModelCosts(config)
    specs = model_costs.tell(model_specs(config))
    costs = CostStore(config.models) if isinstance(chosen.admission, Planning) else None
    scheduler = Scheduler(
        costs.tell(specs) if costs else specs,
        device_specs(config),
        chosen,
        scheduler_params(config.scheduler),
    )
    params = gateway_params(config)
    runtime = Runtime(
        scheduler,
        launchers,
        capabilities=capabilities,
        journal=_journal(config, scheduler),
        params=RuntimeParams(in_flight_max=server.max_inflight),
    )
    recorder = None
    if model_costs.store is not None:
        recorder = Recorder(model_costs, runtime, scheduler)
        runtime.on_step.append(recorder)
    desk = desk_for(config)
    gateway = Gateway(runtime, params, () if desk is None else (protocol(desk),))
    batches = idle = None
    if desk is not None:
        idle = idle_places(specs, device_specs(config), config.batches)
        batches = runner_for(desk, gateway, idle)
    here = make_launcher is on_this_machine
    ledgers = ledger_watch(config, scheduler, runtime, specs, here=here)
    gateway.show_ledgers(ledgers)
    runtime.explain_memory_by(ledgers.explain)
    return Parts(config, scheduler, runtime, gateway, costs, recorder, ledgers, batches, idle)


def launchers_of(
    config: Config, model: ModelSection, make_launcher: MakeLauncher = on_this_machine
) -> tuple[dict[str | tuple[str, str], Launcher], Capabilities]:
    """What brings a model up on each of its devices, and what its engine can do.

    Raises:
        ConfigError: An option cannot be used, or a secret is not where it should be.
        ModelError: The model's file is missing or damaged.
    """
    tokens_max = model.max_tokens_default or config.server.default_max_tokens
    devices = {device.id: device for device in config.devices}
    first, *others = model.homes
    launcher, can = make_launcher(model, devices[first], tokens_max)
    made: dict[str | tuple[str, str], Launcher] = {model.id: launcher}
    for device in others:
        made[model.id, device], _ = make_launcher(model, devices[device], tokens_max)
    return made, can


def _journal(config: Config, scheduler: Scheduler) -> JournalWriter | None:
    directory = journal_dir(config.journal)
    if directory is None:
        return None
    params = JournalParams(
        directory,
        file_bytes_max=config.journal.max_mib * MIB,
        files_max=config.journal.keep_files,
    )
    epoch_unix_ns = time.time_ns() - MonotonicClock().now_ns()
    return JournalWriter(params, header_for(scheduler, epoch_unix_ns=epoch_unix_ns))


def gateway_params(config: Config) -> GatewayParams:
    """What the gateway is told.

    Raises:
        ConfigError: A key's secret is not where it should be.
    """
    server = config.server
    gpus = {device.id: device.gpu for device in config.devices}
    names = {alias: model.id for model in config.models for alias in model.aliases}
    return GatewayParams(
        models=tuple(
            ServedModel(
                id=model.id,
                aliases=model.aliases,
                max_tokens_default=model.max_tokens_default,
                default_task=model.default_task,
                tasks=model.tasks,
                facts=facts_of(model, on_gpu=gpus.get(model.homes[0]) is not None),
            )
            for model in config.models
        ),
        aliases=tuple(map(_alias, config.aliases)),
        keys=_keys(config),
        tasks=task_table(config),
        rules=_task_rules(config),
        chains=chain_specs(config.chains, server.default_task, names),
        chains_max=config.scheduler.chains_max,
        chain_idle_ns=seconds_to_ns(config.scheduler.chain_idle_seconds),
        completion_cache_bytes=int(config.completion_cache.bytes),
        default_task=server.default_task,
        default_max_tokens=server.default_max_tokens,
        tools_max_tokens=server.tools_max_tokens,
        body_bytes_max=server.max_body_mib * MIB,
        body_timeout_s=server.body_timeout_seconds,
        header_bytes_max=server.max_header_kib * KIB,
        header_timeout_s=server.header_timeout_seconds,
        keep_alive_s=server.keep_alive_seconds,
        connections_max=server.max_connections,
        inflight_max=server.max_inflight,
        answer_bytes_max=server.max_answer_mib * MIB,
        responses_bytes_max=server.responses_mib * MIB,
        responses_age_s=server.responses_hours * 3600.0,
        wait_comment_after_ns=ms_to_ns(server.wait_comment_after_ms),
        wait_comment_every_ns=ms_to_ns(server.wait_comment_every_ms),
        starving_ns=seconds_to_ns(server.starving_seconds),
        records_max=server.records_max,
        feedback_max=server.feedback_max,
        supersede=server.supersede,
    )


def _keys(config: Config) -> tuple[KeyEntry, ...]:
    return tuple(
        KeyEntry(
            name=key.name,
            sha256=key_sha256(key),
            admin=key.admin,
            task=key.task,
            ceiling=key.ceiling,
            weight=key.weight,
            floor=key.floor,
            single_line=key.single_line,
        )
        for key in config.keys
    )


def _alias(alias: AliasSection) -> ServedAlias:
    gates = GateParams(
        alias.min_logprob, alias.first_tokens, parse=alias.parse, language=alias.language or ""
    )
    return ServedAlias(alias.id, alias.alternatives(), alias.tasks, gates)


def _task_rules(config: Config) -> tuple[TaskRule, ...]:
    return tuple(
        TaskRule(
            task=rule.task,
            path=rule.when.path,
            has=rule.when.has,
            model=rule.when.model,
            header=rule.when.header,
            history=rule.when.history,
        )
        for rule in config.rules
    )
