"""What the memory of an engine's processes is made of, read from the kernel.

Owns the reading of `/proc/PID/smaps`. A figure of a moment, for people and for the metadata store;
the ledger books the resident memory that `EngineProcess` measures. Called by `EngineProcess`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from slalom.units import KIB

#: How files that hold weights end.
_MODEL_FILES = (".gguf", ".safetensors", ".bin", ".pt", ".pth")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Resident memory by what it is, bytes; shared pages count in each process that maps them."""

    #: Files of the model, mapped.
    weights: int = 0
    #: What belongs to the processes alone: KV cache, work buffers, heap.
    private: int = 0
    #: The program and its libraries.
    program: int = 0
    #: All of it with shared pages divided among those who map them.
    proportional: int = 0

    @property
    def resident(self) -> int:
        """All of it."""
        return self.weights + self.private + self.program


def memory_use(pids: Iterable[int]) -> MemoryUse | None:
    """The memory of these processes together; None where the kernel does not tell."""
    total = MemoryUse()
    for pid in pids:
        try:
            text = (_PROC / str(pid) / "smaps").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        one = parse_smaps(text)
        total = MemoryUse(
            total.weights + one.weights,
            total.private + one.private,
            total.program + one.program,
            total.proportional + one.proportional,
        )
    return total if total.resident else None


def parse_smaps(text: str) -> MemoryUse:
    """Sum up the mappings of one process."""
    weights = private = program = proportional = 0
    name = ""
    resident = 0
    for line in text.splitlines():
        head, _, rest = line.partition(" ")
        if not head.endswith(":"):
            words = line.split(None, 5)
            name = words[5] if len(words) > 5 else ""
        elif head == "Rss:":
            resident = _bytes(rest)
        elif head == "Pss:":
            proportional += _bytes(rest)
        elif head == "Anonymous:":
            # Pages of a file that were written to are private, wherever they came from.
            anonymous = _bytes(rest)
            private += anonymous
            mapped = max(resident - anonymous, 0)
            if name.removesuffix(" (deleted)").endswith(_MODEL_FILES):
                weights += mapped
            elif name.startswith("/"):
                program += mapped
            else:
                private += mapped
    return MemoryUse(weights, private, program, proportional)


def _bytes(rest: str) -> int:
    return int(rest.split(maxsplit=1)[0]) * KIB
