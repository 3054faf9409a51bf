"""What a completion is to somebody who types: a place in a document, a newer wish, a cached rest.

Owns finding the cursor in a request and what follows from it: the name under which it replaces
older ones, the end after one line, the question for the completion cache. Called by `preparation`.
"""

from typing import Any

from slalom.gateway import completion_cache, length_care, supersession
from slalom.gateway.completion_cache import Question
from slalom.gateway.resolution import COMPLETIONS_PATH, Facts
from slalom.gateway.supersession import Documents
from slalom.models.fim import FimTemplate


def cursor_of(facts: Facts, fim: FimTemplate | None) -> tuple[str, str] | None:
    """Text before and after the cursor of a completion; None where there is none."""
    prompt, after = facts.body.get("prompt"), facts.body.get("suffix") or ""
    if facts.path != COMPLETIONS_PATH or not isinstance(prompt, str):
        return None
    marked = fim.around_cursor(prompt) if fim is not None and not after else None
    return marked or (prompt, after)


def shorten(
    facts: Facts, cursor: tuple[str, str] | None, fim: FimTemplate | None
) -> tuple[tuple[str, Any], ...]:
    """What changes in the body so that the answer ends with its line, where that is wished.

    The facts then say so, too: a single line is another task than many.
    """
    if cursor is None or not facts.fim:
        return ()
    of_key = facts.key.single_line if facts.key is not None else "off"
    before, after = cursor
    if fim is not None:
        before, after = fim.bare(before, after)
    if not length_care.wants_single_line(facts.headers, facts.body, of_key, (before, after)):
        return ()
    change = ("stop", length_care.stops(facts.body))
    facts.body = {**facts.body, "stop": change[1]}
    return (change,)


def name_of(
    documents: Documents,
    client: tuple[str, ...],
    facts: Facts,
    cursor: tuple[str, str] | None,
    task: str,
) -> str:
    """The name by which a completion replaces older ones, or empty.

    Args:
        documents: What clients type in.
        client: Who asks: key, program, address, model.
        facts: Of the request.
        cursor: Text before and after it.
        task: The request's.
    """
    if task not in supersession.TASKS or documents.mode == "off":
        return ""
    name = supersession.declared(facts.headers, facts.body, client)
    if name or cursor is None:
        return name
    return documents.guess(supersession.Typed(client, *cursor))


def question_of(
    facts: Facts, cursor: tuple[str, str] | None, task: str, peer: str
) -> Question | None:
    """What the completion cache may be asked; None for everything but completions."""
    if cursor is None or task not in supersession.TASKS:
        return None
    key = facts.key.name if facts.key is not None else ""
    owner = (key, "" if key else peer, facts.model.id)
    return completion_cache.question(facts.body, facts.headers, owner, cursor)
