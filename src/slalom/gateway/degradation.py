"""Names that stand for several models: which of these may serve a request at all.

Owns the question whether a model's engine can do what is asked. Which of those that can serves is
decided by the core. Called by `preparation`.
"""

from collections.abc import Callable
from dataclasses import replace

from slalom.core.request import Alternatives, Choice, Request
from slalom.engines.protocol import Capabilities
from slalom.gateway import continuing, fill_in
from slalom.gateway.confidence import can_be_judged
from slalom.gateway.params import ServedAlias
from slalom.gateway.resolution import CHAT_PATH, EMBEDDINGS_PATH, Facts


def with_alternatives(
    request: Request,
    alias: ServedAlias | None,
    facts: Facts,
    capabilities: Callable[[str], Capabilities],
) -> Request:
    """The same request, with the models that may serve it.

    What cannot be looked at before its client gets it is served by the model that would take over,
    where that is ready.

    Args:
        request: For the first of them.
        alias: What the client asked for; None for a model.
        facts: Of the request.
        capabilities: What each model's engine can do.
    """
    if alias is None or (alias.tasks and request.task not in alias.tasks):
        return request
    first = capabilities(request.model)
    able = tuple(
        name
        for name in alias.alternatives.models
        if name == request.model or _can(capabilities(name), first, facts)
    )
    if len(able) < 2:
        return request
    resumable = request.resumable and all(
        continuing.resumable(
            facts.body,
            chat=facts.path == CHAT_PATH,
            capabilities=capabilities(name),
            max_tokens=facts.max_tokens,
        )
        for name in able
    )
    alternatives = replace(alias.alternatives, models=able)
    if alternatives.choice is Choice.CONFIDENT:
        if can_be_judged(facts):
            return replace(request, alternatives=alternatives, resumable=False)
        alternatives = Alternatives(able[::-1], Choice.WARM_FIRST)
    return replace(
        request, model=alternatives.models[0], alternatives=alternatives, resumable=resumable
    )


def _can(other: Capabilities, first: Capabilities, facts: Facts) -> bool:
    """Whether an engine can do what the first one would."""
    if facts.path == EMBEDDINGS_PATH:
        return other.embeddings
    if fill_in.has_marks(facts.body, first.fim):  # the client wrote the first one's own marks
        return other.fim == first.fim
    return not facts.fim or other.fim is not None
