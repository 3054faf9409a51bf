"""Reading why a program did not come up."""

import pytest

from slalom.core.events import FailureKind
from slalom.engines.diagnosis import diagnose, is_port_taken

SAID = {
    "llama_model_load: error loading model: mmap failed: Cannot allocate memory": "out_of_memory",
    "buft_alloc_buffer_n_default: failed to allocate CPU buffer of size 603979776": "out_of_memory",
    "terminate called after throwing an instance of 'std::bad_alloc'": "out_of_memory",
    "  what():  Resource temporarily unavailable": "out_of_memory",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB": "out_of_memory",
    "ValueError: No available memory for the cache blocks.": "out_of_memory",
    "gguf_init_from_file: failed to open GGUF file 'x.gguf'": "model_unusable",
    "error loading model: tensor 'a' data is not within the file bounds": "model_unusable",
    "start: couldn't bind HTTP server socket, hostname: 127.0.0.1": "engine_start_failed",
    "OSError: [Errno 98] Address already in use": "engine_start_failed",
    "error: unrecognized arguments: --speed": "engine_start_failed",
}


@pytest.mark.parametrize("line", SAID)
def test_what_it_said_tells_why(line: str) -> None:
    assert diagnose(["something before", line, "exiting due to error"], 1) == SAID[line]


def test_a_kill_nobody_asked_for_is_memory() -> None:
    assert diagnose([], -9) is FailureKind.OUT_OF_MEMORY
    assert diagnose([], -11) is FailureKind.START_FAILED
    assert diagnose([], 1) is FailureKind.START_FAILED


def test_memory_goes_before_the_model_that_did_not_load_for_it() -> None:
    said = ["failed to allocate buffer for kv cache", "srv load_model: failed to load model"]
    assert diagnose(said, 1) is FailureKind.OUT_OF_MEMORY


def test_taken_port() -> None:
    assert is_port_taken(["error: [Errno 98] Address already in use"])
    assert not is_port_taken(["error: out of memory"])
