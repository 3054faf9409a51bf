"""A program that takes vLLM's command line, and none but that, and serves without a model."""

import sys
from pathlib import Path

_PROGRAM = f"""#!{sys.executable}
import argparse, json, os, sys
from pathlib import Path
from slalom.testing.fake_server import main

parser = argparse.ArgumentParser(prog="vllm", allow_abbrev=False)
parser.add_argument("command", choices=["serve"])
parser.add_argument("model")
for name in ("host", "served-model-name", "scheduling-policy", "dtype", "kv-cache-dtype",
             "quantization", "tool-call-parser", "chat-template"):
    parser.add_argument("--" + name)
for name in ("port", "max-num-seqs", "max-num-batched-tokens", "long-prefill-token-threshold",
             "max-model-len", "tensor-parallel-size"):
    parser.add_argument("--" + name, type=int)
parser.add_argument("--gpu-memory-utilization", type=float)
for name in ("enable-prefix-caching", "no-enable-prefix-caching", "enable-per-request-metrics",
             "enable-prompt-tokens-details", "enforce-eager", "enable-sleep-mode",
             "enable-auto-tool-choice", "trust-remote-code"):
    parser.add_argument("--" + name, action="store_true")
given = parser.parse_args()
log = os.environ.get("FAKE_VLLM_LOG")
if log:
    seen = {{"words": sys.argv[1:], "env": dict(os.environ)}}
    with open(log, "a") as file:
        file.write(json.dumps(seen) + "\\n")
said = os.environ.get("FAKE_VLLM_FAILS")
if said:
    sys.exit(said)
sys.argv = ["fake"]
more = os.environ.get("FAKE_VLLM_MORE", "").split()
status = main(["--port", str(given.port), "--model", given.served_model_name,
               "--places", str(given.max_num_seqs), "--metrics", "vllm", *more])
sys.stderr.flush()
os._exit(status)
"""


def fake_vllm(folder: Path) -> Path:
    """Write the program.

    It appends its words and its environment to the file that ``FAKE_VLLM_LOG`` names, ends with
    the words of ``FAKE_VLLM_FAILS``, and hands ``FAKE_VLLM_MORE`` on to the fake server.
    """
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "vllm"
    program.write_text(_PROGRAM, encoding="utf-8")
    program.chmod(0o755)
    return program
