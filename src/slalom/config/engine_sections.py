"""The `models` section: which models are served, by which engine, with how much memory.

Owns the options of the engine kinds as a tagged union; vLLM's are in `vllm_section`. Owns no
defaults of the engines' own code: assembly hands these values to the launchers in
`slalom.engines`.
"""

import re
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from slalom.config.fields import AUTO, AutoCount, AutoSize, Name, Section, Size
from slalom.config.fim_section import Fim
from slalom.config.ray_section import RayModelSection
from slalom.config.vllm_section import VllmEngine

#: What nobody but the operator knows of an engine that Slalom did not choose the flags of.
Priority = Annotated[
    bool,
    Field(
        description="Whether it heeds `priority` in a body (vLLM with --scheduling-policy "
        "priority); planners then set it."
    ),
]
ContinueChat = Annotated[
    Literal["none", "prefill", "vllm"],
    Field(
        description="How it goes on with a begun answer of a chat, which lets planners pause it: "
        "prefill where a last message of the assistant is enough; vllm says so in fields."
    ),
]
_URL = re.compile(r"https?://[^\s/@]+(/\S*)?")


class LlamaCppEngine(Section):
    """llama.cpp, built in: one process per replica."""

    kind: Literal["llama-cpp"] = Field(
        "llama-cpp", description="llama.cpp, built in: one process per replica."
    )
    source: str = Field(
        min_length=1,
        description="Where the GGUF is: bundled:NAME, hf:OWNER/REPO[:FILE or QUANTISATION], or a "
        "path (relative ones start at the configuration file's folder).",
    )
    context_tokens: int = Field(
        8192, ge=256, le=1 << 20, description="Context of one place, tokens (prompt and answer)."
    )
    places: int = Field(
        4, ge=1, le=256, description="Requests one replica runs at a time (llama.cpp's slots)."
    )
    threads: AutoCount = Field(
        AUTO,
        description="Threads per replica; auto leaves slack, because llama.cpp's threads wait "
        "busily and collapse when the cores are taken.",
    )
    kv_tokens: int | None = Field(
        None,
        ge=256,
        le=1 << 24,
        description="Tokens the KV cache holds for all places together; null is context_tokens "
        "times places. Less saves memory, but when the cache is full llama.cpp fails every "
        "running request of the replica.",
    )
    batch_tokens: int = Field(
        2048, ge=32, le=65_536, description="Most prompt tokens taken into one batch."
    )
    micro_batch_tokens: int = Field(
        512, ge=32, le=8192, description="Most prompt tokens computed in one step."
    )
    embeddings: bool = Field(default=False, description="Serve /v1/embeddings too.")
    pooling: Literal["mean", "cls", "last", "rank"] = Field(
        "mean", description="How token embeddings become one."
    )
    cache_type: Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"] = Field(
        "f16", description="Number format of the KV cache."
    )
    flash_attention: Literal["auto", "enabled", "disabled"] = Field(
        "auto", description="Flash attention; a quantised KV cache needs it."
    )
    gpu_layers: int = Field(
        -1, ge=-1, le=10_000, description="Layers computed on a GPU; -1 is as many as fit."
    )
    prompt_cache: Size = Field(
        0, description="Host memory for the prompts of earlier requests, beside the KV cache."
    )
    warm_up: bool = Field(
        default=False, description="Run the model once before the replica counts as ready."
    )
    chat_template: str | None = Field(
        None,
        description="Jinja template that replaces the one in the GGUF: itself, or a file's path.",
    )
    fim: Fim = None
    memory_limit: Size | None = Field(
        None, description="Hard limit on a replica's private memory; null for none."
    )
    ready_timeout_seconds: float = Field(
        300, gt=0, le=86_400, description="Longest wait until a replica is ready, seconds."
    )
    extra: dict[str, Any] = Field(
        default_factory=dict,
        description="Further fields of xllamacpp's CommonParams, for experts.",
    )


