"""Which task a request is, and the service levels it gets: header > body > key > rule > default.

Owns the order of the sources, the built-in recognition and the key's ceiling. Pure: a function
of the request's facts and the parameters. What the headers and fields are called is `declared`'s
business. Called once for every inference request.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slalom.core.request import Sla
from slalom.gateway.declared import Targets, body_targets, declared_by_body, declared_by_headers
from slalom.gateway.declared import header_targets as read_header_targets
from slalom.gateway.params import GatewayParams, KeyEntry, ServedModel, TaskRule
from slalom.units import ms_to_ns
from slalom.workload.tasks import TaskSpec, sla_for

CHAT_PATH = "/v1/chat/completions"
COMPLETIONS_PATH = "/v1/completions"
EMBEDDINGS_PATH = "/v1/embeddings"

#: Fill-in-the-middle with at most this many tokens counts as one line, as does a newline stop.
SINGLE_LINE_TOKENS = 32


@dataclass(slots=True)
class Facts:
    """What the resolution looks at; built for every request, hence not frozen."""

    #: Internal path.
    path: str
    #: Lower-case names; only the headers somebody may look at.
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    #: The `model` field as written, and what it stands for.
    model_name: str
    model: ServedModel
    #: Task declared by the model's name, or None.
    named_task: str | None
    key: KeyEntry | None
    prompt_tokens: int
    max_tokens: int
    #: Whether it is fill-in-the-middle: a suffix, or the model's own tokens in the prompt.
    fim: bool = False
    #: Path that the client asked, in its own protocol.
    client_path: str = ""


@dataclass(slots=True)
class Resolved:
    """The task, its objectives, and what the client should be told."""

    task: TaskSpec
    sla: Sla
    notices: tuple[str, ...] = ()


def resolve(facts: Facts, params: GatewayParams) -> Resolved:
    """Find the task of a request and its objectives.

    Raises:
        RequestError: A declared number is malformed; `param` names the header or field.
    """
    notices: list[str] = []
    task = params.tasks[_task_name(facts, params, notices)]
    targets = body_targets(facts.body)
    if facts.headers:
        targets = read_header_targets(facts.headers).over(targets)
    ceiling = _ceiling(facts.key, params)
    if ceiling is not None:
        if task.urgency_ms < ceiling.urgency_ms:
            notices.append(f"task {task.name} is above this key's class; served as {ceiling.name}")
            task = ceiling
        if targets:
            allowed = _clamped(targets, ceiling)
            if allowed != targets:
                notices.append(f"targets tighter than {ceiling.name} are above this key's class")
            targets = allowed
    sla = sla_for(task, facts.prompt_tokens)
    if targets:
        sla = Sla(
            ttft_ns=sla.ttft_ns if targets.ttft_ms is None else ms_to_ns(targets.ttft_ms),
            tpot_ns=sla.tpot_ns if targets.tpot_ms is None else ms_to_ns(targets.tpot_ms),
            e2e_ns=sla.e2e_ns if targets.e2e_ms is None else ms_to_ns(targets.e2e_ms),
        )
    return Resolved(task, sla, tuple(notices))


def _task_name(facts: Facts, params: GatewayParams, notices: list[str]) -> str:
    """The first known task in the order of the sources; unknown names are noted and skipped."""
    if facts.headers:
        declared = _known(declared_by_headers(facts.headers, notices), params, notices)
        if declared is not None:
            return declared
    declared = _known(declared_by_body(facts.body, facts.named_task), params, notices)
    if declared is not None:
        return declared
    of_key = facts.key.task if facts.key is not None else None
    if of_key is not None and of_key in params.tasks:
        return of_key
    for rule in params.rules:
        if rule.task in params.tasks and _matches(rule, facts):
            return rule.task
    name = _recognised(facts)
    return name if name is not None and name in params.tasks else params.default_task


def _known(name: str | None, params: GatewayParams, notices: list[str]) -> str | None:
    if name is None or name in params.tasks:
        return name
    notices.append(f"unknown task {name[:64]!a} ignored")
    return None


def _recognised(facts: Facts) -> str | None:
    """The built-in rules, by what a request looks like."""
    body = facts.body
    if facts.path == EMBEDDINGS_PATH:
        return "embedding"
    if facts.fim:
        return "completion" if _is_single_line(facts) else "completion-multiline"
    if body.get("tools"):
        return "agent"
    if facts.model.default_task is not None:
        return facts.model.default_task
    return "chat" if _has_history(body) else None


def _is_single_line(facts: Facts) -> bool:
    stop = facts.body.get("stop")
    return (
        facts.max_tokens <= SINGLE_LINE_TOKENS
        or stop == "\n"
        or (isinstance(stop, list) and "\n" in stop)
    )


def _has_history(body: Mapping[str, Any]) -> bool:
    messages = body.get("messages")
    return isinstance(messages, list) and any(
        isinstance(message, dict) and message.get("role") == "assistant" for message in messages
    )


def _matches(rule: TaskRule, facts: Facts) -> bool:
    if rule.path is not None and rule.path not in (facts.path, facts.client_path):
        return False
    if rule.model is not None and rule.model not in (facts.model_name, facts.model.id):
        return False
    if rule.header is not None and not _header_matches(rule.header, facts.headers):
        return False
    if rule.history is not None and rule.history is not _has_history(facts.body):
        return False
    return all(facts.body.get(name) for name in rule.has)


def _header_matches(wanted: str, headers: Mapping[str, str]) -> bool:
    name, colon, value = wanted.partition(":")
    present = headers.get(name.strip().lower())
    return present is not None and (not colon or present.strip() == value.strip())


def _ceiling(key: KeyEntry | None, params: GatewayParams) -> TaskSpec | None:
    if key is None:
        return None
    name = key.ceiling or key.task
    return params.tasks.get(name) if name is not None else None


def _clamped(targets: Targets, ceiling: TaskSpec) -> Targets:
    """Targets no tighter than the ceiling's; one that can only be infinite is dropped."""
    least_ms = ceiling.urgency_ms
    return Targets(
        ttft_ms=_at_least(
            targets.ttft_ms, least_ms if ceiling.ttft_ms is None else ceiling.ttft_ms
        ),
        tpot_ms=_at_least(targets.tpot_ms, ceiling.tpot_ms or 0.0),
        e2e_ms=_at_least(targets.e2e_ms, least_ms if ceiling.e2e_ms is None else ceiling.e2e_ms),
    )


def _at_least(value_ms: float | None, least_ms: float) -> float | None:
    if value_ms is None or least_ms == float("inf"):
        return None
    return max(value_ms, least_ms)
