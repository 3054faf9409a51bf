"""How much of a file is in the page cache, and taking it out of there.

Owns the calls of the kernel. What they cannot tell here is None, never a guess: elsewhere than on
Linux, and for files of others, whose pages the kernel does not tell about. Called by the recorder
and by measurements of loads.
"""

import contextlib
import ctypes
import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from slalom.models.measurements import Tier

#: A file counts as cached from this share on, and as on disk up to that.
_CACHED_FROM = 0.9
_DISK_UP_TO = 0.1


def resident_share(files: Iterable[Path]) -> float | None:
    """Share of the files' pages that are in the page cache, 0 to 1; None where nothing tells."""
    resident = pages = 0
    for path in files:
        counted = _count(path)
        if counted is None:
            return None
        resident, pages = resident + counted[0], pages + counted[1]
    return resident / pages if pages else None


def tier_of(files: Iterable[Path]) -> Tier:
    """Where a load of these files would find them now."""
    share = resident_share(files)
    if share is None:
        return Tier.MIXED
    if share >= _CACHED_FROM:
        return Tier.PAGE_CACHE
    return Tier.DISK if share <= _DISK_UP_TO else Tier.MIXED


def drop(files: Iterable[Path]) -> None:
    """Ask the kernel to forget the files' clean pages that no process has mapped.

    Raises:
        OSError: A file cannot be opened.
    """
    for path in files:
        with _opened(path) as descriptor:
            # Pages that were never written to disk cannot be dropped.
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def read_in(files: Iterable[Path]) -> None:
    """Read the files once, so that they are in the page cache if there is room.

    Raises:
        OSError: A file cannot be read.
    """
    for path in files:
        with path.open("rb", buffering=0) as file:
            piece = bytearray(1 << 22)
            while file.readinto(piece):
                pass


def _count(path: Path) -> tuple[int, int] | None:
    """(resident pages, pages) of one file."""
    try:
        with _opened(path) as descriptor:
            about = os.fstat(descriptor)
            # For a file that is neither ours nor writable the kernel says that all is resident.
            if about.st_uid != os.geteuid() and not os.access(path, os.W_OK):
                return None
            if not about.st_size:
                return 0, 0
            # Private and writable, only because a read-only map has no address for ctypes.
            with mmap.mmap(descriptor, about.st_size, access=mmap.ACCESS_COPY) as mapped:
                return _mincore(mapped)
    except (OSError, ValueError, AttributeError):
        return None


def _mincore(mapped: mmap.mmap) -> tuple[int, int] | None:
    pages = -(-len(mapped) // mmap.PAGESIZE)
    states = (ctypes.c_ubyte * pages)()
    start = ctypes.c_char.from_buffer(mapped)
    try:
        call = ctypes.CDLL(None, use_errno=True).mincore
        if call(ctypes.byref(start), ctypes.c_size_t(len(mapped)), states) != 0:
            return None
    finally:
        del start  # the map cannot be closed while an address of it is held
    return sum(bytes(states).translate(_LOWEST_BIT)), pages


#: The other bits of a page's state mean nothing yet.
_LOWEST_BIT = bytes(value & 1 for value in range(256))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
