"""The completion cache: what a client types that was suggested to it needs no engine.

Owns which requests may be answered so, what is kept of answers (the suggested text; of prompts
digests only), and the bound in bytes. An answer is given to the key that it was made for and to no
other; where no key is asked for, to the address. Called by `preparation` and
`inference`.
"""

import hashlib
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

#: `off` asks an engine in any case and keeps nothing; `allow` uses the cache although the
#: temperature is not 0.
HEADER = "x-slalom-cache"
HEADERS = frozenset((HEADER,))
#: Header of answers that came out of it.
HIT = (b"x-slalom-cache", b"hit")

#: What a kept answer takes beside its text, bytes, about.
ENTRY_BYTES = 320
#: Longer answers are not kept, bytes.
_TEXT_BYTES_MAX = 16 << 10
#: Answers kept at one place of one document.
_ENTRIES_MAX = 8
#: Fields that do not change what the answer says, or that `Question` has in another form.
_ASIDE = frozenset(
    (
        *("prompt", "suffix", "model", "stream", "stream_options", "user", "metadata"),
        *("session_id", "id_slot", "cache_prompt", "priority", "service_tier", "timings_per_token"),
        *("t_max_prompt_ms", "t_max_predict_ms"),
    )
)
#: Fields that ask for more than one text: answers to them are not kept.
_COUNTS = ("n", "best_of")
_MORE = ("echo", "n_probs", "return_progress", "return_tokens")


@dataclass(slots=True)
class Question:
    """A request that may be answered from the cache."""

    #: Whose it is, which model, how to sample, what stands behind the cursor.
    scope: bytes
    #: What stands before the cursor.
    before: str = field(repr=False)


@dataclass(slots=True)
class Rest:
    """What is left of an answer whose beginning has been typed."""

    text: str = field(repr=False)
    #: As the engine gave it: `stop` or `length`.
    finish: str


@dataclass(slots=True)
class _Kept:
    """One answer."""

    #: Of the text before the cursor: its length, and what stands for it.
    length: int
    digest: bytes
    text: str
    finish: str
    size_bytes: int


class CompletionCache:
    """The answers of late, least recently used ones first.

    Args:
        bytes_max: What all of them may take together; 0 keeps none.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        #: Bytes kept, and how often an answer came from here and did not.
        self.bytes_held = self.hits = self.misses = 0
        self._scopes: OrderedDict[bytes, deque[_Kept]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<CompletionCache bytes={self.bytes_held} hits={self.hits} misses={self.misses}>"

    def clear(self) -> None:
        """Forget every answer."""
        self._scopes.clear()
        self.bytes_held = 0

    def find(self, question: Question) -> Rest | None:
        """The rest of an answer of which the client has typed a part since, or None."""
        kept = self._scopes.get(question.scope)
        for one in reversed(kept or ()):
            typed = question.before[one.length :]
            if not _goes_on(one, typed) or _digest(question.before[: one.length]) != one.digest:
                continue
            self.hits += 1
            self._scopes.move_to_end(question.scope)
            return Rest(one.text[len(typed) :], one.finish)
        self.misses += 1
        return None

    def learn(self, question: Question, rest: Rest | None) -> None:
        """Keep the whole answer to a question, if there is one and room for it."""
        if rest is None or not rest.text:
            return
        size_bytes = len(rest.text.encode("utf-8", "replace")) + ENTRY_BYTES
        if size_bytes > min(self.bytes_max, _TEXT_BYTES_MAX):
            return
        kept = self._scopes.setdefault(question.scope, deque())
        self._scopes.move_to_end(question.scope)
        digest = _digest(question.before)
        kept.append(_Kept(len(question.before), digest, rest.text, rest.finish, size_bytes))
        self.bytes_held += size_bytes
        if len(kept) > _ENTRIES_MAX:
            self.bytes_held -= kept.popleft().size_bytes
        while self.bytes_held > self.bytes_max:
            oldest, of_it = next(iter(self._scopes.items()))
            self.bytes_held -= of_it.popleft().size_bytes
            if not of_it:
                del self._scopes[oldest]


def question(
    body: Mapping[str, Any],
    headers: Mapping[str, str],
    owner: tuple[str, ...],
    cursor: tuple[str, str],
) -> Question | None:
    """The question of a completion, or None where the cache has no business.

    Args:
        body: In the internal form.
        headers: Lower-case names.
        owner: Whose answer it is: key or address, and model.
        cursor: Text before and after it.
    """
    wish = headers.get(HEADER, "").strip().lower()
    if wish == "off" or (body.get("temperature") != 0 and wish != "allow"):
        return None
    if body.get("logprobs") is not None or any(body.get(name) for name in _MORE):
        return None
    if any(body.get(name) not in (None, 1) for name in _COUNTS):
        return None
    before, after = cursor
    shape = sorted((name, value) for name, value in body.items() if name not in _ASIDE)
    text = msgspec.json.encode((owner, after, shape))
    return Question(hashlib.blake2b(text, digest_size=16).digest(), before)


def _goes_on(one: _Kept, typed: str) -> bool:
    """Whether this was typed of the answer, and enough of it is left.

    Of one that only its limit ended, at least a half: the engine would say more by now.
    """
    if not 0 < len(typed) < len(one.text) or not one.text.startswith(typed):
        return False
    return one.finish == "stop" or 2 * len(typed) <= len(one.text)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
