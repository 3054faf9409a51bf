"""From a body to work: the core's request, the engine's call, and how the client wants it.

Owns the joining of parsing, field checks, model names, capabilities, limits and task resolution.
Pure apart from the runtime's static capabilities. Called by `inference`, tested as a function.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from slalom.core.request import Request, Sla
from slalom.engines.protocol import Capabilities
from slalom.errors import RequestError
from slalom.gateway import (
    abilities,
    chain_words,
    confidence,
    continuing,
    estimates,
    fill_in,
    length_care,
    request_body,
    supersession,
    typing_care,
    upstream_call,
)
from slalom.gateway.answer_form import AnswerForm
from slalom.gateway.chain_words import ChainWords
from slalom.gateway.chains import NO_PLACE, Place
from slalom.gateway.completion_cache import Question
from slalom.gateway.confidence import GateMaker
from slalom.gateway.degradation import with_alternatives
from slalom.gateway.params import GatewayParams, KeyEntry, ServedModel
from slalom.gateway.protocols import openai_text
from slalom.gateway.protocols.frame import Asked, Internal, WireProtocol
from slalom.gateway.protocols.openai import OPENAI
from slalom.gateway.request_head import RequestHead
from slalom.gateway.residency_wishes import ResidencyWishes, read_wishes, without_wishes
from slalom.gateway.resolution import (
    CHAT_PATH,
    COMPLETIONS_PATH,
    EMBEDDINGS_PATH,
    Facts,
    Resolved,
    resolve,
)
from slalom.gateway.shared import Shared
from slalom.gateway.upstream_call import Outgoing
from slalom.models.fim import FimTemplate
from slalom.workload.tasks import TaskSpec

# Built for every request and read once: frozen dataclasses would cost five times as much to build.


@dataclass(slots=True)
class Work:
    """A checked request, ready to be served."""

    request: Request
    outgoing: Outgoing
    stream: bool
    #: How the answer is written.
    form: AnswerForm
    #: The client did not ask for the usage that Slalom makes the stream report.
    strip_usage: bool
    #: What the client should be told about its declarations.
    notices: tuple[str, ...]
    #: What the completion cache may answer, or learn the answer to.
    question: Question | None = None
    #: Whether nobody wants its text: only the prompt is to be read ahead.
    warm_up: bool = False
    #: Whether a refusal by a planner is answered without a word instead.
    empty_when_late: bool = False
    #: Whether its model is to be pinned.
    pin: bool = False
    #: Whether it is answered at once where its model is not up.
    lets_go: bool = False
    #: Its place in the graph of its chain.
    place: Place = NO_PLACE
    #: Looks at an answer from which another model could take over.
    gate: GateMaker | None = None
    #: What it takes besides its own body, from what a protocol keeps, bytes.
    more_bytes: int = 0


@dataclass(slots=True)
class Arrival:
    """What is known of a request besides its body."""

    request_id: str
    #: Of the inference route, in its own protocol.
    path: str
    head: RequestHead
    key: KeyEntry | None = None
    arrived_ns: int = 0
    #: The client's address, without its port.
    peer: str = ""
    #: Nothing is to be served; without a path the body says which route it is meant for.
    dry_run: bool = False
    protocol: WireProtocol = OPENAI
    #: What it says of its chain; None for nothing.
    chain: ChainWords | None = None


@dataclass(slots=True)
class _Answer:
    """How the client wants its answer, and what that changes in the body."""

    max_tokens: int = 0
    stream: bool = False
    strip_usage: bool = False
    changes: tuple[tuple[str, Any], ...] = ()


def prepare(
    shared: Shared, arrival: Arrival, raw: bytes, rivals: Sequence[WireProtocol] = ()
) -> Work:
    """Parse and check a body and turn it into work.

    Args:
        shared: What all routes share.
        arrival: What is known besides the body.
        raw: The body.
        rivals: Protocols that may claim the request for themselves.

    Raises:
        RequestError: The client is wrong; `param` names where.
    """
    try:
        return _prepare(shared, arrival, _internal(arrival, raw, rivals))
    except RecursionError:  # what could be parsed is still too deep to be looked through
        raise RequestError("The body is nested too deeply.", code="invalid_json") from None


def _internal(arrival: Arrival, raw: bytes, rivals: Sequence[WireProtocol]) -> Internal:
    """The request in the internal form."""
    body = request_body.parse(raw)
    path = arrival.path or estimates.path_of(body)
    received_s = int(time.time())
    told = body.pop(chain_words.FIELD, None)
    arrival.chain = chain_words.read_words(arrival.head.watched, told)
    if told is not None:  # engines do not see it
        raw = b""
    asked = Asked(
        arrival.request_id, path, raw, body, arrival.head.watched, arrival.key, received_s
    )
    for rival in rivals:
        if rival.claims is not None and rival.claims(asked):
            arrival.protocol = rival
            break
    return arrival.protocol.reads[path](asked)


def _prepare(shared: Shared, arrival: Arrival, internal: Internal) -> Work:
    path, body = internal.path, internal.body
    embeddings, chat = path == EMBEDDINGS_PATH, path == CHAT_PATH
    infill = path == COMPLETIONS_PATH and bool(body.get("suffix"))
    request_body.check_fields(body, chat=chat, embeddings=embeddings)
    wishes = _wishes(arrival, internal)
    body = internal.body
    model = (named := shared.catalogue.find(body["model"])).model
    capabilities = shared.runtime.capabilities(model.id)
    if internal.at_cursor and not infill:
        infill = capabilities.fim is not None
        if not infill:  # nothing stands behind the cursor: any model can go on with the text
            body = internal.body = fill_in.plain(body)
    _check_able(internal, capabilities, model.id, infill=infill)
    body = internal.body
    answer = _Answer() if embeddings else _answer(body, model, shared.params)
    facts = Facts(
        path=path,
        client_path=arrival.path,
        headers=arrival.head.watched,
        body=body,
        model_name=body["model"],
        model=model,
        named_task=named.task,
        key=arrival.key,
        prompt_tokens=upstream_call.prompt_tokens(body, chat=chat),
        max_tokens=answer.max_tokens,
        fim=infill or internal.at_cursor or fill_in.has_marks(body, capabilities.fim),
    )
    cursor = typing_care.cursor_of(facts, capabilities.fim)
    answer.changes += typing_care.shorten(facts, cursor, capabilities.fim)
    resolved = resolve(facts, shared.params)
    warm_up = cursor is not None and length_care.is_warm_up(body)
    resolved = Resolved(_least_urgent(shared), Sla(), resolved.notices) if warm_up else resolved
    task = resolved.task.name if not (warm_up or arrival.dry_run) else None
    name, question = _typed(shared, arrival, facts, cursor, task)
    request = _request(arrival, facts, resolved, capabilities, wishes, supersedes=name)
    alias = None if warm_up and named.alias is not None and named.alias.looks else named.alias
    request = with_alternatives(request, alias, facts, shared.runtime.capabilities)
    request, place = _linked(shared, arrival, request)
    outgoing = _outgoing(arrival, internal, answer, capabilities.fim if infill else None, infill)
    gate = confidence.gate_for(alias, request, facts, cursor, capabilities.fim)
    outgoing.asking = confidence.asking(facts) if gate else {}
    return Work(
        request if embeddings else _headed(shared, arrival, facts, request),
        outgoing,
        answer.stream,
        AnswerForm(arrival.protocol, internal.writer, arrival.request_id),
        answer.strip_usage,
        (*internal.notices, *resolved.notices),
        question,
        warm_up=warm_up,
        empty_when_late=resolved.task.when_late == "empty",
        more_bytes=internal.more_bytes,
        pin=wishes.pin,
        lets_go=internal.lets_go,
        place=place,
        gate=gate,
    )


def _typed(
    shared: Shared,
    arrival: Arrival,
    facts: Facts,
    cursor: tuple[str, str] | None,
    task: str | None,
) -> tuple[str, Question | None]:
    """The document that is typed in, and what may be answered out of earlier completions."""
    if task is None:
        return "", None
    key = arrival.key.name if arrival.key is not None else ""
    client = (key, arrival.head.user_agent, arrival.peer, facts.model.id)
    name = typing_care.name_of(shared.documents, client, facts, cursor, task)
    return name, typing_care.question_of(facts, cursor, task, arrival.peer)


def _wishes(arrival: Arrival, internal: Internal) -> ResidencyWishes:
    """What the client wants of the model's memory; its words are taken out of the body."""
    wishes = read_wishes(arrival.head.watched, internal.body, arrival.key)
    if (plain := without_wishes(internal.body)) is not internal.body:
        internal.body = plain
        internal.raw = b""
    return wishes


