"""The estimate of a process's memory: its formula here, the truth in test_bundled.py."""

from dataclasses import replace

import pytest

from slalom.models.gguf_metadata import read_metadata
from slalom.models.memory import PROCESS_BYTES, estimate_bytes
from tests.models.gguf_bytes import MINI

METADATA = read_metadata(MINI)


def test_the_parts_add_up() -> None:
    estimate = estimate_bytes(METADATA, 4096)
    assert estimate.weights == METADATA.file_bytes
    assert estimate.kv == 4096 * METADATA.kv_elements_per_token * 2
    assert estimate.runtime > PROCESS_BYTES
    assert estimate.total == sum(
        (estimate.weights, estimate.kv, estimate.compute, estimate.runtime)
    )


def test_kv_grows_with_context_and_shrinks_with_quantisation() -> None:
    small, large = estimate_bytes(METADATA, 4096), estimate_bytes(METADATA, 8192)
    assert large.kv == 2 * small.kv
    assert large.total > small.total
    assert estimate_bytes(METADATA, 8192, 34 / 32).kv == large.kv * 17 // 32


def test_a_wider_model_needs_more_working_room() -> None:
    wider = replace(METADATA, embedding_width=2 * METADATA.embedding_width)
    assert estimate_bytes(wider, 4096).compute > estimate_bytes(METADATA, 4096).compute


@pytest.mark.parametrize("context_tokens", [0, -1])
def test_no_context_is_refused(context_tokens: int) -> None:
    with pytest.raises(ValueError, match="context_tokens"):
        estimate_bytes(METADATA, context_tokens)
