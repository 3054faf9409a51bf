"""Finds the known word that somebody probably meant.

Owns the wording of that hint. Called wherever a name of the configuration or of the command line
is unknown.
"""

import difflib
from collections.abc import Iterable

_NEAR = 0.6
_LISTED_MAX = 12


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the known word nearest to `word`, or all of them if none is near."""
    words = sorted(known)
    close = difflib.get_close_matches(word, words, n=1, cutoff=_NEAR)
    if close:
        return f"did you mean {close[0]!r}?"
    if not words:
        return "there is none"
    more = ", …" if len(words) > _LISTED_MAX else ""
    return f"known: {', '.join(words[:_LISTED_MAX])}{more}"
