"""How much memory a llama.cpp process needs for a model, before it has been tried.

Owns the formula and its constants, measured on the CPU; the byte ledger books its result until
the process itself has been measured. Called by the engines and `slalom models`.
"""

from dataclasses import dataclass

from slalom.models.gguf_metadata import ModelMetadata
from slalom.units import MIB

#: Bytes of one KV number as f16, llama.cpp's default.
F16_KV_BYTES = 2.0
#: Tokens llama.cpp evaluates in one go (its `n_ubatch`).
MICRO_BATCH_TOKENS = 512
#: An idle engine process without a model: Python, the native library, the HTTP server, and what
#: the first few requests leave behind. Measured 47-50 MiB.
PROCESS_BYTES = 52 * MIB
#: The tokenizer's tables for one entry of the vocabulary. Measured 360 bytes.
VOCABULARY_ENTRY_BYTES = 400
#: The attention mask for one token of a batch and one place of context. Measured 2.8 bytes.
MASK_BYTES = 3
_FLOAT_BYTES = 4
#: Width-sized and feed-forward-sized float buffers a batch needs at once. Fitted to four sizes.
_WIDTH_BUFFERS = 4
_FEED_FORWARD_BUFFERS = 3


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Estimated resident memory of one engine process at its fullest, bytes."""

    #: The model's files, mapped and touched by the warm-up.
    weights: int
    #: The KV cache, touched as a whole when it is made.
    kv: int
    #: Working buffers of a batch, with the whole context in use.
    compute: int
    #: The process itself and the tokenizer.
    runtime: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.kv + self.compute + self.runtime


def estimate_bytes(
    metadata: ModelMetadata,
    context_tokens: int,
    kv_bytes_per_element: float = F16_KV_BYTES,
    micro_batch_tokens: int = MICRO_BATCH_TOKENS,
) -> MemoryEstimate:
    """Estimate what a llama.cpp process with this model takes on the CPU, on the safe side.

    With T = `context_tokens`, U = `micro_batch_tokens`:

        weights = size of the files
        kv      = T × (keys and values per token, over all layers) × `kv_bytes_per_element`
        compute = U × 4 × (3 × feed-forward width + 4 × width + vocabulary ÷ U) + U × T × 3
        runtime = 52 MiB + 400 × vocabulary

    Against the resident memory of real processes with 1.6 M to 500 M parameters and 4,096 to
    32,768 tokens of context it came out 1 to 17 % too high, 20 % where little of the context was
    used. A prompt cache kept beside the KV cache, drafts and adapters come on top, and a GPU is
    another matter.

    Args:
        metadata: Of the model.
        context_tokens: Places in the KV cache, all parallel requests together.
        kv_bytes_per_element: 2 for f16, 34/32 for q8_0.
        micro_batch_tokens: The engine's `n_ubatch`.

    Raises:
        ValueError: A size is not positive.
    """
    if context_tokens <= 0 or kv_bytes_per_element <= 0 or micro_batch_tokens <= 0:
        raise ValueError(
            f"sizes must be positive: context_tokens {context_tokens}, kv_bytes_per_element "
            f"{kv_bytes_per_element}, micro_batch_tokens {micro_batch_tokens}"
        )
    batch_floats = micro_batch_tokens * (
        _FEED_FORWARD_BUFFERS * metadata.feed_forward_width
        + _WIDTH_BUFFERS * metadata.embedding_width
    )
    compute = _FLOAT_BYTES * (batch_floats + metadata.vocabulary_size)
    compute += micro_batch_tokens * context_tokens * MASK_BYTES
    return MemoryEstimate(
        weights=metadata.file_bytes,
        kv=round(context_tokens * metadata.kv_elements_per_token * kv_bytes_per_element),
        compute=compute,
        runtime=PROCESS_BYTES + VOCABULARY_ENTRY_BYTES * metadata.vocabulary_size,
    )
