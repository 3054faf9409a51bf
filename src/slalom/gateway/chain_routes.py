"""The routes of chains: open one, see how far it is and what is to come, give it up.

Owns their documents and the reading of a chain's description. A key sees its own chains and no
others. A table of documents as protocols have; mounted by `app`.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from slalom.core.chain import STEPS_MAX, Later, Link
from slalom.core.events import ChainAbandoned, ChainOpened
from slalom.errors import OverloadedError, RequestError
from slalom.gateway.chain_words import DEADLINE_MS_MAX, checked_deadline, checked_name
from slalom.gateway.chains import ID_HEAD, OpenChain
from slalom.gateway.protocols.frame import SideAsk, SideRoute, WireProtocol
from slalom.gateway.request_body import TOKENS_MAX
from slalom.gateway.shared import Shared
from slalom.units import MS, ms_to_ns
from slalom.workload.chains import ChainSpec, StepSpec, later_of, problem_of

PATH = "/v1/chains"
#: Of a chain whose first call has not come: what its prompt is thought to be, tokens.
_PROMPT_TOKENS = 512
_STEP_FIELDS = frozenset(
    ("name", "model", "task", "prompt_tokens", "output_tokens", "gap_ms", "then")
)
_FIELDS = frozenset(("template", "steps", "deadline_ms"))


def protocol() -> WireProtocol:
    """The table."""
    return WireProtocol(
        "chains",
        {},
        side_routes=(
            SideRoute(PATH, _open, ("POST",)),
            SideRoute(PATH + "/{id}", _show),
            SideRoute(PATH + "/{id}", _abandon, ("DELETE",)),
        ),
    )


async def _open(ask: SideAsk) -> Response:
    """Take a chain's description, and announce it to the scheduler."""
    shared, body = ask.shared, await ask.document()
    if shared.draining:
        raise OverloadedError("The server is shutting down.", retry_after_s=5, code="draining")
    unknown = next((name for name in body if name not in _FIELDS), None)
    if unknown is not None:
        raise _wrong(unknown[:64], f"is not known; use {', '.join(sorted(_FIELDS))}")
    spec = _described(shared, body)
    deadline_ms = spec.deadline_ms
    if body.get("deadline_ms") is not None:
        deadline_ms = checked_deadline("deadline_ms", body["deadline_ms"])
    now_ns = shared.runtime.now_ns()
    chain = OpenChain(_owner(ask), f"{ID_HEAD}{secrets.token_hex(12)}", now_ns)
    chain.spec, chain.steps, chain.is_opened = spec, spec.length, True
    chain.deadline_ns = now_ns + ms_to_ns(deadline_ms) if deadline_ms else -1
    shared.chains.open(chain)
    link = Link(chain.id, 0, chain.steps, chain.deadline_ns, _to_come(shared, chain))
    shared.runtime.post(ChainOpened(chain.key, link))
    return _json(document(shared, chain, now_ns))


async def _show(ask: SideAsk) -> Response:
    """How far a chain is."""
    chain = ask.shared.chains.find(_owner(ask), ask.request.path_params["id"])
    return _json(document(ask.shared, chain, ask.shared.runtime.now_ns()))


async def _abandon(ask: SideAsk) -> Response:
    """End what waits and runs for a chain, and take no further call of it."""
    chain = ask.shared.chains.find(_owner(ask), ask.request.path_params["id"])
    now_ns = ask.shared.runtime.now_ns()
    if chain.status(now_ns, ask.shared.chains.idle_ns) not in {"done", "abandoned"}:
        chain.abandoned = True
        ask.shared.runtime.post(ChainAbandoned(chain.key, chain.id))
    return _json(document(ask.shared, chain, now_ns))


def document(shared: Shared, chain: OpenChain, now_ns: int) -> dict[str, Any]:
    """A chain with its progress, and what is expected of the rest."""
    status = chain.status(now_ns, shared.chains.idle_ns)
    later = () if status in {"done", "abandoned"} else _to_come(shared, chain)
    expected_ns = [shared.runtime.foretell(one) for one in later]
    names = [one.name for one in _steps_to_come(chain)] if later else []
    rest_ns = sum(expected_ns) + sum(one.gap_ns for one in later)
    found: dict[str, Any] = {
        "id": chain.id,
        "object": "chain",
        "status": status,
        "template": chain.spec.name or None if chain.spec is not None else None,
        "steps": chain.steps or None,
        "done": chain.done,
        "next": chain.next_step() or None,
        "running": len(chain.live),
        "predicted_ms": _ms(rest_ns),
        "remaining_ms": None,
        "slack_ms": None,
        "expected": [
            {
                "step": chain.done + 1 + place,
                "name": names[place] if place < len(names) else None,
                "model": one.model,
                "task": one.task,
                "gap_ms": _ms(one.gap_ns),
                "predicted_ms": _ms(expected_ns[place]),
            }
            for place, one in enumerate(later)
        ],
    }
    if chain.deadline_ns >= 0:
        found["remaining_ms"] = _ms(chain.deadline_ns - now_ns)
        found["slack_ms"] = _ms(chain.deadline_ns - now_ns - rest_ns)
    return found


