"""What engines have read before: how much of a prompt is still in the cache of which replica.

Owns, for one model, what each replica read last under which name, and the share of that which is
found again: learned by how much the replica has read since, so that the size of its cache shows by
itself. Knows names and counts, no text. Called by the model of step times and by `predictor`.
"""

from collections import OrderedDict
from dataclasses import dataclass
from math import log2

from slalom.core.planning import ActiveView
from slalom.core.request import Request

#: Names that are remembered for a replica; the one longest unused is forgotten.
_NAMES_MAX = 2_048
_REPLICAS_MAX = 1_024
#: Share that is found again before anything was observed, and what that counts in observations.
_SHARE_START, _START_WEIGHT = 0.9, 1.0
#: Observations of an age after which an old one counts 1/e.
_MEMORY = 30.0
#: Ages are counted in half octaves of tokens.
_PER_DOUBLING, _AGES = 2, 64
#: Tokens below which finding them again or not says nothing.
_TELLING_MIN = 32


@dataclass(frozen=True, slots=True)
class Known:
    """What a replica should have of a prompt."""

    #: Tokens that it read before, and the chance that they are still there.
    tokens: int = 0
    share: float = 0.0
    #: How much it has read since.
    age: int = 0

    @property
    def expected(self) -> float:
        """Tokens that need not be read, on average."""
        return self.tokens * self.share


#: Nothing.
NOTHING = Known()


class _Cache:
    """What one replica has read."""

    __slots__ = ("heads", "passed", "ready_ns")

    def __init__(self) -> None:
        #: name -> tokens, and the count of all tokens when they were last used.
        self.heads: OrderedDict[str, tuple[int, int]] = OrderedDict()
        #: Tokens read and written so far.
        self.passed = 0
        self.ready_ns = -1


class Heads:
    """What the replicas of one model have read."""

    __slots__ = (
        "_begun",
        "_caches",
        "_found",
        "_is_told",
        "_seen",
        "_shares",
        "_unread",
        "version",
    )

    def __init__(self) -> None:
        #: Grows with everything that changes what is known.
        self.version = 0
        self._caches: dict[str, _Cache] = {}
        #: What was known of the attempts that run, before their prompt was read and from then on.
        self._unread: dict[tuple[str, int], Known] = {}
        self._begun: dict[tuple[str, int], Known] = {}
        #: By age: observations, and the sum of the shares found; then the share to be expected.
        self._seen = [0.0] * _AGES
        self._found = [0.0] * _AGES
        self._shares = [_SHARE_START] * _AGES
        #: Whether the engine says what it found: nothing else is then believed.
        self._is_told = False

    def __repr__(self) -> str:
        names = sum(len(cache.heads) for cache in self._caches.values())
        return f"Heads(replicas={len(self._caches)}, names={names})"

    @property
    def share(self) -> float:
        """Share that is found again of what was read last."""
        return self._shares[0]

    def renew(self, replica_id: str, ready_ns: int) -> None:
        """A replica is ready since then: what it had read before is gone."""
        cache = self._cache(replica_id)
        if cache.ready_ns != ready_ns:
            self.version += 1
            if cache.ready_ns >= 0:
                cache.heads.clear()
            cache.ready_ns = ready_ns

    def known(self, request: Request, produced: int, replica_id: str) -> Known:
        """What a replica should have of a prompt, with tokens that were produced before."""
        name, shared = request.prefix_from or request.prefix, request.prefix_tokens
        if produced:
            name, shared = request.prefix or request.id, request.prompt_tokens + produced
        if not shared:
            return NOTHING
        cache = self._caches.get(replica_id)
        head = cache.heads.get(name) if cache is not None else None
        if cache is None or head is None:
            return NOTHING
        # The last token is always read: the next one comes of it.
        tokens = min(head[0], shared, request.prompt_tokens + produced - 1)
        if tokens <= 0:
            return NOTHING
        age = _age(cache.passed - head[1])
        return Known(tokens, self._shares[age], age)

    def begin(self, attempt: ActiveView) -> Known:
        """An attempt was dispatched: what its replica should have of its prompt."""
        known = self.known(attempt.request, attempt.resumed_tokens, attempt.replica_id)
        self._unread[attempt.request.id, attempt.number] = known
        return known

    def told(self, attempt: ActiveView) -> None:
        """An attempt has produced tokens: its prompt is read."""
        known = self._unread.pop((attempt.request.id, attempt.number), None)
        if known is None:
            return
        self.version += 1
        cache = self._cache(attempt.replica_id)
        tokens = attempt.request.prompt_tokens + attempt.resumed_tokens
        cache.passed += max(tokens - round(known.expected), 0)
        self._begun[attempt.request.id, attempt.number] = known
        if attempt.request.prefix:
            _note(cache, attempt.request.prefix, tokens)

    def over(self, attempt: ActiveView, *, finished: bool) -> None:
        """An attempt has left; with the whole answer it will not go on anywhere."""
        if finished:
            self.told(attempt)
        fence = (attempt.request.id, attempt.number)
        self._unread.pop(fence, None)
        known = self._begun.pop(fence, None)
        if known is None:
            return
        self.version += 1
        if attempt.cached_tokens >= 0 and known.tokens >= _TELLING_MIN:
            self._is_told = True
            self._learn(known, min(attempt.cached_tokens / known.tokens, 1.0))
        request, cache = attempt.request, self._cache(attempt.replica_id)
        cache.passed += attempt.output_tokens
        name = request.prefix
        if not name and request.resumable:
            name = request.id
            if finished:
                cache.heads.pop(name, None)
                return
        if name:
            tokens = request.prompt_tokens + attempt.resumed_tokens + attempt.output_tokens
            _note(cache, name, tokens)

    def guessed(self, known: Known, share: float) -> None:
        """The time to a first token says which share was found again."""
        if known.tokens >= _TELLING_MIN and not self._is_told:
            self._learn(known, share)

    def _cache(self, replica_id: str) -> _Cache:
        cache = self._caches.get(replica_id)
        if cache is None:
            if len(self._caches) >= _REPLICAS_MAX:
                del self._caches[next(iter(self._caches))]
            cache = self._caches[replica_id] = _Cache()
        return cache

    def _learn(self, known: Known, share: float) -> None:
        self.version += 1
        keep = 1.0 - 1.0 / _MEMORY
        age = known.age
        self._seen[age] = self._seen[age] * keep + 1.0
        self._found[age] = self._found[age] * keep + share
        # What is older is found no more often: an age that is not known is as the one before it.
        before = self._shares[age - 1] if age else _SHARE_START
        for at in range(age, _AGES):
            before = (before * _START_WEIGHT + self._found[at]) / (_START_WEIGHT + self._seen[at])
            self._shares[at] = before


def _note(cache: _Cache, name: str, tokens: int) -> None:
    cache.heads[name] = (tokens, cache.passed)
    cache.heads.move_to_end(name)
    if len(cache.heads) > _NAMES_MAX:
        cache.heads.popitem(last=False)


def _age(tokens: int) -> int:
    return min(int(log2(tokens) * _PER_DOUBLING), _AGES - 1) if tokens > 1 else 0
