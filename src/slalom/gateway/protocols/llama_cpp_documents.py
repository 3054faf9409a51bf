"""llama.cpp's documents: properties, slots, tokens and templates.

Owns the side routes. Tokens and templates are asked of a running engine, whichever words it knows
for them (llama.cpp's, vLLM's); none is started for it. Where several models are served, `model` in
the query or the body says which one is meant. Used by `llama_cpp`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from slalom import __version__
from slalom.engines.protocol import Engine
from slalom.errors import OverloadedError, RequestError
from slalom.gateway import request_body
from slalom.gateway.params import ServedModel
from slalom.gateway.protocols.frame import SideAsk, SideRoute
from slalom.gateway.replies import json_response
from slalom.gateway.shared import Shared
from slalom.gateway.token_count import ask as ask_engine

#: The task of those who type.
COMPLETION = "completion"
#: Longest time to wait for an engine's answer, seconds.
_PATIENCE_S = 10.0
_CHAT_FIELDS = ("messages", "tools", "tool_choice", "chat_template_kwargs", "add_generation_prompt")


def unnamed(models: Sequence[ServedModel], task: str) -> ServedModel:
    """The model that is meant where none is named: the one for a task, else the first.

    Args:
        models: Those that are served.
        task: For completions the first that knows fill-in-the-middle comes before the others.

    Raises:
        RequestError: There is none at all.
    """
    for model in models:
        if task and task in (model.id, *model.tasks, *model.aliases):
            return model
    for model in models:
        if task == COMPLETION and model.facts.fills:
            return model
    if not models:
        raise RequestError("model: no model is served here.", code="model_not_found", param="model")
    return models[0]


def _model(shared: Shared, name: object) -> ServedModel:
    if name is None:
        return unnamed(shared.catalogue.models, COMPLETION)
    if not isinstance(name, str) or not name:
        raise RequestError(
            "model: must be the id of a model (GET /v1/models lists them).", param="model"
        )
    return shared.catalogue.find(name).model


async def _props(ask: SideAsk) -> Response:
    model = _model(ask.shared, ask.request.query_params.get("model"))
    facts = model.facts
    settings = {
        "n_predict": model.max_tokens_default or ask.shared.params.default_max_tokens,
        "max_tokens": model.max_tokens_default or ask.shared.params.default_max_tokens,
    }
    return json_response(
        {
            "default_generation_settings": {
                "n_ctx": facts.context_tokens,
                "params": settings,
            },
            "total_slots": facts.places,
            "model_alias": model.id,
            "model_path": model.id,
            "modalities": {"vision": False, "audio": False},
            "chat_template": "",
            "bos_token": "",
            "eos_token": "",
            "build_info": f"slalom-{__version__}",
        }
    )


async def _slots(ask: SideAsk) -> Response:
    """The places of a model's replicas. Which of them works is not known, only how many."""
    query = ask.request.query_params
    model = _model(ask.shared, query.get("model"))
    states = {one.id: one for one in ask.shared.runtime.snapshot().models}
    state = states.get(model.id)
    running = [replica.running for replica in state.replicas] if state is not None else []
    slots: list[dict[str, Any]] = []
    for busy in running or [0]:
        slots += [
            {
                "id": len(slots) + place,
                "id_task": -1,
                "n_ctx": model.facts.context_tokens,
                "speculative": False,
                "is_processing": place < busy,
            }
            for place in range(max(model.facts.places, busy, 1))
        ]
    if query.get("fail_on_no_slot") and all(slot["is_processing"] for slot in slots):
        raise OverloadedError("No slot is free.", retry_after_s=1, code="overloaded")
    return json_response(slots)


