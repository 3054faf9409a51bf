"""vLLM's flags, one rule after the other; its failures in words; and a program that takes them."""

import asyncio
import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slalom.core.events import FailureKind
from slalom.engines.command import CommandLauncher
from slalom.engines.turns import turn
from slalom.engines.vllm import VllmOptions, command_line, command_options, environment
from slalom.engines.vllm_diagnosis import explain
from slalom.errors import EngineError
from slalom.testing.engine_talk import ask
from slalom.units import GIB, MIB
from tests.engines.fake_vllm import fake_vllm

CPU = VllmOptions("/models/coder", "coder", booked_bytes=6 * GIB, kv_bytes=3 * GIB + 5, places=16)
GPU = replace(CPU, gpus=(2,), gpu_bytes=80 * GIB, booked_bytes=20 * GIB, kv_bytes=0)


def line(options: VllmOptions, **more: Any) -> str:
    return " ".join(command_line(replace(options, **more))) + " "


@pytest.mark.parametrize(
    ("options", "more", "flag"),
    [
        (CPU, {}, "vllm serve /models/coder "),
        (CPU, {"program": "/opt/v/bin/python3"}, "api_server --model /models/coder "),
        (CPU, {}, "--host ${HOST} --port ${PORT} --served-model-name coder "),
        (GPU, {}, "--scheduling-policy priority "),
        (GPU, {}, "--max-num-seqs 16 "),
        (GPU, {}, "--max-num-batched-tokens 8192 "),
        (GPU, {"gpu_bytes": 48 * GIB}, "--max-num-batched-tokens 4096 "),
        (GPU, {"gpu_bytes": 24 * GIB}, "--max-num-batched-tokens 2048 "),
        (GPU, {"gpu_bytes": 24 * GIB, "places": 3000}, "--max-num-batched-tokens 3000 "),
        (GPU, {"batch_tokens": 512}, "--max-num-batched-tokens 512 "),
        (CPU, {}, "--max-num-batched-tokens 1024 "),
        (GPU, {}, "--long-prefill-token-threshold 2048 "),
        (GPU, {"batch_tokens": 512}, "--long-prefill-token-threshold 128 "),
        (GPU, {"long_prompt_tokens": 300}, "--long-prefill-token-threshold 300 "),
        (GPU, {"context_tokens": 32_768}, "--max-model-len 32768 "),
        (GPU, {}, " --enable-prefix-caching "),
        (GPU, {"prefix_caching": False}, "--no-enable-prefix-caching "),
        (GPU, {"dtype": "bfloat16"}, "--dtype bfloat16 "),
        (GPU, {"kv_cache_dtype": "fp8"}, "--kv-cache-dtype fp8 "),
        (GPU, {"quantization": "awq"}, "--quantization awq "),
        (GPU, {}, "--gpu-memory-utilization 0.2437 "),
        (GPU, {"gpus": (2, 3)}, "--tensor-parallel-size 2 "),
        (GPU, {}, "--enable-per-request-metrics --enable-prompt-tokens-details "),
        (CPU, {}, "--enforce-eager "),
        (GPU, {"eager": True}, "--enforce-eager "),
        (GPU, {"sleeps": True}, "--enable-sleep-mode "),
        (GPU, {"tool_parser": "hermes"}, "--enable-auto-tool-choice --tool-call-parser hermes "),
        (GPU, {"chat_template": "/t.jinja"}, "--chat-template /t.jinja "),
        (GPU, {"trust_remote_code": True}, "--trust-remote-code "),
        (GPU, {"extra": ("--seed", "7")}, "--seed 7 "),
    ],
)
def test_a_rule_gives_its_flag(options: VllmOptions, more: dict[str, Any], flag: str) -> None:
    assert flag in line(options, **more)


