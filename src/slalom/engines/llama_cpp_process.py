"""The child process of one llama.cpp replica: `python -m slalom.engines.llama_cpp_process`.

Owns turning options into llama.cpp's server inside this process, and dying with its parent. Loads
little else of Slalom, so that it starts quickly and stays small. Started by `llama_cpp`; it can
also be given as an engine of kind `command`, for it serves the OpenAI API on a port.
"""

import argparse
import contextlib
import json
import os
import resource
import signal
import sys
from typing import Any, TextIO

from slalom.engines.guarded_exec import tie_to_parent

#: Errors only. llama.cpp prints prompts from level 4 on.
_VERBOSITY = 1
#: Not an argument, so that no other user of the machine sees it in the process list.
_KEY_VARIABLE = "SLALOM_ENGINE_KEY"


def main(arguments: list[str] | None = None) -> int:
    """Load the model, report the port on standard output, serve until the parent is gone."""
    parser = argparse.ArgumentParser(
        prog="python -m slalom.engines.llama_cpp_process",
        description="Serve one GGUF model with llama.cpp over the OpenAI API, on 127.0.0.1 unless "
        "the options name another host.",
    )
    parser.add_argument("--model", required=True, help="path of the GGUF file")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--options", default="{}", help="JSON object of LlamaCppOptions")
    parser.add_argument("--parent", type=int, help="process id to die with")
    given = parser.parse_args(arguments)
    report = _claim_stdout()
    if given.parent is not None:
        tie_to_parent(given.parent, signal.SIGKILL)
    options = json.loads(given.options)
    _limit_memory(options.get("memory_limit_bytes"))
    import xllamacpp  # noqa: PLC0415 - after the limit, which its start is to obey

    try:
        server = xllamacpp.Server(_params(xllamacpp, given.model, given.port, options))
    except (RuntimeError, MemoryError) as problem:
        sys.stderr.write(f"{type(problem).__name__}: {problem}\n")
        return 1
    _say(report, address=server.listening_address)
    _wait_for_the_end(watch_input=given.parent is not None)
    return 0


def _params(xllamacpp: Any, model: str, port: int, options: dict[str, Any]) -> Any:
    """Options in llama.cpp's words."""
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.hostnames = [str(options.get("host", "127.0.0.1"))]
    params.port = port
    places = int(options.get("places", 4))
    context_tokens = int(options.get("context_tokens", 4096))
    params.n_parallel = places
    params.n_ctx = int(options.get("kv_tokens") or context_tokens * places)
    params.kv_unified = bool(options.get("kv_unified", True))
    if params.kv_unified:
        params.kv_unified_per_slot = min(context_tokens, params.n_ctx)
    threads = int(options.get("threads", 1))
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = threads
    params.n_batch = int(options.get("batch_tokens", 2048))
    params.n_ubatch = min(int(options.get("micro_batch_tokens", 512)), params.n_batch)
    if options.get("embeddings", False):
        # Mean pooling aborts the process unless each sequence gets an equal part of a batch.
        params.n_ubatch = max(places, params.n_ubatch - params.n_ubatch % places)
        params.n_batch = max(params.n_batch, params.n_ubatch)
    params.n_gpu_layers = int(options.get("gpu_layers", -1))
    params.n_predict = int(options.get("tokens_max", -1))
    params.sampling.seed = int(options.get("seed", xllamacpp.LLAMA_DEFAULT_SEED))
    params.warmup = bool(options.get("warm_up", False))
    # Host memory the byte ledger would not know of; llama.cpp's own default is 8 GiB.
    params.cache_ram_mib = int(options.get("prompt_cache_bytes", 0)) >> 20
    # Sizes are ours to choose: llama.cpp is not to shrink them to what is free now.
    params.fit_params = False
    _choose(params, xllamacpp, options)
    params.endpoint_metrics = True
    params.endpoint_slots = False
    params.ui = False
    # A keep-alive connection holds a thread of the server, also while idle or just aborted.
    params.n_threads_http = 2 * places + 6
    params.verbosity = _VERBOSITY
    if alias := options.get("alias"):
        params.model_alias = {str(alias)}
    if key := os.environ.pop(_KEY_VARIABLE, ""):
        params.api_keys = [key]
    return params


def _choose(params: Any, xllamacpp: Any, options: dict[str, Any]) -> None:
    """The options that are names of something."""
    flash = str(options.get("flash_attention", "auto")).upper()
    params.flash_attn_type = getattr(
        xllamacpp.llama_flash_attn_type, f"LLAMA_FLASH_ATTN_TYPE_{flash}"
    )
    cache = str(options.get("cache_type", "f16")).upper()
    params.cache_type_k = getattr(xllamacpp.ggml_type, f"GGML_TYPE_{cache}")
    params.cache_type_v = params.cache_type_k
    if template := options.get("chat_template"):
        params.chat_template = str(template)
    if options.get("embeddings", False):
        params.embedding = True
        pooling = str(options.get("pooling", "mean")).upper()
        params.pooling_type = getattr(xllamacpp.llama_pooling_type, f"LLAMA_POOLING_TYPE_{pooling}")
    for name, value in options.get("extra", {}).items():
        if not hasattr(params, name):
            raise RuntimeError(f"llama.cpp has no parameter named {name!r} (option `extra`)")
        setattr(params, name, value)


def _claim_stdout() -> TextIO:
    """Keep standard output for the report; whatever llama.cpp prints goes to standard error."""
    report = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return report


def _say(report: TextIO, **facts: object) -> None:
    with contextlib.suppress(BrokenPipeError):
        report.write(json.dumps(facts) + "\n")
        report.flush()


def _limit_memory(limit_bytes: int | None) -> None:
    """Refuse this process more private memory than this; weights mapped from the file are free."""
    if limit_bytes is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


def _wait_for_the_end(*, watch_input: bool) -> None:
    if not watch_input:
        signal.pause()
    while os.read(0, 4096):
        pass


if __name__ == "__main__":
    # No destructors: the memory goes back with the process, and at once.
    STATUS = main()
    sys.stderr.flush()
    os._exit(STATUS)
