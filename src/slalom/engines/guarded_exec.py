"""Becomes another program that ends with its parent: `python -m slalom.engines.guarded_exec`.

Owns the two things only the child itself can ask of the kernel: a signal when its parent dies, and
to be ended before the gateway when memory runs out. Started by `command`.
"""

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
#: Above the gateway's 0, so that the kernel ends an engine first.
_OOM_SCORE_ADJUSTMENT = 500
#: What shells exit with when a program cannot be started.
_STATUS_NOT_STARTED = 127


def tie_to_parent(parent: int, number: signal.Signals) -> None:
    """Have the kernel send this process a signal when its parent dies, even mid-load.

    Linux only; elsewhere it does nothing but notice a parent that has already gone.

    Args:
        parent: Process id of the parent as the parent knows it.
        number: The signal.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_bytes(b"%d" % _OOM_SCORE_ADJUSTMENT)
    if os.getppid() != parent:  # it went before we asked
        raise SystemExit(1)


def main(arguments: list[str]) -> int:
    """Replace this process: ``PARENT_PID PROGRAM ARGUMENT…``."""
    tie_to_parent(int(arguments[0]), signal.SIGTERM)
    try:
        os.execvp(arguments[1], arguments[1:])  # noqa: S606 - no shell is the point
    except OSError as problem:
        sys.stderr.write(f"cannot start {arguments[1]}: {problem.strerror}\n")
    return _STATUS_NOT_STARTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
