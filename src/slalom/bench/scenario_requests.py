"""From the sizes of a scenario's load to requests that a server can be sent.

Owns the body (text of the drawn length, forced output length), the headers that declare task and
targets, and the choice of the server's model name. Sends nothing. Called by `scenario_run`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from slalom.bench.scenario_text import Texts
from slalom.units import MS
from slalom.workload.load import LoadItem
from slalom.workload.plan import DOCUMENT_HEADER, SESSION_HEADER, TASK_HEADER, PlannedRequest
from slalom.workload.prompts import CHAT_PATH, COMPLETIONS_PATH

#: The model name that stands for every one.
EVERY = "*"


@dataclass(frozen=True, slots=True)
class TokenSize:
    """Tokens of a text as the server counts them: `overhead` + characters / `chars_per_token`."""

    chars_per_token: float = 3.5
    #: Tokens that every prompt has on top: a chat template, a beginning mark.
    overhead: float = 0.0

    def chars(self, tokens: int) -> int:
        """Characters of a prompt of so many tokens; at least 1."""
        return max(round((tokens - self.overhead) * self.chars_per_token), 1)


@dataclass(frozen=True, slots=True)
class Speech:
    """How the server is spoken to."""

    #: Ask for chat answers; else for completions, whose lengths can be met more exactly.
    chat: bool = False
    #: Scenario's model -> the server's; `EVERY` stands for those not named.
    models: Mapping[str, str] = field(default_factory=dict)
    #: By the server's model name.
    sizes: Mapping[str, TokenSize] = field(default_factory=dict)
    #: Sent with every request: authorisation.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def model(self, name: str) -> str:
        """The server's name for a model of the scenario."""
        return self.models.get(name) or self.models.get(EVERY) or name


def planned(items: Sequence[LoadItem], texts: Texts, speech: Speech) -> list[PlannedRequest]:
    """The requests of a load, in its order."""
    return [_request(item, texts, speech) for item in items]


def _request(item: LoadItem, texts: Texts, speech: Speech) -> PlannedRequest:
    model = speech.model(item.model)
    size = speech.sizes.get(model, TokenSize())
    shared = size.chars(item.shared_tokens) if item.shared_tokens else 0
    text = texts.of(item, size.chars(item.prompt_tokens), shared)
    prompt: dict[str, object] = {"prompt": text}
    if speech.chat:
        prompt = {"messages": [{"role": "user", "content": text}]}
    body = {
        "model": model,
        **prompt,
        "max_tokens": item.output_tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return PlannedRequest(
        id=item.id,
        at_ns=max(item.at_ns, 0),
        task=item.task,
        model=item.model,
        path=CHAT_PATH if speech.chat else COMPLETIONS_PATH,
        headers={**_declared(item), **speech.headers},
        body=json.dumps(body).encode(),
        sla=item.sla,
        origin=str(texts.folder),
        give_up_after_ns=item.give_up_after_ns if item.give_up_after_ns >= 0 else None,
        then=_request(item.then, texts, speech) if item.then is not None else None,
        gap_ns=item.then.gap_ns if item.then is not None else 0,
        stale_after_ns=item.stale_after_ns if item.stale_after_ns >= 0 else None,
        retries=item.retries,
        link=item.link,
    )


def _declared(item: LoadItem) -> dict[str, str]:
    """Task, targets and document in headers that Slalom and others read; the rest ignore them."""
    sla = item.sla
    limits = {"ttft": sla.ttft_ns, "tpot": sla.tpot_ns, "e2e": sla.e2e_ns}
    targets = {
        f"x-slo-{name}-ms": f"{limit / MS:.6g}"
        for name, limit in limits.items()
        if limit is not None
    }
    document = {}
    if item.supersedes:
        session = item.session or item.supersedes
        document = {SESSION_HEADER: session, DOCUMENT_HEADER: item.supersedes}
    return {TASK_HEADER: item.task, **targets, **document, **_chain(item)}


def _chain(item: LoadItem) -> dict[str, str]:
    """The place in its chain, in headers that Slalom reads."""
    link = item.link
    if link is None:
        return {}
    words = {"x-slalom-chain": link.chain, "x-slalom-chain-step": str(link.step)}
    if link.steps:
        words["x-slalom-chain-steps"] = str(link.steps)
    if link.has_deadline and item.at_ns >= 0:
        words["x-slalom-chain-deadline-ms"] = f"{(link.deadline_ns - item.at_ns) / MS:.6g}"
    return words
