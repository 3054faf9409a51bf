"""An engine to check, as the conformance kit sees it.

Owns plain data: how to launch it, how to hurt it, what may be expected of it. Used by
`check_engine` and its checks; filled in by whoever brings an engine.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field

from slalom.core.events import FailureKind
from slalom.engines.protocol import Engine, Launcher


@dataclass(frozen=True, slots=True)
class BrokenLoad:
    """A launcher that must fail, and how."""

    launcher: Callable[[], Launcher]
    kind: FailureKind


@dataclass(frozen=True, slots=True)
class Subject:
    """An engine to check, with what the kit must be able to do to it."""

    name: str
    #: A launcher whose engines come up. Two engines of it must be able to live side by side.
    launcher: Callable[[], Launcher]
    #: Requests one engine runs at a time.
    places: int
    #: End the program as `kill -9` does. None: cannot be done from here.
    kill: Callable[[Engine], None] | None = None
    #: Stop the program without ending it, and let it go on.
    freeze: Callable[[Engine], None] | None = None
    thaw: Callable[[Engine], None] | None = None
    #: Loads that must fail, by name ("missing file", "corrupt file", "port taken" …).
    broken: Mapping[str, BrokenLoad] = field(default_factory=dict)
    #: Whether the engine runs a process here whose memory can be measured.
    owns_process: bool = True
    #: Whether it answers over a socket: then an unread answer must stay small here.
    over_http: bool = True
    #: Put around every check: for example the server a remote engine needs.
    surroundings: Callable[[], AbstractAsyncContextManager[object]] = nullcontext


class NotApplicableError(Exception):
    """The engine cannot do what a check asks for, and says so itself."""
