"""What became of suggestions: seen, taken, dismissed, as editors report it.

Owns the reading of reports and the little that is kept: counts for each event, and the last
reports as ids, events and times. Never a text. Keeps nothing unless it is told to. Used by `tabby`.
"""

import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

from slalom.errors import RequestError

#: Events that are counted; others are taken and forgotten.
EVENTS = ("view", "select", "dismiss")
#: What people do, in our words.
_WORDS = {"view": "seen", "select": "accepted", "dismiss": "dismissed"}
_ID_CHARS_MAX = 128


class Feedback:
    """The reports of late.

    Args:
        reports_max: Reports kept; 0 keeps and counts none.
    """

    def __init__(self, reports_max: int) -> None:
        self._reports_max = reports_max
        self._counts: Counter[str] = Counter()
        self._latest: deque[dict[str, Any]] = deque(maxlen=reports_max)

    def __repr__(self) -> str:
        return f"<Feedback kept={len(self._latest)} max={self._reports_max}>"

    def take(self, report: Mapping[str, Any], key: str) -> None:
        """Keep a report.

        Args:
            report: As the editor sent it.
            key: Name of its API key, or empty.

        Raises:
            RequestError: It names no event.
        """
        event = report.get("type")
        if not isinstance(event, str):
            raise RequestError("type must be an event such as 'select'.", param="type")
        if not self._reports_max or event not in EVENTS:
            return
        self._counts[_WORDS[event]] += 1
        completion, elapsed_ms = report.get("completion_id"), report.get("elapsed")
        self._latest.append(
            {
                "completion_id": (
                    completion[:_ID_CHARS_MAX] if isinstance(completion, str) else None
                ),
                "event": _WORDS[event],
                "line_only": report.get("select_kind") == "line",
                "elapsed_ms": elapsed_ms if _is_time(elapsed_ms) else None,
                "key": key,
                "at_s": int(time.time()),
            }
        )

    def document(self) -> dict[str, Any]:
        """Counts since the start, and the kept reports, newest first."""
        counts = {word: self._counts[word] for word in _WORDS.values()}
        return {
            "counts": counts,
            "kept_max": self._reports_max,
            "latest": [*reversed(self._latest)],
        }


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1 << 53
