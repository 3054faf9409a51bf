"""Whether a program that was told a port listens where it will be called.

Owns the look at the sockets of a process tree. Says nothing of a program that does not listen yet,
which may still load. Called by the launcher of commands while it waits.
"""

import asyncio
import contextlib
import ipaddress
from collections.abc import Iterator

import psutil

#: Between two looks, s: the sockets of all processes of the tree are read.
_LOOK_EVERY_S = 1.0
#: Looks in a row at which it listens elsewhere only: it may still be about to open the right one.
_LOOKS = 2


async def wrong_address(pid: int, host: str, port: int) -> str:
    """The address on which a program listens at its port, once that is another than it should be.

    Never returns otherwise; to be cancelled.

    Args:
        pid: Of the program.
        host: Address at which it is called.
        port: The port it was told.
    """
    looks, found = 0, ""
    while looks < _LOOKS:
        await asyncio.sleep(_LOOK_EVERY_S)
        heard = await asyncio.to_thread(lambda: list(_listened(pid, port)))
        elsewhere = bool(heard) and not any(_covers(one, host) for one in heard)
        looks = looks + 1 if elsewhere else 0
        found = ", ".join(sorted(set(heard)))
    return found


def _listened(pid: int, port: int) -> Iterator[str]:
    """Addresses at which a process or its descendants listen at a port."""
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                for one in process.net_connections("tcp"):
                    if one.status == psutil.CONN_LISTEN and one.laddr.port == port:
                        yield one.laddr.ip


def _covers(address: str, host: str) -> bool:
    """Whether who listens at an address is reached at the host."""
    try:
        listens, called = ipaddress.ip_address(address), ipaddress.ip_address(host)
    except ValueError:
        return True  # a name: who knows
    if isinstance(listens, ipaddress.IPv6Address) and listens.ipv4_mapped is not None:
        listens = listens.ipv4_mapped
    return listens.is_unspecified or listens == called
