"""The lock files hold what the project asks for, and nothing with an unfitting licence.

By hash and without addresses. Owns the rules about third-party packages; reads pyproject.toml,
requirements/ and the metadata of what is installed, and asks no registry.
"""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
_PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^ \\;]+)", re.MULTILINE)

#: Permissive, or weak copyleft by file (MPL): fine to depend on, unmodified, from Apache-2.0 code.
FINE = re.compile(r"\b(?:MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL|0BSD|Unlicense)\b")
UNFIT = re.compile(r"\b(?:AGPL|GPL|LGPL|SSPL|BUSL|Proprietary|Commercial)\b")


def pins(lock: Path) -> dict[str, str]:
    """Package -> version of a lock file (the last one where markers give several)."""
    text = lock.read_text(encoding="utf-8")
    return {canonicalize_name(name): version for name, version in _PIN.findall(text)}


def asked_for(*extras: str) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    rows = list(project["dependencies"])
    for extra in extras:
        rows += project["optional-dependencies"][extra]
    return [Requirement(row) for row in rows]


@pytest.mark.parametrize(
    ("lock", "extras"),
    [("runtime.txt", []), ("dev.txt", ["dev", "docs"]), ("docs.txt", ["docs"])],
)
def test_a_lock_holds_what_the_project_asks_for(lock: str, extras: list[str]) -> None:
    locked = pins(ROOT / "requirements" / lock)
    missing = [
        str(wanted)
        for wanted in asked_for(*extras)
        if not wanted.specifier.contains(locked.get(canonicalize_name(wanted.name), "0"))
    ]
    assert not missing, "run `make lock`"


def test_the_locks_agree_with_each_other() -> None:
    dev = pins(ROOT / "requirements" / "dev.txt")
    for other in ("runtime.txt", "docs.txt"):
        locked = pins(ROOT / "requirements" / other)
        assert {name: dev.get(name) for name in locked} == locked


def test_there_are_locks() -> None:
    assert {"bench.txt", "dev.txt", "docs.txt", "runtime.txt"} <= {lock.name for lock in LOCKS}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_has_hashes_and_no_addresses(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    assert "://" not in text
    entries = text.replace("\\\n", " ").splitlines()
    unhashed = [row for row in entries if _PIN.match(row) and "--hash=sha256:" not in row]
    assert not unhashed


def _licences(name: str) -> str:
    found = metadata(name)
    classifiers = found.get_all("Classifier") or []
    words = [
        *(found.get_all("License-Expression") or []),
        *(row[:60] for row in found.get_all("License") or []),
        *(row for row in classifiers if row.startswith("License")),
    ]
    return " ".join(words)


def test_every_dependency_has_a_fitting_licence() -> None:
    unfit = {}
    seen = 0
    for name in pins(ROOT / "requirements" / "runtime.txt"):
        try:
            licences = _licences(name)
        except PackageNotFoundError:  # a marker of another platform or interpreter
            continue
        seen += 1
        if not FINE.search(licences) or UNFIT.search(licences):
            unfit[name] = licences
    assert not unfit
    assert seen > 20
