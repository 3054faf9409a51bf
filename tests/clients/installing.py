"""Installs the clients, each into an environment of its own under the project's cache.

Their requirements contradict each other and Slalom's. What is there already is left alone. Called
by `run`.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.clients.pins import Pin

#: Bound of one installation, seconds.
_INSTALL_S = 600.0
_NPM = ("npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error")


def missing_tool(pin: Pin) -> str:
    """The program that is needed to install it and is not there; empty if none."""
    tools = ("npm", "node") if pin.registry == "npm" else ()
    return next((tool for tool in tools if shutil.which(tool) is None), "")


def install(pin: Pin) -> None:
    """Install a client unless it is there.

    Raises:
        subprocess.CalledProcessError: The registry or the package would not.
    """
    if pin.executable.exists():
        return
    shutil.rmtree(pin.folder, ignore_errors=True)
    pin.folder.mkdir(parents=True)
    try:
        if pin.registry == "npm":
            (pin.folder / "package.json").write_text('{"private": true}\n')
            _run([*_NPM, f"{pin.package}@{pin.version}", *pin.beside], pin.folder)
        else:
            uv = str(Path(sys.executable).with_name("uv"))
            _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, "."], pin.folder)
            wanted = (f"{pin.package}=={pin.version}", *pin.beside)
            _run([uv, "pip", "install", "--quiet", "--python", "bin/python", *wanted], pin.folder)
    except BaseException:
        shutil.rmtree(pin.folder, ignore_errors=True)
        raise


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, timeout=_INSTALL_S)