@pytest.mark.parametrize(
    ("options", "more", "flag"),
    [
        (CPU, {"gpu_bytes": 80 * GIB}, "--gpu-memory-utilization"),
        (GPU, {"gpu_bytes": 0}, "--gpu-memory-utilization"),
        (GPU, {}, "--tensor-parallel-size"),
        (GPU, {}, "--enforce-eager"),
        (CPU, {"eager": False}, "--enforce-eager"),
        (GPU, {}, "--enable-sleep-mode"),
        (CPU, {"sleeps": True}, "--enable-sleep-mode"),
        (GPU, {"sleeps": True, "host": "10.0.0.7"}, "--enable-sleep-mode"),
        (GPU, {"request_metrics": False}, "--enable-per-request-metrics"),
        (GPU, {"long_prompt_tokens": 0}, "--long-prefill-token-threshold"),
        (GPU, {"context_tokens": 2048}, "--long-prefill-token-threshold"),
        (GPU, {}, "--max-model-len"),
        (GPU, {}, "--dtype"),
        (GPU, {}, "--enable-auto-tool-choice"),
        (GPU, {}, "--trust-remote-code"),
    ],
)
def test_a_rule_that_does_not_apply_gives_none(
    options: VllmOptions, more: dict[str, Any], flag: str
) -> None:
    assert flag not in line(options, **more)


#: What one vLLM holds beside its share.
BESIDE = GIB // 2


