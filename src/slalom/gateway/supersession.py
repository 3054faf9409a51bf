"""Which completion replaces which: the name that a client's requests for one document share.

Owns the declared names (headers, body) and the careful guess where nothing is declared. Names and
what the guess remembers are digests: no text is kept. Two documents must never share a name; two
requests of one may well miss each other, which costs device time only. Called by `preparation`.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Mode = Literal["auto", "declared", "off"]

SESSION_HEADER = "x-slalom-session"
DOCUMENT_HEADER = "x-slalom-document"
HEADERS = frozenset((SESSION_HEADER, DOCUMENT_HEADER))
#: Tasks in which only the newest request is of use.
TASKS = frozenset(("completion", "completion-multiline"))

#: What may be typed between two requests of one document, characters.
_TYPED_MAX = 64
#: What two prompts must at least have in common to be of one document, characters.
_COMMON_MIN = 64
_CLIENTS_MAX = 1_024
#: Of one client; many people may share an address, a key and a program.
_DOCUMENTS_MAX = 32


@dataclass(slots=True)
class _Document:
    """The last request of a document, as digests."""

    name: str
    #: Characters before the cursor, and of these the ones that may not change.
    length: int
    cut: int
    whole: bytes
    head: bytes
    after: bytes


@dataclass(slots=True)
class Typed:
    """What a request for a completion shows of its document."""

    #: Who asks: key, program, address, model.
    client: tuple[str, ...]
    before: str
    after: str


class Documents:
    """The documents that clients are typing in.

    Args:
        mode: ``auto`` guesses where nothing is declared, ``declared`` does not, ``off`` gives no
            request a name.
    """

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self._by_client: OrderedDict[tuple[str, ...], list[_Document]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Documents {self.mode} clients={len(self._by_client)}>"

    def guess(self, typed: Typed) -> str:
        """The name of the document, or empty for a request that replaces none.

        A request goes on with a document if the text behind the cursor is the same, the text
        before it is the same up to a few words, and something has changed: asking the same again
        is asking for another answer.
        """
        if self.mode != "auto" or len(typed.before) < _COMMON_MIN + _TYPED_MAX:
            return ""
        documents = self._by_client.get(typed.client)
        if documents is None:
            documents = self._by_client[typed.client] = []
            if len(self._by_client) > _CLIENTS_MAX:
                self._by_client.popitem(last=False)
        else:
            self._by_client.move_to_end(typed.client)
        seen = _seen(typed)
        for index, known in enumerate(documents):
            if known.whole == seen.whole and known.after == seen.after:
                return ""
            if _goes_on(known, seen, typed.before):
                seen.name = known.name
                del documents[index]
                break
        else:
            parts = (*typed.client, seen.head.hex(), seen.after.hex())
            seen.name = "d-" + _digest(parts).hex()
        documents.append(seen)
        del documents[:-_DOCUMENTS_MAX]
        return seen.name


def declared(headers: Mapping[str, str], body: Mapping[str, Any], client: Iterable[str]) -> str:
    """The name that a request declares, or empty: a session, and a document in it.

    It holds for one client only: two that both call their session "1" are two.
    """
    session, document = headers.get(SESSION_HEADER), headers.get(DOCUMENT_HEADER)
    metadata = body.get("metadata")
    if session is None and isinstance(metadata, dict):
        session, document = metadata.get("session"), metadata.get("document")
    if session is None:
        session = body.get("session_id")
    if not isinstance(session, str) or not session:
        return ""
    parts = (session, document) if isinstance(document, str) else (session,)
    return "s-" + _digest((*client, *parts)).hex()


def _seen(typed: Typed) -> _Document:
    cut = len(typed.before) - _TYPED_MAX
    digest = _begun(typed.before[:cut])
    head = digest.digest()
    digest.update(typed.before[cut:].encode("utf-8", "surrogatepass"))
    after = _begun(typed.after).digest()
    return _Document("", len(typed.before), cut, digest.digest(), head, after)


def _goes_on(known: _Document, seen: _Document, before: str) -> bool:
    return (
        known.after == seen.after
        and abs(seen.length - known.length) <= _TYPED_MAX
        and known.head == _begun(before[: known.cut]).digest()
    )


def _begun(text: str) -> "hashlib.blake2b":
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8)


def _digest(parts: Iterable[str]) -> bytes:
    """Eight bytes that stand for names; where one ends and the next begins counts too."""
    return _begun("".join(f"{len(part)}:{part}" for part in parts)).digest()
