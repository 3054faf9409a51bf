"""Ollama's documents about models: which there are, which run, what they are; pull and delete.

Owns the side routes. Models come from the configuration, so that pulling one that is there
succeeds at once, and everything that would change the set of models is refused. Used by `ollama`.
"""

import hashlib
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from slalom import __version__
from slalom.core.snapshot import ModelState
from slalom.errors import RequestError
from slalom.gateway.params import ServedModel
from slalom.gateway.protocols.frame import SideAsk, SideRoute
from slalom.gateway.protocols.ollama_answer import line, timestamp
from slalom.gateway.protocols.ollama_request import flag_of, wrong
from slalom.gateway.replies import json_response
from slalom.gateway.shared import Shared

#: What Ollama and its clients add to a name that has no tag.
_TAG = ":latest"
#: The version of Ollama whose API this is; clients ask for a lowest one.
API_VERSION = "0.13.5"
#: No time limit keeps a model here; clients read this far away as "forever".
_FOREVER = "9999-12-31T23:59:59Z"
_STREAM = "application/x-ndjson"
_GIGA, _MEGA = 10**9, 10**6


def spellings(name: str) -> tuple[str, ...]:
    """A name, and the same with or without the tag that means nothing."""
    if name.endswith(_TAG):
        return name, name.removesuffix(_TAG)
    return (name,) if ":" in name else (name, name + _TAG)


def named(shared: Shared, document: dict[str, Any]) -> ServedModel:
    """The model that a document names, in the newer field or the older one.

    Raises:
        RequestError: None is named, or it is not served here.
    """
    name = document.get("model") or document.get("name")
    if not isinstance(name, str) or not name:
        raise wrong("model", "is needed: the name of a model (GET /api/tags lists them)")
    catalogue = shared.catalogue
    for spelling in spellings(name):
        try:
            return catalogue.find(spelling).model
        except RequestError:
            continue
    return catalogue.find(name).model


async def _hello(_ask: SideAsk) -> Response:
    return PlainTextResponse("Ollama is running")


async def _version(_ask: SideAsk) -> Response:
    return json_response({"version": API_VERSION, "slalom": __version__})


async def _tags(ask: SideAsk) -> Response:
    shared = ask.shared
    return json_response({"models": [_card(shared, model) for model in shared.catalogue.models]})


async def _running(ask: SideAsk) -> Response:
    shared = ask.shared
    states = {model.id: model for model in shared.runtime.snapshot().models}
    found: list[dict[str, Any]] = []
    for model in shared.catalogue.models:
        state = states.get(model.id)
        if state is None or state.state not in {ModelState.READY, ModelState.DRAINING}:
            continue
        booked = sum(replica.booked_bytes for replica in state.replicas)
        found.append(
            {
                **_card(shared, model),
                "size": booked,
                "size_vram": booked if model.facts.on_gpu else 0,
                "context_length": model.facts.context_tokens,
                "expires_at": _FOREVER,
            }
        )
    return json_response({"models": found})


async def _show(ask: SideAsk) -> Response:
    model = named(ask.shared, await ask.document())
    facts = model.facts
    kind = facts.architecture or "unknown"
    info: dict[str, Any] = {
        "general.architecture": kind,
        "general.basename": model.id,
        "general.parameter_count": facts.parameter_count,
    }
    if facts.context_tokens:
        info[f"{kind}.context_length"] = facts.context_tokens
    if facts.embedding_width:
        info[f"{kind}.embedding_length"] = facts.embedding_width
    return json_response(
        {
            "modelfile": f"# {model.id} is configured in Slalom\n",
            "parameters": f"num_ctx {facts.context_tokens}" if facts.context_tokens else "",
            "template": "{{ .Prompt }}",
            "details": _details(model),
            "model_info": info,
            "capabilities": _capabilities(ask.shared, model),
            "modified_at": _modified(ask.shared, model),
        }
    )


def _capabilities(shared: Shared, model: ServedModel) -> list[str]:
    """In Ollama's words. That a model sees pictures is never known for sure."""
    can = shared.runtime.capabilities(model.id)
    found = ["completion"]
    if model.facts.chats and can.tools:
        found.append("tools")
    if can.fim is not None:
        found.append("insert")
    if model.facts.thinks:
        found.append("thinking")
    if can.embeddings:
        found.append("embedding")
    return found


async def _pull(ask: SideAsk) -> Response:
    document = await ask.document()
    stream = flag_of(document, "stream", default=True)
    try:
        model = named(ask.shared, document)
    except RequestError as problem:
        if problem.code != "model_not_found":
            raise
        raise RequestError(
            f"{problem} Models are not downloaded on request: fetch it with 'slalom models pull' "
            "and add it under 'models' in the configuration.",
            code=problem.code,
            param="model",
        ) from None
    if not stream:
        return json_response({"status": "success"})
    size, digest = model.facts.file_bytes, _digest(model)
    layer = {"digest": f"sha256:{digest}", "total": size, "completed": size}
    told: tuple[dict[str, Any], ...] = (
        {"status": "pulling manifest"},
        {"status": f"pulling {digest[:12]}", **layer},
        {"status": "success"},
    )
    return Response(b"".join(line(document) for document in told), media_type=_STREAM)


async def _refused(ask: SideAsk) -> Response:
    path = ask.request.url.path
    raise RequestError(
        f"{path} is not done here: which models there are is decided by the configuration. "
        "Change its 'models' section instead.",
        code="configured_models_only",
    )


def _card(shared: Shared, model: ServedModel) -> dict[str, Any]:
    return {
        "name": model.id,
        "model": model.id,
        "modified_at": _modified(shared, model),
        "size": model.facts.file_bytes,
        "digest": _digest(model),
        "details": _details(model),
    }


def _details(model: ServedModel) -> dict[str, Any]:
    facts = model.facts
    return {
        "parent_model": "",
        "format": facts.file_format,
        "family": facts.architecture,
        "families": [facts.architecture] if facts.architecture else [],
        "parameter_size": _count(facts.parameter_count),
        "quantization_level": facts.quantisation,
    }


def _count(parameters: int) -> str:
    """A number of parameters as Ollama writes it."""
    if parameters >= _GIGA:
        return f"{parameters / _GIGA:.1f}B"
    return f"{parameters / _MEGA:.2f}M" if parameters else ""


def _modified(shared: Shared, model: ServedModel) -> str:
    return timestamp(model.facts.modified_s or shared.started_s)


def _digest(model: ServedModel) -> str:
    """What tells this model from others; not the digest of its bytes, which nobody has read."""
    facts = model.facts
    text = f"{model.id} {facts.file_bytes} {facts.modified_s} {facts.quantisation}"
    return hashlib.sha256(text.encode()).hexdigest()


def _no_browser(request: Request) -> bool:
    """A page at the root, where there is one, is for those who want a page."""
    return "text/html" not in request.headers.get("accept", "")


SIDE_ROUTES = (
    SideRoute("/", _hello, claims=_no_browser),
    SideRoute("/api/version", _version),
    SideRoute("/api/tags", _tags),
    SideRoute("/api/ps", _running),
    SideRoute("/api/show", _show, ("POST",)),
    SideRoute("/api/pull", _pull, ("POST",)),
    SideRoute("/api/delete", _refused, ("DELETE",)),
    SideRoute("/api/copy", _refused, ("POST",)),
    SideRoute("/api/create", _refused, ("POST",)),
    SideRoute("/api/push", _refused, ("POST",)),
    SideRoute("/api/blobs/{digest}", _refused, ("HEAD", "POST")),
)
