"""A llama.cpp server in a process of its own, asked a few things, and its memory measured.

Run as a script, `engine_probe.py MODEL CONTEXT_TOKENS`, with the requests as JSON on its standard
input. Prints one JSON object with the replies in order and the resident bytes at the end.
`probe` starts it and reads the answer.
"""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

TIMEOUT_S = 100


def probe(model: Path, context_tokens: int, requests: list[tuple[str, Any]]) -> dict[str, Any]:
    """Serve `model` in a new process, post each (path, body), return replies and memory."""
    done = subprocess.run(
        [sys.executable, __file__, str(model), str(context_tokens)],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def main() -> None:
    import psutil  # noqa: PLC0415 - only the measured process needs these two
    import xllamacpp  # noqa: PLC0415

    model, context_tokens, requests = sys.argv[1], int(sys.argv[2]), json.load(sys.stdin)
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx = context_tokens
    params.n_parallel = 4
    params.kv_unified = True
    params.cache_ram_mib = 0
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.port = 0
    params.hostnames = ["127.0.0.1"]
    params.use_jinja = True
    server = xllamacpp.Server(params)
    replies = []
    for path, body in requests:
        request = urllib.request.Request(  # noqa: S310 - our own server's address
            server.listening_address + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:  # noqa: S310
            replies.append(json.load(reply))
    answer = {"replies": replies, "resident_bytes": psutil.Process().memory_info().rss}
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    # The library's threads need no orderly end here.
    os._exit(0)


if __name__ == "__main__":
    main()
