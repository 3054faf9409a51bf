"""`make test-clients`: installs the clients, then runs their tests where only loopback is there.

Owns the order of the two and the network without a way out: a namespace of its own where the
system allows one, else a proxy that nobody serves. Arguments are names of clients, or pytest's own
behind `--`.
"""

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys

from tests.clients.installing import install, missing_tool
from tests.clients.pins import PINS
from tests.clients.place import ISOLATED

_UNSHARE = ("unshare", "--user", "--map-root-user", "--net")
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def main(arguments: list[str]) -> int:
    """Install, then test."""
    if arguments[:1] == ["--inside"]:
        _loopback_up()
        os.environ[ISOLATED] = "1"
        return _pytest(arguments[1:])
    split = arguments.index("--") if "--" in arguments else len(arguments)
    names, options = arguments[:split] or list(PINS), arguments[split + 1 :]
    for name in names:
        pin = PINS[name]
        tool = missing_tool(pin)
        sys.stdout.write(f"{name} {pin.version}: {'needs ' + tool if tool else 'install'}\n")
        if not tool:
            install(pin)
    if arguments[:split]:
        options += ["-k", " or ".join(names)]
    if not _can_unshare():
        sys.stdout.write("no network namespace here: clients get a dead proxy only\n")
        return _pytest(options)
    sys.stdout.flush()
    inside = [*_UNSHARE, sys.executable, "-m", "tests.clients.run", "--inside", *options]
    return subprocess.run(inside, check=False).returncode


def _pytest(options: list[str]) -> int:
    command = [sys.executable, "-m", "pytest", "tests/clients", "--clients", *options]
    return subprocess.run(command, check=False).returncode


def _can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*_UNSHARE, "true"], check=False, capture_output=True).returncode == 0


def _loopback_up() -> None:
    """A new namespace has a loopback device that is down."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14s", b"lo", 0, b"")
        found = fcntl.ioctl(control, _SIOCGIFFLAGS, request)
        flags = struct.unpack("16sH14s", found)[1] | _IFF_UP
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", flags, b""))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
