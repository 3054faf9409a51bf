"""How long a completion should be: one line where the cursor asks for it, nothing for a warm-up.

Owns the look at the text around the cursor and the client's wish (header, `metadata`, key). Off
unless somebody wishes it. Pure; called by `preparation`.
"""

from collections.abc import Mapping
from typing import Any, Literal

SINGLE_LINE_HEADER = "x-slalom-single-line"
HEADERS = frozenset((SINGLE_LINE_HEADER,))
#: ``auto`` looks at the text around the cursor.
SingleLine = Literal["auto", "on", "off"]
_WISHES = ("auto", "on", "off")

#: Behind the cursor these only close what is open: one may write lines before them.
_CLOSING = frozenset(")]}>;,:'\"`")
#: At the end of a line these open a block, of which lines are to come.
_OPENING = (":", "{", "(", "[", "=>", "->", "=", ",", "\\", "do", "then", "else", "begin", "|")
_NEWLINE = "\n"


def wants_single_line(
    headers: Mapping[str, str], body: Mapping[str, Any], of_key: SingleLine, cursor: tuple[str, str]
) -> bool:
    """Whether an answer is to end with its first line.

    Args:
        headers: Lower-case names.
        body: In the internal form.
        of_key: What holds where the request says nothing.
        cursor: Text before and after it.
    """
    wish = headers.get(SINGLE_LINE_HEADER)
    if wish is None:
        metadata = body.get("metadata")
        wish = metadata.get("single_line") if isinstance(metadata, dict) else None
    if not isinstance(wish, str) or wish.strip().lower() not in _WISHES:
        wish = of_key
    wish = wish.strip().lower()
    return wish == "on" or (wish == "auto" and asks_for_one_line(*cursor))


def asks_for_one_line(before: str, after: str) -> bool:
    """Whether what belongs at the cursor is the rest of its line.

    1. Something other than closing marks stands behind the cursor in its line: yes.
    2. Its line is empty up to the cursor: no, a block may be wanted.
    3. Its line ends with what opens a block: no.
    4. Otherwise somebody is in the middle of a statement: yes.
    """
    behind = after.partition(_NEWLINE)[0].strip()
    if any(char not in _CLOSING for char in behind):
        return True
    line = before.rpartition(_NEWLINE)[2].strip()
    return bool(line) and not line.endswith(_OPENING)


def stops(body: Mapping[str, Any]) -> list[Any]:
    """The stop texts of a request, with the end of the line among them."""
    given = body.get("stop")
    found = [given] if isinstance(given, str) else list(given or ())
    return found if _NEWLINE in found else [*found, _NEWLINE]


def is_warm_up(body: Mapping[str, Any]) -> bool:
    """Whether nothing is to be generated: an editor that wants its prompt to be read ahead."""
    limits = (body.get("max_tokens"), body.get("max_completion_tokens"))
    return body.get("n_predict") == 0 and limits == (None, None)
