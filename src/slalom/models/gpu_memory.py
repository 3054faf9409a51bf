"""Memory of NVIDIA GPUs, as the driver's own program tells it.

Owns the calls of `nvidia-smi` and the reading of its tables. Where there is no such program, or it
does not answer, everything is None: nothing is guessed. Called by engines that run on a GPU, and
by whoever compares the ledger with the device.
"""

import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass

from slalom.units import MIB

_PROGRAM = "nvidia-smi"
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """One GPU, bytes."""

    total: int
    free: int


def gpu_memory(index: int) -> GpuMemory | None:
    """The memory of a GPU; None where nothing tells. Takes a program's start."""
    rows = _ask(index, "--query-gpu=memory.total,memory.free")
    if not rows:
        return None
    total, free = (_mib(cell) for cell in rows[0][:2])
    return None if total is None or free is None else GpuMemory(total, free)


def gpu_bytes_of(index: int, pids: Collection[int]) -> int | None:
    """What processes hold on a GPU together; None where nothing tells, as inside containers.

    There, the driver's process ids are those of another world.
    """
    rows = _ask(index, "--query-compute-apps=pid,used_memory")
    if rows is None:
        return None
    mine = [_mib(row[1]) for row in rows if row[0].isdecimal() and int(row[0]) in pids]
    return sum(used or 0 for used in mine) or None


def _ask(index: int, query: str) -> list[list[str]] | None:
    program = shutil.which(_PROGRAM)
    if program is None:
        return None
    command = [program, f"--id={index}", query, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    return [row for row in rows if len(row) > 1]


def _mib(cell: str) -> int | None:
    return int(cell) * MIB if cell.isdecimal() else None
