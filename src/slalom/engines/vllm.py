"""vLLM's command line and environment, chosen from a model and the device that it runs on.

Owns which flags vLLM is started with, and why. Does not start it: the result is a command like
any other (`command`), with sleep levels and words for vLLM's own failures. Called by assembly and
by `slalom models command`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from slalom.engines.command import CommandOptions
from slalom.engines.protocol import Call, Capabilities
from slalom.engines.turns import turns_of_gpus
from slalom.engines.vllm_diagnosis import explain
from slalom.models.fim import FimTemplate
from slalom.units import GIB, MIB

LOOPBACK = "127.0.0.1"
#: Both levels: weights to host memory, weights dropped.
SLEEP_LEVELS = (1, 2)
#: With these in a body vLLM goes on with a begun answer of a chat.
CONTINUE_CHAT = (("add_generation_prompt", False), ("continue_final_message", True))
#: A GPU with at least so many bytes computes at least so many tokens in about a decode step's
#: time several times over: larger steps read prompts faster and let running answers wait longer.
_GPU_BATCH_TOKENS = ((60 * GIB, 8192), (30 * GIB, 4096), (0, 2048))
_CPU_BATCH_TOKENS = 1024
#: Part of a step that one long prompt may take: three short ones still find room beside it.
_LONG_PROMPT_PARTS = 4
#: What vLLM holds of a GPU beside its share, which it counts from when these are there: the
#: driver's context and, with several GPUs, the buffers between them. Round figures of ours.
_UNCOUNTED_BYTES = 512 * MIB
_UNCOUNTED_BYTES_SPLIT = 1 * GIB
#: Stop texts in one request: a client's and the marks of a model, with room to spare.
_STOPS_MAX = 64
#: Steps in which a share is told.
_SHARE_STEPS = 10_000


@dataclass(frozen=True, slots=True)
class VllmOptions:
    """How one model is served by vLLM."""

    #: Folder, or a name that vLLM finds.
    model: str
    #: Name of the model in request bodies.
    name: str
    #: vLLM's command, or a Python that can import it.
    program: str = "vllm"
    #: Indices of its GPUs as nvidia-smi counts; empty for the CPU.
    gpus: tuple[int, ...] = ()
    #: Memory of the first of them, bytes; 0 where nobody knows.
    gpu_bytes: int = 0
    #: What it may take of each of them, or of main memory, bytes.
    booked_bytes: int = 0
    #: Part of that for the KV cache, on the CPU, bytes.
    kv_bytes: int = 0
    #: Longest prompt and answer; 0 for the model's own, tokens.
    context_tokens: int = 0
    places: int = 32
    #: Tokens of one step, and of one prompt in it; None lets the device decide. 0 for the latter
    #: is no limit.
    batch_tokens: int | None = None
    long_prompt_tokens: int | None = None
    dtype: str = "auto"
    kv_cache_dtype: str = "auto"
    quantization: str | None = None
    prefix_caching: bool = True
    #: None: on the CPU only.
    eager: bool | None = None
    #: Address on which it listens.
    host: str = LOOPBACK
    #: Whether it may be put to sleep. Not on the CPU, nor where others than this machine ask it.
    sleeps: bool = False
    tool_parser: str | None = None
    chat_template: str | None = None
    trust_remote_code: bool = False
    request_metrics: bool = True
    #: Whether the model's files are on this machine, so that nothing is to be fetched.
    offline: bool = False
    #: Threads of an engine on the CPU.
    threads: int = 1
    #: On top of ours. May hold secrets: never shown.
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    extra: tuple[str, ...] = ()
    ready_timeout_s: float = 1200.0
    fim: FimTemplate | None = None

    @property
    def step_tokens(self) -> int:
        """Most tokens of one step."""
        if self.batch_tokens is not None:
            return self.batch_tokens
        if not self.gpus:
            return max(_CPU_BATCH_TOKENS, self.places)
        sizes = (tokens for least, tokens in _GPU_BATCH_TOKENS if self.gpu_bytes >= least)
        return max(next(sizes), self.places)

    @property
    def prompt_step_tokens(self) -> int:
        """Most tokens of one prompt in one step; 0 for no limit."""
        asked = self.long_prompt_tokens
        tokens = self.step_tokens // _LONG_PROMPT_PARTS if asked is None else asked
        # vLLM refuses a limit above the context, where it could not limit anything.
        return tokens if not self.context_tokens or tokens < self.context_tokens else 0

    @property
    def memory_share(self) -> float:
        """Part of each GPU that it is told to take, rounded down; 0 where nobody knows.

        vLLM means a part of all of the GPU, wants as much to be free when it starts, and takes
        what it does not count beside it.
        """
        if not self.gpus or not self.gpu_bytes:
            return 0.0
        beside = _UNCOUNTED_BYTES if len(self.gpus) == 1 else _UNCOUNTED_BYTES_SPLIT
        steps = (self.booked_bytes - beside) * _SHARE_STEPS // self.gpu_bytes
        # Never nothing: without a share vLLM would take nearly all.
        return min(max(steps, 1), _SHARE_STEPS) / _SHARE_STEPS


def command_options(options: VllmOptions) -> CommandOptions:
    """The command that serves a model."""
    return CommandOptions(
        cmd=command_line(options),
        model=options.model,
        model_name=options.name,
        host=options.host,
        env={**environment(options), **options.env},
        ready_timeout_s=options.ready_timeout_s,
        bytes_expected=options.booked_bytes,
        gpu=options.gpus[0] if options.gpus else None,
        turns=turns_of_gpus(options.gpus),
        capabilities=capabilities_of(options),
        first_call=_first_call(options),
        explain=explain,
    )


def _first_call(options: VllmOptions) -> Call:
    """Reads, writes, tells probabilities: vLLM compiles each when it is first used."""
    body = {"model": options.name, "prompt": "a", "max_tokens": 2, "logprobs": 1}
    return Call("/v1/completions", json.dumps(body).encode())


def capabilities_of(options: VllmOptions) -> Capabilities:
    """What vLLM can do when it is started so."""
    return Capabilities(
        sleep_levels=SLEEP_LEVELS if _sleeps(options) else (),
        priority=True,
        continue_chat=CONTINUE_CHAT,
        fim=options.fim,
        tools=options.tool_parser is not None,
        stops_max=_STOPS_MAX,
    )


def command_line(options: VllmOptions) -> list[str]:
    """Program and arguments, with ``${PORT}`` where the port goes."""
    words = _program(options)
    for rule in _RULES:
        words += rule(options)
    return [*words, *options.extra]


def environment(options: VllmOptions) -> dict[str, str]:
    """The variables that vLLM needs, without the configured ones."""
    env = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    # With four, as it would have it, it refuses what ends a fill-in-the-middle.
    env["VLLM_MAX_STOP_STRINGS"] = str(_STOPS_MAX)
    if options.offline:
        env["HF_HUB_OFFLINE"] = "1"
    if options.gpus:
        # CUDA would else count by speed, and the driver's tools by slot.
        env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        env["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, options.gpus))
    else:
        env["VLLM_CPU_KVCACHE_SPACE"] = str(max(options.kv_bytes // GIB, 1))
        # Bound threads of two replicas would share the same cores.
        env["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        env["OMP_NUM_THREADS"] = str(options.threads)
        if _eager(options):
            # Without it PyTorch still compiles single functions when they are first used.
            env["TORCH_COMPILE_DISABLE"] = "1"
    if _sleeps(options):
        # The sleep calls need it; it also opens calls that run code, hence only on loopback.
        env["VLLM_SERVER_DEV_MODE"] = "1"
    return env


def _sleeps(options: VllmOptions) -> bool:
    return options.sleeps and bool(options.gpus) and options.host == LOOPBACK


def _eager(options: VllmOptions) -> bool:
    return not options.gpus if options.eager is None else options.eager


def _program(options: VllmOptions) -> list[str]:
    if Path(options.program).name.startswith("python"):
        server = "vllm.entrypoints.openai.api_server"
        return [options.program, "-m", server, "--model", options.model]
    return [options.program, "serve", options.model]


def _address(options: VllmOptions) -> list[str]:
    return ["--host", "${HOST}", "--port", "${PORT}", "--served-model-name", options.name]


def _order(_options: VllmOptions) -> list[str]:
    """The scheduler's order counts inside the engine too: the smaller `priority` first."""
    return ["--scheduling-policy", "priority"]