class CommandEngine(Section):
    """Any command line that serves the OpenAI API on a port it is given."""

    kind: Literal["command"] = Field(
        "command", description="Any command line that serves the OpenAI API."
    )
    cmd: str | tuple[str, ...] = Field(
        min_length=1,
        description="Command line, no shell; ${PORT} and ${MODEL} are filled in. Secrets belong "
        "in env, which is never shown.",
    )
    model_name: str | None = Field(
        None, description="The model's name in the engine's own API; null for the id."
    )
    env: dict[str, SecretStr] = Field(
        default_factory=dict, description="Environment variables added for the process."
    )
    health_path: str = Field(
        "/health", pattern="^/", description="Path that answers 200 once the engine is ready."
    )
    places: int = Field(4, ge=1, le=4096, description="Requests one replica takes at a time.")
    ready_timeout_seconds: float = Field(
        300, gt=0, le=86_400, description="Longest wait until it is ready, seconds."
    )
    stop_cmd: str | tuple[str, ...] | None = Field(
        None, description="Command that stops it; null sends SIGTERM, then SIGKILL."
    )
    sleep: Literal["none", "vllm"] = Field(
        "none", description="Sleep and wake API it offers: vllm has /sleep and /wake_up."
    )
    embeddings: bool = Field(default=False, description="Whether it serves /v1/embeddings.")
    priority: Priority = False
    continue_chat: ContinueChat = "none"
    fim: Fim = None

    @field_validator("cmd", "stop_cmd")
    @classmethod
    def _words(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        try:
            words = shlex.split(value) if isinstance(value, str) else value
        except ValueError as error:
            raise ValueError(f"is no command line: {str(error).lower()}") from None
        if words is not None and (not words or not words[0]):
            raise ValueError("needs a program")
        return value


class RemoteEngine(Section):
    """A base URL that someone else runs; costs no memory here."""

    kind: Literal["remote"] = Field("remote", description="A base URL that someone else runs.")
    base_url: str = Field(
        description="URL up to but without /v1, for example https://llm.example.com."
    )
    api_key_env: str | None = Field(
        None, description="Environment variable that holds the key; null for none."
    )
    api_key_file: Path | None = Field(
        None, description="File whose first line is the key; null for none."
    )
    model_name: str | None = Field(
        None, description="The model's name at the remote; null for the id."
    )
    places: int = Field(8, ge=1, le=4096, description="Requests sent to it at a time.")
    health_path: str = Field(
        "/health", pattern="^/", description="Path that answers 200 while it is well."
    )
    embeddings: bool = Field(default=False, description="Whether it serves /v1/embeddings.")
    priority: Priority = False
    continue_chat: ContinueChat = "none"
    fim: Fim = None

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, value: str) -> str:
        if not _URL.fullmatch(value):
            raise ValueError("write http(s)://host[:port][/path]; keys go to api_key_env")
        trimmed = value.rstrip("/")
        return trimmed.removesuffix("/v1")

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.api_key_env is not None and self.api_key_file is not None:
            raise ValueError("give api_key_env or api_key_file, not both")
        return self


EngineChoice = Annotated[
    LlamaCppEngine | VllmEngine | CommandEngine | RemoteEngine, Field(discriminator="kind")
]


class ModelSection(Section):
    """One model that can be asked for."""

    id: Name = Field(description="Name by which clients ask for it.")
    aliases: tuple[Name, ...] = Field((), description="Other names for it.")
    engine: EngineChoice = Field(description="What runs it: llama-cpp, vllm, command or remote.")
    device: str = Field("host", description="Device whose memory pays for it.")
    devices: tuple[str, ...] = Field(
        (),
        description="Devices that may hold a replica, most preferred first, instead of device: "
        "each goes where it fits without others giving way, then where most memory is free.",
    )
    memory: AutoSize = Field(
        AUTO,
        description="Memory one replica needs: weights, KV cache and runtime. auto estimates it "
        "from the GGUF (llama-cpp) or from the folder of safetensors (vllm, or what a command "
        "names), and is 0 for remote; any other command needs a size.",
    )
    replicas: int = Field(
        1,
        ge=1,
        le=64,
        description="Replicas to hold while there is demand; only the first may evict others.",
    )
    pinned: bool = Field(default=False, description="Load it at start and never evict it.")
    preload: bool = Field(
        default=False,
        description="Load it at start where it fits beside the others; it may be evicted later.",
    )
    swap: Literal["normal", "idle", "never"] = Field(
        "normal",
        description="What others may suffer so that it comes up: normal drains busy ones if it "
        "must, idle evicts only idle ones, never uses what is free. A request may allow less.",
    )
    apart: tuple[Name, ...] = Field(
        (), description="Groups of models of which only one is up at a time on a device."
    )
    idle_sleep_seconds: float = Field(
        0, ge=0, le=31_536_000, description="Idle for so long it sleeps if it can; 0 for never."
    )
    idle_unload_seconds: float = Field(
        0, ge=0, le=31_536_000, description="Idle for so long it is unloaded; 0 for never."
    )
    tool_hold_seconds: float = Field(
        0,
        ge=0,
        le=600,
        description="How long it is kept after an answer that calls tools, since an agent comes "
        "back with their results.",
    )
    sleep_level: Literal[0, 1, 2] = Field(
        0,
        description="How a replica that gives way sleeps instead of ending, where its engine can: "
        "0 not at all, 1 with its weights in host memory, 2 without them.",
    )
    sleep_memory: AutoSize = Field(
        AUTO, description="Host memory it takes asleep at level 1: its weights; auto is memory."
    )
    sleep_residual: AutoSize = Field(
        AUTO,
        description="Memory a sleeping replica keeps on its device; auto is 1GiB for vLLM on a "
        "GPU, else 0.",
    )
    max_tokens_default: int | None = Field(
        None,
        ge=1,
        le=1 << 20,
        description="Answer limit where a request names none, tokens; null takes the server's.",
    )
    default_task: str | None = Field(
        None, description="Task of its requests where nothing else says; null for the rules."
    )
    tasks: tuple[str, ...] = Field(
        (), description="Task names that, asked for as a model, mean this one."
    )
    ray: RayModelSection = Field(
        default_factory=RayModelSection, description="On Ray: what one replica asks for."
    )

    @property
    def homes(self) -> tuple[str, ...]:
        """Devices that may hold a replica, most preferred first."""
        return self.devices or (self.device,)
