"""When keys are hit: bursts of keystrokes, and the pauses in which people read and think.

Owns the drawing of times; they depend on the seed and the typist only, never on what is typed or
answered, so that every server meets the same keystrokes. Called by the typists.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from slalom.units import MS, SECOND, seconds_to_ns
from slalom.workload.streams import stream


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How people type."""

    #: Between two keystrokes of a burst, ms.
    gap_ms: tuple[float, float] = (40.0, 100.0)
    #: Keystrokes of a burst.
    burst: tuple[int, int] = (4, 16)
    #: Between two bursts, ms.
    pause_ms: tuple[float, float] = (400.0, 1_600.0)


@dataclass(frozen=True, slots=True)
class Keystroke:
    """One of them."""

    number: int
    #: From the start of the run, ns.
    at_ns: int
    #: When the same typist hits the next key, from the start of the run, ns.
    next_ns: int
    #: Whether a pause follows: now an answer is waited for.
    pause: bool
    #: Whether the typist goes on with what is suggested then, if anything is.
    follows: bool


def keystrokes(
    rhythm: Rhythm, seconds: float, *, seed: int, typist: int, follow: float = 0.0
) -> Iterator[Keystroke]:
    """The keystrokes of one typist.

    Args:
        rhythm: How they type.
        seconds: No key is hit after this.
        seed: Of the run.
        typist: Which of them.
        follow: Share of pauses after which they go on with the suggestion.
    """
    rng = stream(seed, "typist", typist)
    end_ns = seconds_to_ns(seconds)
    # They do not all begin with the same keystroke.
    at_ns, number = round(rng.uniform(0.0, min(1.0, seconds / 4)) * SECOND), 0
    while at_ns < end_ns:
        length = rng.randint(*rhythm.burst)
        follows = rng.random() < follow
        for left in reversed(range(length)):
            span_ms = rhythm.gap_ms if left else rhythm.pause_ms
            next_ns = at_ns + round(rng.uniform(*span_ms) * MS)
            if at_ns < end_ns:
                yield Keystroke(number, at_ns, next_ns, pause=not left, follows=follows)
            at_ns, number = next_ns, number + 1
