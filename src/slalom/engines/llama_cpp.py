"""Launches llama.cpp, embedded through `xllamacpp`: one operating-system process per replica.

Owns the options of a llama.cpp replica and its start: readiness, progress, why it failed. Unloading
is the end of the process, so its memory returns at once and its crash takes nothing along. Called
by the runtime through the `Launcher` protocol.
"""

import asyncio
import json
import os
import secrets
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from slalom.core.events import FailureKind
from slalom.engines.diagnosis import diagnose
from slalom.engines.http_engine import HttpEngine
from slalom.engines.load_progress import tell_progress
from slalom.engines.process import EngineProcess, describe_end
from slalom.engines.protocol import Capabilities, OnProgress
from slalom.engines.upstream import Upstream
from slalom.errors import ConfigError, EngineError, ModelError
from slalom.models.fim import FimTemplate
from slalom.models.gguf_metadata import ModelMetadata, read_metadata

_ENVIRONMENT = {
    # glibc keeps an arena of up to 64 MiB per thread otherwise.
    "MALLOC_ARENA_MAX": "2",
    # An abort would start a debugger to print a stack; seconds, and no use here.
    "GGML_NO_BACKTRACE": "1",
}
_MODULE = "slalom.engines.llama_cpp_process"
_CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")


@dataclass(frozen=True, slots=True)
class LlamaCppOptions:
    """How one replica of a GGUF model runs."""

    model: Path
    #: Longest prompt and answer together of one request, tokens.
    context_tokens: int = 4096
    #: Requests it works on at a time (llama.cpp's slots).
    places: int = 4
    #: Tokens the KV cache holds for all places together; None is `context_tokens` × `places`.
    #: With less, requests share what there is; when it is full, llama.cpp fails every one of
    #: them with an error event, not only the one that asked for more.
    kv_tokens: int | None = None
    #: One pool of KV cache for all places instead of a fixed part for each.
    kv_unified: bool = True
    #: Threads that compute. More than the idle cores make it far slower: they wait spinning.
    threads: int = 1
    #: Tokens of one logical and one physical batch: how much prefill one step may carry.
    batch_tokens: int = 2048
    micro_batch_tokens: int = 512
    #: Layers on a GPU; -1 is as many as fit, 0 none.
    gpu_layers: int = -1
    #: ``auto``, ``enabled`` or ``disabled``.
    flash_attention: str = "auto"
    #: Number type of the KV cache.
    cache_type: str = "f16"
    #: Serve `/v1/embeddings` too; `pooling` is ``mean``, ``cls``, ``last`` or ``rank``.
    embeddings: bool = False
    pooling: str = "mean"
    #: Seed of requests that bring none.
    seed: int = 0xFFFFFFFF
    #: Jinja template in place of the model's own.
    chat_template: str | None = None
    #: How the model wants fill-in-the-middle prompts; None where it knows none, ``auto`` asks the
    #: file.
    fim: FimTemplate | Literal["auto"] | None = "auto"
    #: Most tokens a request that does not say `max_tokens` may produce; -1 is to the context's end.
    tokens_max: int = 2048
    #: Host memory for prompts of earlier requests, beside the KV cache.
    prompt_cache_bytes: int = 0
    #: Run the model once before it is ready.
    warm_up: bool = False
    #: Hard limit of the process's private memory; mapped weights do not count. None is no limit.
    memory_limit_bytes: int | None = None
    #: Index of the NVIDIA GPU whose memory its replicas are measured in; None for main memory.
    gpu: int | None = None
    #: Address it listens on. It takes calls with its key only.
    host: str = "127.0.0.1"
    #: Longest load, seconds.
    load_timeout_s: float = 600.0
    #: Further attributes of xllamacpp's CommonParams, for experts.
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what llama.cpp would only stumble over.

        Raises:
            ConfigError: A value is out of its range.
        """
        positive = {
            "context_tokens": self.context_tokens,
            "places": self.places,
            "threads": self.threads,
            "batch_tokens": self.batch_tokens,
            "micro_batch_tokens": self.micro_batch_tokens,
            "kv_tokens": 1 if self.kv_tokens is None else self.kv_tokens,
        }
        for name, value in positive.items():
            if value < 1:
                raise ConfigError(f"llama.cpp option {name} is {value}: it must be at least 1")
        named = {
            "cache_type": (self.cache_type, _CACHE_TYPES),
            "flash_attention": (self.flash_attention, ("auto", "enabled", "disabled")),
            "pooling": (self.pooling, ("mean", "cls", "last", "rank")),
        }
        for name, (given, known) in named.items():
            if given not in known:
                raise ConfigError(
                    f"llama.cpp option {name} is {given!r}: write one of {', '.join(known)}"
                )


class LlamaCppLauncher:
    """A `Launcher` of llama.cpp processes.

    Args:
        options: How replicas run.
        model_name: Name under which clients know the model; it appears in answers.
    """

    def __init__(self, options: LlamaCppOptions, *, model_name: str) -> None:
        self.options = options
        self.model_name = model_name

    def __repr__(self) -> str:
        return f"<LlamaCppLauncher {self.model_name!r} {self.options.model}>"

    async def launch(self, replica_id: str, on_progress: OnProgress) -> HttpEngine:
        """Start a process and return when it serves.

        Raises:
            EngineError: As `Launcher.launch`.
        """
        metadata = await asyncio.to_thread(self._read_metadata)
        key = secrets.token_urlsafe(24)
        address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        try:
            process = await EngineProcess.start(
                self._argv(),
                env={**_ENVIRONMENT, "SLALOM_ENGINE_KEY": key},
                on_line=lambda line: _take_address(line, address),
                gpu=self.options.gpu,
            )
        except OSError as problem:
            raise EngineError(
                f"{replica_id}: cannot start {sys.executable}: {problem}",
                code=FailureKind.START_FAILED,
            ) from problem
        try:
            base_url = await self._ready(replica_id, process, address, metadata, on_progress)
        except BaseException:
            await process.stop(0.0)
            raise
        on_progress(1.0)
        return HttpEngine(
            Upstream(base_url, headers={"authorization": f"Bearer {key}"}),
            model_name=self.model_name,
            capabilities=capabilities_of(self.options, metadata),
            process=process,
        )

    def smaller(self) -> "tuple[LlamaCppLauncher, str] | None":
        """The same with KV cache for one place's context, which all places share."""
        options = self.options
        if (options.kv_tokens or options.context_tokens * options.places) <= options.context_tokens:
            return None
        less = LlamaCppLauncher(
            replace(options, kv_tokens=options.context_tokens), model_name=self.model_name
        )
        return less, f"a KV cache of {options.context_tokens} tokens for all places together"

    def _read_metadata(self) -> ModelMetadata:
        try:
            return read_metadata(self.options.model)
        except ModelError as problem:
            raise EngineError(
                str(problem), code=FailureKind.MODEL_UNUSABLE, retryable=False
            ) from problem

    def _argv(self) -> list[str]:
        options = asdict(replace(self.options, fim=None))  # which is no business of llama.cpp's
        del options["model"], options["load_timeout_s"], options["gpu"], options["fim"]
        options["alias"] = self.model_name
        return [
            sys.executable,
            "-m",
            _MODULE,
            "--model",
            str(self.options.model),
            "--parent",
            str(os.getpid()),
            "--options",
            json.dumps(options),
        ]

    async def _ready(
        self,
        replica_id: str,
        process: EngineProcess,
        address: asyncio.Future[str],
        metadata: ModelMetadata,
        on_progress: OnProgress,
    ) -> str:
        """Wait for the process to say where it serves, telling progress meanwhile."""
        ended = asyncio.ensure_future(process.wait())
        progress = asyncio.ensure_future(tell_progress(process, metadata.file_bytes, on_progress))
        try:
            await asyncio.wait(
                (address, ended),
                timeout=self.options.load_timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if address.done():
                return address.result()
            if not ended.done():
                raise EngineError(
                    f"{replica_id}: {metadata.path.name} was not loaded within "
                    f"{self.options.load_timeout_s:g} s; raise load_timeout_s",
                    code=FailureKind.LOAD_TIMEOUT,
                )
            kind = diagnose(process.tail(), process.returncode)
            raise EngineError(
                f"{replica_id}: llama.cpp could not load {metadata.path}: {describe_end(process)}",
                code=kind,
                retryable=kind != FailureKind.MODEL_UNUSABLE,
            )
        finally:
            for task in (ended, progress):
                task.cancel()
            await asyncio.gather(ended, progress, return_exceptions=True)


def capabilities_of(options: LlamaCppOptions, metadata: ModelMetadata) -> Capabilities:
    """What llama.cpp can do with a model."""
    template = options.chat_template
    thinks = metadata.thinks if template is None else "think" in template
    return Capabilities(
        embeddings=options.embeddings,
        fim=metadata.fim if options.fim == "auto" else options.fim,
        # It goes on with a last message of the assistant, but refuses to where a model may think.
        continue_chat=None if thinks else (),
        echo=False,
        pictures="mmproj" in options.extra,
        tools=metadata.knows_tools if template is None else "tools" in template,
    )


def _take_address(line: str, address: asyncio.Future[str]) -> None:
    """Read the one line the child reports on its standard output."""
    try:
        url = json.loads(line)["address"]
    except (ValueError, KeyError, TypeError):
        return
    if not address.done():
        address.set_result(str(url))