def _request(
    arrival: Arrival,
    facts: Facts,
    resolved: Resolved,
    capabilities: Capabilities,
    wishes: ResidencyWishes,
    *,
    supersedes: str,
) -> Request:
    """The request as the core sees it."""
    task, max_tokens = resolved.task, facts.max_tokens
    resumable = facts.path != EMBEDDINGS_PATH and continuing.resumable(
        facts.body, chat=facts.path == CHAT_PATH, capabilities=capabilities, max_tokens=max_tokens
    )
    return Request(
        id=arrival.request_id,
        model=facts.model.id,
        task=task.name,
        sla=resolved.sla,
        arrived_ns=arrival.arrived_ns,
        prompt_tokens=facts.prompt_tokens,
        max_tokens=max_tokens,
        predicted_tokens=min(task.predicted_for(facts.prompt_tokens), max_tokens),
        key=arrival.key.name if arrival.key is not None else "",
        supersedes=supersedes,
        streamed=facts.body.get("stream") is True,
        resumable=resumable,
        drop_when_late=task.when_late != "policy",
        keep_ns=wishes.keep_ns,
        allow_swap=wishes.allow_swap,
        weight=task.weight * (arrival.key.weight if arrival.key is not None else 1.0),
        floor=max(task.floor, arrival.key.floor if arrival.key is not None else 0.0),
    )