@pytest.mark.parametrize(
    ("booked", "gpu_bytes", "gpus", "share"),
    [
        (20 * GIB, 80 * GIB, (0,), 0.2437),
        (20 * GIB + BESIDE, 80 * GIB, (0,), 0.25),
        # Two GPUs also hold the buffers between them.
        (20 * GIB + BESIDE, 80 * GIB, (0, 1), 0.2437),
        # As a driver tells it: 24 GB are not 24 GiB, and no share of them is a round number.
        (8 * GIB, 24564 * MIB, (0,), 0.3126),
        (24564 * MIB, 24564 * MIB, (0,), 0.9791),
        (81 * GIB, 80 * GIB, (0,), 1.0),
        # Never none, with which vLLM would take nearly all.
        (GIB // 4, 141 * GIB, (0,), 0.0001),
    ],
)
def test_the_share_that_vllm_is_told(
    booked: int, gpu_bytes: int, gpus: tuple[int, ...], share: float
) -> None:
    told = replace(GPU, booked_bytes=booked, gpu_bytes=gpu_bytes, gpus=gpus)
    assert told.memory_share == share
    assert f"--gpu-memory-utilization {share:.4f} " in line(told)


@pytest.mark.parametrize("gpu_gib", [12, 24, 80, 141])
@pytest.mark.parametrize("bookings", [(1, 1), (1, 1, 1), (2, 5), (13, 3, 1), (7,) * 7])
@pytest.mark.parametrize("others_mib", [0, 700])
def test_models_that_share_a_gpu_each_find_free_what_they_are_told(
    gpu_gib: int, bookings: tuple[int, ...], others_mib: int
) -> None:
    """VLLM's own check, in its own words: what is free at its start covers its share of all."""
    total = gpu_gib * GIB
    budget = total - others_mib * MIB
    free = budget
    for part in bookings:
        told = replace(GPU, booked_bytes=budget * part // sum(bookings), gpu_bytes=total)
        wanted = math.ceil(total * told.memory_share)
        free -= BESIDE
        assert free >= wanted, "less is free than it wants: it would not start"
        free -= wanted
    assert free >= 0
    assert free < len(bookings) * (total // 10_000 + 1), "and what is booked is not left lying"


def test_a_share_is_not_told_where_nobody_knows_the_gpu() -> None:
    assert "--gpu-memory-utilization" not in line(replace(GPU, gpu_bytes=0))
    assert "--gpu-memory-utilization" not in line(CPU)


@pytest.mark.parametrize(
    ("options", "more", "variables"),
    [
        (CPU, {}, {"VLLM_CPU_KVCACHE_SPACE": "3", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}),
        (CPU, {"kv_bytes": 0}, {"VLLM_CPU_KVCACHE_SPACE": "1"}),
        (CPU, {"threads": 3}, {"OMP_NUM_THREADS": "3", "VLLM_NO_USAGE_STATS": "1"}),
        (CPU, {"sleeps": True}, {"VLLM_SERVER_DEV_MODE": None, "CUDA_VISIBLE_DEVICES": None}),
        (CPU, {}, {"TORCH_COMPILE_DISABLE": "1", "VLLM_MAX_STOP_STRINGS": "64"}),
        (CPU, {"eager": False}, {"TORCH_COMPILE_DISABLE": None}),
        (GPU, {"eager": True}, {"TORCH_COMPILE_DISABLE": None}),
        (GPU, {"gpus": (2, 3)}, {"CUDA_VISIBLE_DEVICES": "2,3", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}),
        (GPU, {}, {"VLLM_SERVER_DEV_MODE": None, "VLLM_CPU_KVCACHE_SPACE": None}),
        (GPU, {"sleeps": True}, {"VLLM_SERVER_DEV_MODE": "1"}),
        (GPU, {"sleeps": True, "host": "10.0.0.7"}, {"VLLM_SERVER_DEV_MODE": None}),
        (GPU, {}, {"HF_HUB_OFFLINE": None}),
        (GPU, {"offline": True}, {"HF_HUB_OFFLINE": "1"}),
    ],
)
def test_the_environment(
    options: VllmOptions, more: dict[str, Any], variables: dict[str, str | None]
) -> None:
    made = environment(replace(options, **more))
    assert {name: made.get(name) for name in variables} == variables


def test_both_sleep_levels_where_it_can_sleep_and_tools_where_it_can_call_them() -> None:
    asleep = command_options(replace(GPU, sleeps=True, tool_parser="hermes")).capabilities
    assert (asleep.sleep_levels, asleep.tools, asleep.priority) == ((1, 2), True, True)
    plain = command_options(replace(CPU, sleeps=True)).capabilities
    assert (plain.sleep_levels, plain.tools) == ((), False)
    assert plain.continue_chat, "it says in fields that it goes on with a begun answer"


@pytest.mark.parametrize(
    ("said", "kind", "advice"),
    [
        ("vllm: error: unrecognized arguments: --new 3", "engine_start_failed", "--new 3"),
        ("python: Error while finding module: No module named 'vllm'", "engine_start_failed",
         "not installed"),
        ("ValueError: Model architectures ['NewForCausalLM'] are not supported for now.",
         "model_unusable", "NewForCausalLM"),
        (("ValueError: The checkpoint has model type `newest` but Transformers does not recognize "
         "this architecture."), "model_unusable", "newest"),
        ("OSError: Can't load the configuration of '/nowhere'.", "model_unusable", "folder"),
        ("safetensors_rust.SafetensorError: Error while deserializing header: InvalidHeader",
         "model_unusable", "damaged"),
        (("Value error, User-specified max_model_len (99999) is greater than the derived "
         "max_model_len"), "model_unusable", "99999"),
        (("ValueError: Free memory on device cuda:0 (0.5/79.3 GiB) on startup is less than desired "
         "GPU memory utilization (0.6, 47.6 GiB)."), "out_of_memory", "another program"),
        (("ValueError: Available memory on node 0 (3.1/62.7 GiB) on kv cache allocation is less "
         "than requested memory for kv (4.0 GiB)."), "out_of_memory", "main memory"),
        (("AssertionError: Error in memory profiling. Initial free memory 70.1 GiB, current free "
         "memory 71.0 GiB."), "engine_start_failed", "next try"),
        (("ValueError: To serve at least one request with the model's max seq len (32768), 4.0 GiB "
         "KV cache is needed"), "out_of_memory", "context_tokens"),
        (("ValueError: No available memory for the cache blocks. Try increasing "
         "`gpu_memory_utilization`"), "out_of_memory", "no room"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", "out_of_memory",
         "raise the model's memory"),
        ("RuntimeError: Failed to infer device type", "engine_start_failed", "no such GPU"),
    ],
)  # fmt: skip
def test_a_known_failure_is_explained(said: str, kind: str, advice: str) -> None:
    lines = ["ERROR 11-21 Traceback", said, "RuntimeError: Engine core initialization failed."]
    told = explain(lines)
    assert told is not None
    assert told.kind == FailureKind(kind)
    assert advice in told.advice
    assert explain([*lines[:1], lines[2]]) is None, "it is that line which tells"


def nothing(_fraction: float) -> None:
    """Nobody wants to know the progress."""


async def test_a_program_that_takes_vllms_flags_is_served_slept_and_measured(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    program = fake_vllm(tmp_path / "bin")
    options = replace(
        GPU,
        program=str(program),
        gpus=(0, 1),
        sleeps=True,
        env={"FAKE_VLLM_LOG": str(log)},
        context_tokens=4096,
        tool_parser="hermes",
        extra=("--dtype", "bfloat16"),
    )
    launcher = CommandLauncher(command_options(options), model_name="coder")
    engine = await launcher.launch("coder#1", nothing)
    try:
        gauges = await engine.metrics()
        assert gauges is not None
        assert gauges.generated_tokens == 2, "what compiles when first used was used before"
        assert (await ask(engine)).status == 200
        for level in (1, 2):
            await engine.sleep(level)
            await engine.wake()
        assert (await ask(engine)).status == 200
    finally:
        await engine.stop(0.5)
    seen = json.loads(log.read_text())
    assert seen["env"]["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert seen["words"][:2] == ["serve", "/models/coder"]
    assert seen["words"][2:4] == ["--host", "127.0.0.1"]


async def test_an_end_before_it_is_ready_is_told_in_words(tmp_path: Path) -> None:
    program = fake_vllm(tmp_path / "bin")
    said = "ValueError: No available memory for the cache blocks. error"
    options = replace(CPU, program=str(program), env={"FAKE_VLLM_FAILS": said})
    with pytest.raises(EngineError, match="raise the model's memory") as caught:
        await CommandLauncher(command_options(options), model_name="m").launch("m#1", nothing)
    assert caught.value.code == FailureKind.OUT_OF_MEMORY
    unknown = replace(CPU, program=str(program), extra=("--no-such-flag",))
    with pytest.raises(EngineError, match="does not know --no-such-flag"):
        await CommandLauncher(command_options(unknown), model_name="m").launch("m#1", nothing)
    missing = replace(CPU, program="no-such-vllm")
    with pytest.raises(EngineError, match="'no-such-vllm' was not found"):
        await CommandLauncher(command_options(missing), model_name="m").launch("m#1", nothing)


async def test_on_one_gpu_they_start_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each measures what is free while it starts, and takes what vanishes for its own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    program = str(fake_vllm(tmp_path / "bin"))

    def started() -> list[str]:
        seen = [json.loads(text) for text in (tmp_path / "log").read_text().splitlines()]
        return [
            words[words.index("--served-model-name") + 1] for words in (s["words"] for s in seen)
        ]

    def launcher(name: str, *gpus: int) -> CommandLauncher:
        env = {"FAKE_VLLM_LOG": str(tmp_path / "log")}
        options = replace(GPU, name=name, program=program, gpus=gpus, env=env)
        return CommandLauncher(command_options(options), model_name=name)

    engines = []
    async with turn(["gpu-1"]):
        waits = asyncio.ensure_future(launcher("waits", 0, 1).launch("waits#0", nothing))
        leaves = asyncio.ensure_future(launcher("leaves", 1).launch("leaves#0", nothing))
        engines.append(await launcher("other", 2).launch("other#0", nothing))
        assert started() == ["other"]
        leaves.cancel()
        await asyncio.gather(leaves, return_exceptions=True)
    engines.append(await waits)
    engines.append(await launcher("last", 0).launch("last#0", nothing))
    assert started() == ["other", "waits", "last"]
    for engine in engines:
        await engine.stop(0.5)


async def test_without_a_place_for_turns_nobody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    async with turn(["gpu-0"]), turn(["gpu-0"]):
        pass
