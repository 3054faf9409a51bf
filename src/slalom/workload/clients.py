"""What clients do while they wait: type on and ask anew, or come again after a refusal.

Owns the two rules as frozen data, and the drawing of a burst of keystrokes. Owns no request's
size but those of a burst's later keystrokes. Called by `load`; the twin's clients read `Retries`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from slalom.units import MS
from slalom.workload.streams import stream

#: A burst of more keystrokes than this is two.
_BURST_MAX = 50
#: Doublings after which a wait stays as it is.
_DOUBLINGS_MAX = 4


@dataclass(frozen=True, slots=True)
class Keystrokes:
    """Users who type on in the same document and ask anew each time."""

    #: Share of requests that a further keystroke makes stale.
    share: float
    #: When that happens: between these after the request, ms.
    after_ms: tuple[float, float] = (100.0, 600.0)
    #: Share of documents whose editor cancels the stale request; the others only send the newer.
    cancels: float = 1.0
    #: Whether requests name their document, so that the server can tell which one is stale.
    named: bool = False


@dataclass(frozen=True, slots=True)
class Keystroke:
    """One request of a burst."""

    #: From the burst's first request, ns.
    after_ns: int
    #: Tokens typed since then.
    typed_tokens: int
    #: The next keystroke comes this long after this request; -1 for never.
    stale_after_ns: int
    #: Whether the client cancels it then.
    cancels: bool


def burst(rule: Keystrokes, seed: int, *names: str | int) -> Iterator[Keystroke]:
    """The requests of a user who types on, the first one included.

    Args:
        rule: How users type.
        seed: Of the load.
        names: Of the first request: a random stream of its own.
    """
    rng = stream(seed, "keystrokes", *names)
    cancels = rng.random() < rule.cancels
    after_ns = 0
    for number in range(_BURST_MAX):
        stale_ns = round(rng.uniform(*rule.after_ms) * MS)
        goes_on = rng.random() < rule.share and number + 1 < _BURST_MAX
        yield Keystroke(after_ns, number, stale_ns if goes_on else -1, cancels)
        if not goes_on:
            return
        after_ns += stale_ns


@dataclass(frozen=True, slots=True)
class Retries:
    """Clients that come again after a refusal, as the SDKs of OpenAI do by default."""

    #: Further tries after the first one.
    tries: int
    #: Wait before the first further try, ns; doubled for each, up to sixteen times it. Where the
    #: server says when to come again, and that is longer, that counts.
    backoff_ns: int
    #: Up to this share of the wait is added to it.
    jitter: float = 0.25

    def wait_ns(self, tries_before: int, advised_ns: int, point: float) -> int:
        """How long a refused client waits.

        Args:
            tries_before: Further tries it has made so far.
            advised_ns: What the server said; 0 for nothing.
            point: Where in the jitter it falls, from 0 to 1.
        """
        backoff_ns = self.backoff_ns << min(tries_before, _DOUBLINGS_MAX)
        return round(max(backoff_ns, advised_ns, 1) * (1 + self.jitter * point))
