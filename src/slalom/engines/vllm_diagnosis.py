"""What vLLM's last words mean when it does not come up, and what to do about it.

Owns the signs of vLLM's well-known failures, most telling first. Pure. Used by `vllm`; what it does
not know is left to `diagnosis`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from slalom.core.events import FailureKind
from slalom.engines.diagnosis import Diagnosis


@dataclass(frozen=True, slots=True)
class _Sign:
    kind: FailureKind
    #: Regular expression; what its group `what` finds goes into the advice.
    seen: str
    advice: str


_FLAGS = "engine.request_metrics: false leaves out its youngest flags"

#: The root cause is printed before what follows from it, so every line is looked at for the first
#: sign before any is looked at for the second.
_SIGNS = (
    _Sign(
        FailureKind.START_FAILED,
        r"unrecognized arguments: (?P<what>[^\n]*)",
        "This version of vLLM does not know {what}: correct engine.extra, or install a newer "
        f"vLLM; {_FLAGS}.",
    ),
    _Sign(
        FailureKind.START_FAILED,
        r"No module named '?vllm",
        "vLLM is not installed in that Python: install it there, or correct engine.program.",
    ),
    _Sign(
        FailureKind.MODEL_UNUSABLE,
        r"Model architectures (?P<what>\[[^\]\n]*\]?)[^\n]*not supported",
        "vLLM cannot serve the architecture {what}: install a newer vLLM, or use another engine.",
    ),
    _Sign(
        FailureKind.MODEL_UNUSABLE,
        r"model type `(?P<what>[^`\n]*)` but Transformers does not recognize",
        "vLLM does not know the model type {what}: install a newer vLLM, or use another engine.",
    ),
    _Sign(
        FailureKind.MODEL_UNUSABLE,
        r"(Invalid repository ID or local directory|Repo id must be in the form"
        r"|Can't load (the configuration|tokenizer)|does not appear to have a file named"
        r"|Repository Not Found|LocalEntryNotFoundError)",
        "vLLM finds no usable model there: engine.model must be a folder with config.json, "
        "tokenizer and safetensors.",
    ),
    _Sign(
        FailureKind.MODEL_UNUSABLE,
        r"(SafetensorError|Error while deserializing header|Cannot find any model weights)",
        "The model's weights are missing or damaged: download them again.",
    ),
    _Sign(
        FailureKind.MODEL_UNUSABLE,
        r"max_model_len \((?P<what>\d+)\) is greater than the derived",
        "The model was not made for a context of {what} tokens: lower engine.context_tokens.",
    ),
    _Sign(
        FailureKind.OUT_OF_MEMORY,
        r"Free memory on device[^\n]*less than desired GPU memory utilization",
        "Less of the GPU is free than the model is booked with: another program holds memory "
        "there, or the model's memory is set too high.",
    ),
    _Sign(
        FailureKind.OUT_OF_MEMORY,
        r"Available memory on node[^\n]*less than",
        "Less main memory is free than the model is booked with: end what holds it, or lower the "
        "model's memory.",
    ),
    _Sign(
        FailureKind.START_FAILED,
        r"Error in memory profiling",
        "Another program gave up memory of the GPU while vLLM measured what it takes itself: the "
        "next try will do.",
    ),
    _Sign(
        FailureKind.OUT_OF_MEMORY,
        r"(max seq(uence)? len|max_model_len|at least one request)[^\n]*KV cache",
        "What the model is booked with leaves too little KV cache for one request: raise the "
        "model's memory, or lower engine.context_tokens.",
    ),
    _Sign(
        FailureKind.OUT_OF_MEMORY,
        r"No available memory for the cache blocks",
        "What the model is booked with leaves no room for a KV cache: raise the model's memory.",
    ),
    _Sign(
        FailureKind.OUT_OF_MEMORY,
        r"(OutOfMemoryError|CUDA out of memory|std::bad_alloc|Cannot allocate memory"
        r"|Not enough memory)",
        "vLLM ran out of memory while it started: raise the model's memory, or lower "
        "engine.context_tokens, batch_tokens or places.",
    ),
    _Sign(
        FailureKind.START_FAILED,
        r"(Failed to infer device type|No CUDA GPUs are available|no NVIDIA driver"
        r"|CUDA error: invalid device ordinal)",
        "vLLM sees no such GPU: look at the device's gpu and at what nvidia-smi shows; on a CPU a "
        "build of vLLM for the CPU is needed.",
    ),
)
_COMPILED = tuple((sign, re.compile(sign.seen, re.IGNORECASE)) for sign in _SIGNS)


def explain(lines: Sequence[str]) -> Diagnosis | None:
    """What is wrong, in words; None where the lines say nothing that is known.

    Args:
        lines: What vLLM printed last.
    """
    text = "\n".join(lines)
    for sign, pattern in _COMPILED:
        found = pattern.search(text)
        if found is not None:
            what = (found.groupdict().get("what") or "").strip()
            return Diagnosis(sign.kind, sign.advice.format(what=what))
    return None
