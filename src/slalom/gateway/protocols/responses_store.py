"""Responses that are kept, so that a later request can go on behind one or read it again.

Owns the bounds: bytes for each key, and age since a response was last of use. A response belongs
to the key that asked for it; nobody else can see that it exists. In memory only. Used by
`responses`.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

#: What an entry takes besides its bytes, about.
_ENTRY_BYTES = 500
#: Longest chain of responses that go on behind each other.
CHAIN_MAX = 1_000

_encode = msgspec.json.encode
_messages = msgspec.json.Decoder(list[dict[str, Any]]).decode
_items = msgspec.json.Decoder(list[Any]).decode


@dataclass(frozen=True, slots=True)
class Kept:
    """One response."""

    id: str
    #: Id of the response that it goes on behind, or empty.
    previous: str
    #: The response as it was answered, JSON.
    document: bytes
    #: The input's items as they came, JSON.
    items: bytes
    #: Messages of its input and its answer in the internal form, JSON.
    messages: bytes

    @property
    def size(self) -> int:
        """Bytes it counts for."""
        return len(self.document) + len(self.items) + len(self.messages) + _ENTRY_BYTES

    def input_items(self) -> list[Any]:
        """The input's items."""
        return _items(self.items)


class ResponseStore:
    """The kept responses of one gateway.

    Args:
        bytes_max: For the responses of one key; the longest unused go first.
        age_max_s: Longest time a response is kept after its last use, seconds.
        clock_s: The time.
    """

    def __init__(
        self, bytes_max: int, age_max_s: float, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._bytes_max = bytes_max
        self._age_max_s = age_max_s
        self._clock_s = clock_s
        self._shelves: dict[str, OrderedDict[str, tuple[Kept, float]]] = {}
        self._bytes: dict[str, int] = {}

    def __repr__(self) -> str:
        count = sum(map(len, self._shelves.values()))
        return f"<ResponseStore responses={count} bytes={sum(self._bytes.values())}>"

    def keep(self, key: str, kept: Kept) -> None:
        """Keep a response; one that is larger than all the room is not kept."""
        if kept.size > self._bytes_max:
            return
        self.drop(key, kept.id)
        self._shelves.setdefault(key, OrderedDict())[kept.id] = (kept, self._clock_s())
        self._bytes[key] = self._bytes.get(key, 0) + kept.size
        self._trim(key)

    def find(self, key: str, response_id: str) -> Kept | None:
        """A response of this key, which counts as a use."""
        self._trim(key)
        shelf = self._shelves.get(key)
        if shelf is None or response_id not in shelf:
            return None
        kept = shelf[response_id][0]
        shelf[response_id] = (kept, self._clock_s())
        shelf.move_to_end(response_id)
        return kept

    def drop(self, key: str, response_id: str) -> bool:
        """Forget a response; whether there was one."""
        found = self._shelves.get(key, OrderedDict()).pop(response_id, None)
        if found is None:
            return False
        self._bytes[key] -= found[0].size
        return True

    def conversation(self, key: str, response_id: str) -> list[Kept] | None:
        """The responses up to and with this one, first to last; None if one is not kept."""
        chain: list[Kept] = []
        while response_id:
            kept = self.find(key, response_id)
            if kept is None or len(chain) == CHAIN_MAX:
                return None
            chain.append(kept)
            response_id = kept.previous
        return chain[::-1]

    def _trim(self, key: str) -> None:
        """Let go what is too much or too old."""
        shelf = self._shelves.get(key)
        oldest_s = self._clock_s() - self._age_max_s
        while shelf:
            kept, used_s = next(iter(shelf.values()))
            if self._bytes[key] <= self._bytes_max and used_s >= oldest_s:
                return
            self.drop(key, kept.id)


def messages_in(conversation: Iterable[Kept]) -> list[dict[str, Any]]:
    """The messages of a conversation, in the internal form."""
    return [message for kept in conversation for message in _messages(kept.messages)]


def encoded(value: object) -> bytes:
    """As it is kept."""
    return _encode(value)