async def _tokenize(ask: SideAsk) -> Response:
    document = await ask.document()
    content = _typed(document, "content", str)
    model, engine = _engine(ask.shared, document)
    pieces = document.get("with_pieces") is True
    special = document.get("add_special") is True
    question = {
        "content": content,
        "add_special": special,
        "parse_special": document.get("parse_special") is not False,
        "with_pieces": pieces,
    }
    of_vllm = {
        "model": engine.model_name,
        "prompt": content,
        "add_special_tokens": special,
        "return_token_strs": pieces,
    }
    found = await _either(engine, "/tokenize", question, of_vllm, "tokens", model)
    tokens = found["tokens"]
    texts = found.get("token_strs")
    if pieces and isinstance(texts, list):
        tokens = [{"id": token, "piece": text} for token, text in zip(tokens, texts, strict=False)]
    return json_response({"tokens": tokens})


async def _detokenize(ask: SideAsk) -> Response:
    document = await ask.document()
    tokens = request_body.whole_items(_typed(document, "tokens", list))
    if not set(map(type, tokens)) <= {int}:
        raise RequestError("tokens: must be a list of whole numbers.", param="tokens")
    model, engine = _engine(ask.shared, document)
    return json_response({"content": await _text_of(engine, tokens, model)})


async def _apply_template(ask: SideAsk) -> Response:
    document = await ask.document()
    request_body.check_messages(document.get("messages"))
    model, engine = _engine(ask.shared, document)
    fields = {name: document[name] for name in _CHAT_FIELDS if name in document}
    rendered = await _patiently(engine, "/apply-template", fields)
    prompt = rendered.get("prompt")
    if not isinstance(prompt, str):  # vLLM tells tokens only
        of_vllm = {"model": engine.model_name, **fields}
        found = await _either(engine, "/tokenize", of_vllm, None, "tokens", model)
        prompt = await _text_of(engine, found["tokens"], model)
    return json_response({"prompt": prompt})


async def _text_of(engine: Engine, tokens: list[int], model: ServedModel) -> str:
    found = await _patiently(engine, "/detokenize", {"tokens": tokens})
    if not isinstance(found.get("content"), str):
        of_vllm = {"model": engine.model_name, "tokens": tokens}
        found = await _either(engine, "/detokenize", of_vllm, None, "prompt", model)
    text: str = found.get("content") or found.get("prompt") or ""
    return text


def _typed(document: Mapping[str, Any], name: str, kind: type) -> Any:
    value = document.get(name)
    if not isinstance(value, kind):
        raise RequestError(f"{name}: must be a {'text' if kind is str else 'list'}.", param=name)
    return value


def _engine(shared: Shared, document: Mapping[str, Any]) -> tuple[ServedModel, Engine]:
    """The model that a body names, and its running engine.

    Raises:
        OverloadedError: None of its engines runs.
    """
    model = _model(shared, document.get("model"))
    engine = shared.runtime.engine_of(model.id)
    if engine is None:
        raise OverloadedError(
            f"No engine of the model {model.id!r} runs now, and none is started to count tokens: "
            "send it a completion first.",
            retry_after_s=1,
            code="model_not_loaded",
        )
    return model, engine


async def _either(
    engine: Engine,
    path: str,
    question: Mapping[str, Any],
    other: Mapping[str, Any] | None,
    wanted: str,
    model: ServedModel,
) -> dict[str, Any]:
    """The answer to the first question that the engine understands.

    Raises:
        RequestError: It understands none.
    """
    for asked in (question, other):
        found = await _patiently(engine, path, asked) if asked is not None else {}
        if isinstance(found.get(wanted), list | str):
            return found
    raise RequestError(
        f"The engine of the model {model.id!r} does not offer {path} for this.",
        code="unsupported_by_model",
        param="model",
    )


async def _patiently(engine: Engine, path: str, question: Mapping[str, Any]) -> dict[str, Any]:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await ask_engine(engine, path, question)
    except TimeoutError:
        raise OverloadedError(
            "The engine is too busy to count tokens.", retry_after_s=1, code="overloaded"
        ) from None


SIDE_ROUTES = (
    SideRoute("/props", _props),
    SideRoute("/slots", _slots),
    SideRoute("/tokenize", _tokenize, ("POST",)),
    SideRoute("/detokenize", _detokenize, ("POST",)),
    SideRoute("/apply-template", _apply_template, ("POST",)),
)
