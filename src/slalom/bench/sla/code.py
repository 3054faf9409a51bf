"""Which version of the code a result is of: a digest of the modules that could have changed it.

Owns the closure over imports, read from the source. The table of policies is not followed, so
that work on one policy leaves the results of the others as they are. Called by `running`.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from slalom.policies.registry import POLICIES

#: Names every policy.
_TABLES = frozenset({"slalom.policies.registry"})


def digest(modules: Iterable[str]) -> str:
    """Of these modules and of everything of Slalom's that they import, down to the last."""
    known: set[str] = set()
    left = list(modules)
    while left:
        name = left.pop()
        if name in known or name in _TABLES:
            continue
        known.add(name)
        left.extend(_imports(name))
    whole = hashlib.sha256()
    for name in sorted(known):
        whole.update(name.encode() + b"\0" + _source(name))
    return whole.hexdigest()[:16]


def policy_modules(kind: str, ordering: str) -> list[str]:
    """The modules of a policy of the admission slot and of its ordering."""
    found = (POLICIES["admission"].get(kind), POLICIES["ordering"].get(ordering))
    return [policy.__module__ for policy in found if policy is not None]


@lru_cache(maxsize=4096)
def _source(name: str) -> bytes:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        return b""
    return Path(spec.origin).read_bytes()


@lru_cache(maxsize=4096)
def _imports(name: str) -> frozenset[str]:
    return frozenset(found for found in _mentioned(name) if _is_module(found))


def _mentioned(name: str) -> Iterator[str]:
    """Slalom's modules, and what could be one, in the imports of a module."""
    for node in ast.walk(ast.parse(_source(name))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("slalom."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("slalom."):
            base = str(node.module)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


@lru_cache(maxsize=4096)
def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # A name within a module that is no package.
        return False