def _to_come(shared: Shared, chain: OpenChain) -> tuple[Later, ...]:
    return later_of(_steps_to_come(chain), shared.params.tasks, _PROMPT_TOKENS, 0)


def _steps_to_come(chain: OpenChain) -> tuple[StepSpec, ...]:
    """Steps on the longest way that have no answer yet; none where steps have no names."""
    at = chain.next_step()
    if chain.spec is None or not at:
        return ()
    return (chain.spec.steps[at], *chain.spec.after(at))


def _described(shared: Shared, body: Mapping[str, Any]) -> ChainSpec:
    """The chain that a body describes: a template, or steps of its own."""
    template, steps = body.get("template"), body.get("steps")
    if (template is None) == (steps is None):
        raise _wrong("steps", "or template is needed, and not both")
    if template is not None:
        return shared.chains.template(checked_name("template", template))
    if not isinstance(steps, list) or not 1 <= len(steps) <= STEPS_MAX:
        raise _wrong("steps", f"must be a list of 1 to {STEPS_MAX} objects")
    read = [_step(shared, place, step) for place, step in enumerate(steps)]
    problem = problem_of(read)
    if problem:
        raise RequestError(
            f"The chain cannot be run: {problem}.", code="impossible_chain", param="steps"
        )
    return ChainSpec("", read)


def _step(shared: Shared, place: int, step: object) -> StepSpec:
    at = f"steps[{place}]"
    if not isinstance(step, dict):
        raise _wrong(at, "must be an object with model and, as needed, task, name, gap_ms …")
    unknown = next((name for name in step if name not in _STEP_FIELDS), None)
    if unknown is not None:
        raise _wrong(f"{at}.{unknown[:64]}", f"is not known; use {', '.join(sorted(_STEP_FIELDS))}")
    model = step.get("model")
    if not isinstance(model, str) or not model:
        raise _wrong(f"{at}.model", "is needed: the id of a model (GET /v1/models lists them)")
    named = shared.catalogue.find(model)
    task = step.get("task")
    task = named.task or named.model.default_task if task is None else task
    task = shared.params.default_task if task is None else task
    if not isinstance(task, str) or not task:
        raise _wrong(f"{at}.task", "must be the name of a task")
    if task not in shared.params.tasks:
        known = ", ".join(shared.params.tasks)
        raise RequestError(
            f"{at}.task: there is no task {str(task)[:64]!a}; use one of {known}.",
            code="task_not_found",
            param=f"{at}.task",
        )
    name = step.get("name")
    return StepSpec(
        name=f"step-{place + 1}" if name is None else checked_name(f"{at}.name", name),
        model=named.model.id,
        task=task,
        prompt_tokens=_tokens(at, step, "prompt_tokens"),
        output_tokens=_tokens(at, step, "output_tokens"),
        gap_ms=_gap_ms(at, step.get("gap_ms")),
        then=_then(at, step.get("then")),
    )


def _tokens(at: str, step: Mapping[str, Any], name: str) -> int:
    value = step.get(name)
    if value is None:
        return 0
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < TOKENS_MAX:
        raise _wrong(f"{at}.{name}", f"must be an integer from 0 to {TOKENS_MAX - 1}")
    return value


def _gap_ms(at: str, value: object) -> float:
    if value is None:
        return 0.0
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= DEADLINE_MS_MAX:  # type: ignore[operator]
        raise _wrong(f"{at}.gap_ms", f"must be a number from 0 to {DEADLINE_MS_MAX}")
    return float(value)  # type: ignore[arg-type]


def _then(at: str, value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    names: Sequence[object] = value if isinstance(value, list) else [value]
    if len(names) > STEPS_MAX:
        raise _wrong(f"{at}.then", f"must name at most {STEPS_MAX} steps")
    return tuple(checked_name(f"{at}.then", name) for name in names)


def _owner(ask: SideAsk) -> str:
    return ask.key.name if ask.key is not None else ""


def _ms(duration_ns: float) -> float:
    return round(duration_ns / MS, 3)


def _wrong(param: str, what: str) -> RequestError:
    return RequestError(f"{param} {what}.", code="invalid_chain", param=param)


def _json(found: object) -> Response:
    return Response(msgspec.json.encode(found), media_type="application/json")
