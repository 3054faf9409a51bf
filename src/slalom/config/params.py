"""Turns the configuration into the plain frozen parameters of the rooms below and above.

Owns the units' conversion and what `auto` comes to on this machine. Called by assembly, the
benchmarks and `slalom doctor`; after it nobody needs pydantic.
"""

import os
from collections.abc import Mapping

from slalom.config.fields import AUTO
from slalom.config.places import available_bytes
from slalom.config.scheduler_section import SchedulerSection
from slalom.config.schema import Config
from slalom.config.sections import DeviceSection, TaskSection
from slalom.core.params import SchedulerParams
from slalom.core.policy import Policies
from slalom.core.request import DeviceSpec
from slalom.errors import ConfigError
from slalom.models.gpu_memory import gpu_memory
from slalom.policies.registry import POLICIES, build
from slalom.units import ms_to_ns, seconds_to_ns
from slalom.workload.tasks import DEFAULT_TASKS, TaskSpec

#: The device whose memory this process can measure.
HOST = "host"
#: `window: auto`: requests in flight per core. Decoding on a CPU gains until about this many.
_IN_FLIGHT_PER_CORE = 4


def scheduler_params(section: SchedulerSection) -> SchedulerParams:
    """The core's bounds and patience, in nanoseconds."""
    return SchedulerParams(
        queue_max=section.queue_max,
        queue_timeout_ns=seconds_to_ns(section.queue_timeout_seconds),
        attempts_max=section.attempts_max,
        swap_patience_ns=ms_to_ns(section.swap_patience_ms),
        swap_hold_ns=ms_to_ns(section.swap_hold_ms),
        min_residency_ns=ms_to_ns(section.min_residency_ms),
        swap_drain_timeout_ns=ms_to_ns(section.swap_drain_timeout_ms),
        load_backoff_ns=ms_to_ns(section.load_backoff_ms),
        load_backoff_max_ns=ms_to_ns(section.load_backoff_max_ms),
        load_failures_max=section.load_failures_max,
        load_timeout_ns=seconds_to_ns(section.load_timeout_seconds),
        load_stall_ns=seconds_to_ns(section.load_stall_seconds),
        sleep_timeout_ns=seconds_to_ns(section.sleep_timeout_seconds),
        unload_timeout_ns=seconds_to_ns(section.unload_timeout_seconds),
        attempt_silence_ns=seconds_to_ns(section.attempt_silence_seconds),
        default_deadline_ns=ms_to_ns(section.default_deadline_ms),
        chains_max=section.chains_max,
        chain_idle_ns=seconds_to_ns(section.chain_idle_seconds),
    )


def policies(section: SchedulerSection) -> Policies:
    """The chosen policies with their options."""
    choices = {slot: getattr(section, slot) for slot in POLICIES}
    built = {slot: build(slot, made.kind, made.options()) for slot, made in choices.items()}
    return Policies(**built)  # type: ignore[arg-type]  # slots match


def device_specs(config: Config, *, available: int | None = None) -> tuple[DeviceSpec, ...]:
    """The devices with their budgets in bytes.

    Args:
        config: The configuration.
        available: Bytes that `auto` takes its share of; None measures this machine.

    Raises:
        ConfigError: `auto` on a device that cannot be measured.
    """
    return tuple(
        DeviceSpec(
            id=device.id,
            budget_bytes=_budget(device, available),
            window=auto_window() if device.window == AUTO else int(device.window),
            host=device.host or "",
            speed=device.speed,
        )
        for device in config.devices
    )


def _budget(device: DeviceSection, available: int | None) -> int:
    if device.budget != AUTO:
        return int(device.budget)
    if device.gpu is not None:
        memory = gpu_memory(device.gpu)
        if memory is None:
            raise ConfigError(
                f"devices: the budget of {device.id!r} is auto, but nvidia-smi tells nothing of "
                f"GPU {device.gpu}; write its size, such as 20GiB"
            )
        return int(memory.free * device.auto_share)
    if device.id != HOST:
        raise ConfigError(
            f"devices: the budget of {device.id!r} cannot be auto: only {HOST!r} and devices with "
            "a gpu are measured; write its size, such as 20GiB"
        )
    return int((available_bytes() if available is None else available) * device.auto_share)


def task_table(config: Config) -> Mapping[str, TaskSpec]:
    """The built-in tasks with the configured targets over them, and the new ones."""
    return tasks_over_defaults(config.tasks)


def tasks_over_defaults(sections: Mapping[str, TaskSection]) -> Mapping[str, TaskSpec]:
    """The built-in tasks with these targets over them, and the new ones."""
    table = dict(DEFAULT_TASKS)
    for name, section in sections.items():
        table[name] = _task(table.get(name, TaskSpec(name)), section)
    return table


def _task(base: TaskSpec, section: TaskSection) -> TaskSpec:
    """`base` with what was written; a target written as null is removed."""
    given = section.model_fields_set
    per_token, longer = section.e2e_ms_per_prompt_token, section.predicted_per_prompt_token
    if longer is None:  # a length that was written is meant for every prompt
        longer = base.predicted_per_prompt_token if section.predicted_tokens is None else 0.0
    return TaskSpec(
        name=base.name,
        ttft_ms=section.ttft_ms if "ttft_ms" in given else base.ttft_ms,
        tpot_ms=section.tpot_ms if "tpot_ms" in given else base.tpot_ms,
        e2e_ms=section.e2e_ms if "e2e_ms" in given else base.e2e_ms,
        e2e_ms_per_prompt_token=base.e2e_ms_per_prompt_token if per_token is None else per_token,
        predicted_tokens=(
            base.predicted_tokens if section.predicted_tokens is None else section.predicted_tokens
        ),
        predicted_per_prompt_token=longer,
        when_late=section.when_late or base.when_late,
        weight=base.weight if section.weight is None else section.weight,
        floor=base.floor if section.floor is None else section.floor,
    )


def auto_window() -> int:
    """`window: auto` on this machine."""
    return _IN_FLIGHT_PER_CORE * (os.cpu_count() or 1)


def auto_threads() -> int:
    """`threads: auto` on this machine: half of the cores, as llama.cpp's threads wait busily."""
    return max(1, (os.cpu_count() or 1) // 2)
