"""The options of a model that vLLM serves, started by Slalom with flags that fit it.

Owns the section only: what becomes of an option on vLLM's command line is `slalom.engines.vllm`'s.
A part of the union in `engine_sections`; read by assembly.
"""

from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from slalom.config.fields import AUTO, AutoCount, Section
from slalom.config.fim_section import Fim

#: Where it listens, and under which name, is agreed with what starts it.
_OURS = ("--host", "--port", "--served-model-name")


class VllmEngine(Section):
    """vLLM, one process tree per replica; its flags are chosen from model and device."""

    kind: Literal["vllm"] = Field(
        "vllm", description="vLLM: started with flags that fit the model and its device."
    )
    model: str = Field(
        min_length=1,
        description="Folder with config.json and safetensors (relative ones start at the "
        "configuration file's folder), or OWNER/NAME in Hugging Face's cache.",
    )
    program: str = Field(
        "vllm",
        min_length=1,
        description="vLLM's command, or the Python of the environment that vLLM is installed in.",
    )
    context_tokens: int | None = Field(
        None,
        ge=256,
        le=1 << 22,
        description="Longest prompt and answer together, tokens; null takes the model's own.",
    )
    places: int = Field(
        32, ge=1, le=4096, description="Requests one replica runs at a time (--max-num-seqs)."
    )
    batch_tokens: AutoCount = Field(
        AUTO,
        description="Most tokens of one step (--max-num-batched-tokens); auto goes by the "
        "device's memory, and never below places.",
    )
    long_prompt_tokens: AutoCount = Field(
        AUTO,
        description="Most tokens of one prompt in one step (--long-prefill-token-threshold), so "
        "that a long prompt leaves room for short ones; auto is a quarter of batch_tokens, 0 for "
        "no limit.",
    )
    dtype: Literal["auto", "float16", "bfloat16", "float32"] = Field(
        "auto", description="Number format of the weights in memory."
    )
    kv_cache_dtype: Literal["auto", "bfloat16", "fp8"] = Field(
        "auto", description="Number format of the KV cache; fp8 halves it."
    )
    quantization: str | None = Field(
        None, description="vLLM's --quantization; null lets vLLM read it from the model."
    )
    tensor_parallel: int = Field(
        1,
        ge=1,
        le=64,
        description="GPUs that share one replica: the device's own and those that follow it. "
        "Memory is then counted for one of them.",
    )
    prefix_caching: bool = Field(default=True, description="Keep what prompts have in common.")
    eager: bool | None = Field(
        None,
        description="Leave out compilation and graphs: starts sooner, runs slower; null does so on "
        "a CPU only.",
    )
    tool_parser: str | None = Field(
        None, description="vLLM's --tool-call-parser, which lets the model call tools."
    )
    chat_template: str | None = Field(
        None, description="File of a Jinja template that replaces the model's own."
    )
    trust_remote_code: bool = Field(
        default=False, description="Let Python code of the model's folder run."
    )
    request_metrics: bool = Field(
        default=True,
        description="Ask vLLM to tell each request's times and cached tokens; versions before "
        "these flags do not start with them.",
    )
    env: dict[str, SecretStr] = Field(
        default_factory=dict, description="Environment variables added for the process."
    )
    extra: tuple[str, ...] = Field(
        (), description="Further words of vLLM's command line; they win over Slalom's own."
    )
    ready_timeout_seconds: float = Field(
        1200, gt=0, le=86_400, description="Longest wait until a replica is ready, seconds."
    )
    fim: Fim = None

    @field_validator("extra")
    @classmethod
    def _ours(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        for word in words:
            if (option := word.partition("=")[0]) in _OURS:
                raise ValueError(f"{option} is Slalom's to choose: leave it out")
        return words

    @model_validator(mode="after")
    def _batch_holds_places(self) -> Self:
        if self.batch_tokens != AUTO and int(self.batch_tokens) < self.places:
            raise ValueError(
                f"batch_tokens is {self.batch_tokens}, but each of {self.places} places needs a "
                "token of every step: raise it, or have fewer places"
            )
        return self

    @property
    def longest_tokens(self) -> int:
        """The longest context asked for, tokens; 0 for the model's own."""
        return self.context_tokens or 0