def _batches(options: VllmOptions) -> list[str]:
    """What runs at a time: places are the scheduler's, a step's size is the device's."""
    words = ["--max-num-seqs", str(options.places)]
    words += ["--max-num-batched-tokens", str(options.step_tokens)]
    if limit := options.prompt_step_tokens:
        words += ["--long-prefill-token-threshold", str(limit)]
    return words


def _context(options: VllmOptions) -> list[str]:
    tokens = options.context_tokens
    return ["--max-model-len", str(tokens)] if tokens else []


def _caching(options: VllmOptions) -> list[str]:
    """Said in either case: vLLM's own default depends on the model."""
    return ["--enable-prefix-caching" if options.prefix_caching else "--no-enable-prefix-caching"]


def _formats(options: VllmOptions) -> list[str]:
    words: list[str] = []
    if options.dtype != "auto":
        words += ["--dtype", options.dtype]
    if options.kv_cache_dtype != "auto":
        words += ["--kv-cache-dtype", options.kv_cache_dtype]
    if options.quantization:
        words += ["--quantization", options.quantization]
    return words


def _memory(options: VllmOptions) -> list[str]:
    """What the ledger has booked, no more: others have the rest of the device."""
    share = options.memory_share
    return ["--gpu-memory-utilization", f"{share:.4f}"] if share else []


def _devices(options: VllmOptions) -> list[str]:
    count = len(options.gpus)
    return ["--tensor-parallel-size", str(count)] if count > 1 else []


def _figures(options: VllmOptions) -> list[str]:
    """How long each request took, and what of its prompt was known: planners learn from both."""
    if not options.request_metrics:
        return []
    return ["--enable-per-request-metrics", "--enable-prompt-tokens-details"]


def _compiling(options: VllmOptions) -> list[str]:
    return ["--enforce-eager"] if _eager(options) else []


def _sleeping(options: VllmOptions) -> list[str]:
    return ["--enable-sleep-mode"] if _sleeps(options) else []


def _dialogue(options: VllmOptions) -> list[str]:
    words: list[str] = []
    if options.tool_parser:
        words += ["--enable-auto-tool-choice", "--tool-call-parser", options.tool_parser]
    if options.chat_template:
        words += ["--chat-template", options.chat_template]
    if options.trust_remote_code:
        words.append("--trust-remote-code")
    return words


_RULES: tuple[Callable[[VllmOptions], list[str]], ...] = (
    _address,
    _order,
    _batches,
    _context,
    _caching,
    _formats,
    _memory,
    _devices,
    _figures,
    _compiling,
    _sleeping,
    _dialogue,
)
