"""Messages in the order that chat templates take: one system message first, then turns.

Owns the repair of what agents send and many templates refuse: instructions in the middle of a
conversation, two turns of the user in a row. It depends on nothing behind a message, so that a
conversation which goes on begins like before, and the engine's cache holds. Pure. Used by the
protocols that agents speak.
"""

from collections.abc import Iterable
from typing import Any


def settled(messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same conversation, repaired.

    System messages before the first turn become one, later ones are told in the user's turn, and
    turns of the user in a row become one.
    """
    found: list[dict[str, Any]] = []
    for message in messages:
        last_role = found[-1]["role"] if found else "system"
        if message["role"] == "system" and last_role != "system":
            message = {**message, "role": "user"}  # noqa: PLW2901 - the same message, told otherwise
        if found and message["role"] == last_role and last_role in {"system", "user"}:
            content = _joined(found[-1]["content"], message["content"])
            found[-1] = {"role": last_role, "content": content}
        else:
            found.append(message)
    return found


def _joined(first: str | list[Any], second: str | list[Any]) -> str | list[Any]:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    return [*_parts(first), *_parts(second)]


def _parts(content: str | list[Any]) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