def _linked(shared: Shared, arrival: Arrival, request: Request) -> tuple[Request, Place]:
    """The same request with its place in its chain, if it says that it has one."""
    if arrival.chain is None:
        return request, NO_PLACE
    return shared.chains.linked(request, arrival.chain)


def _headed(shared: Shared, arrival: Arrival, facts: Facts, request: Request) -> Request:
    """The same request, with what its prompt has in common with an earlier one."""
    name = request.supersedes
    if not name:
        client = (request.key, arrival.head.user_agent, arrival.peer, request.model)
        name = supersession.declared(facts.headers, facts.body, client)
    head = shared.prefixes.find(
        (request.key, request.model), facts.body, declared=name, keep=not arrival.dry_run
    )
    if not head.name:
        return request
    tokens = head.tokens(request.prompt_tokens)
    return replace(request, prefix=head.name, prefix_tokens=tokens, prefix_from=head.start)


def _least_urgent(shared: Shared) -> TaskSpec:
    """The task of requests that are to be in nobody's way."""
    return max(shared.params.tasks.values(), key=lambda task: task.urgency_ms)


def _outgoing(
    arrival: Arrival,
    internal: Internal,
    answer: _Answer,
    fim: FimTemplate | None,
    infill: bool,  # noqa: FBT001 - as the field is called
) -> Outgoing:
    return Outgoing(
        path=internal.path,
        raw=internal.raw,
        body=internal.body,
        changes=dict(answer.changes),
        headers=arrival.head.upstream_headers(arrival.request_id),
        fim=fim,
        infill=infill,
    )


def _answer(body: dict[str, Any], model: ServedModel, params: GatewayParams) -> _Answer:
    default = params.tools_max_tokens if body.get("tools") else params.default_max_tokens
    limits = upstream_call.limits(body, model.max_tokens_default or default)
    if body.get("stream") is not True:
        return _Answer(limits.max_tokens, changes=tuple(limits.changes.items()))
    usage, strip_usage = upstream_call.usage_changes(body)
    changes = (*limits.changes.items(), *usage.items())
    return _Answer(limits.max_tokens, stream=True, strip_usage=strip_usage, changes=changes)


def _check_able(
    internal: Internal, capabilities: Capabilities, model: str, *, infill: bool
) -> None:
    """Whether the model can answer it; settles what is not the model's affair."""
    if internal.path == EMBEDDINGS_PATH:
        _check_embeddings(capabilities, model)
        return
    if infill:
        fill_in.check(internal.body, capabilities, model)
    if internal.path == CHAT_PATH:
        internal.notices += abilities.check_chat(internal.body, capabilities, model)
    else:
        openai_text.settle(internal, capabilities, model)


def _check_embeddings(capabilities: Capabilities, model: str) -> None:
    if not capabilities.embeddings:
        raise RequestError(
            f"The model {model!r} is not served for embeddings: set 'embeddings: true' in its "
            "engine's section, or ask another model.",
            code="unsupported_by_model",
            param="model",
        )
