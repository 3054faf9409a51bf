"""llama.cpp's own protocol: completions, infill, and the documents of its server.

Owns the table, how bodies are read, and which model is meant where none is named: this protocol
knows only one. Any engine can stand behind it. How answers are written is `llama_cpp_answer`'s,
the documents are `llama_cpp_documents`'s. Built by `registry`.
"""

from typing import Any

from slalom.errors import RequestError
from slalom.gateway.params import GatewayParams
from slalom.gateway.protocols import llama_cpp_documents
from slalom.gateway.protocols.frame import Asked, Internal, WireProtocol
from slalom.gateway.protocols.llama_cpp_answer import CompletionTeller, Told, error_body
from slalom.gateway.protocols.translation import Translated
from slalom.gateway.request_body import whole_items
from slalom.gateway.resolution import COMPLETIONS_PATH

#: What is said in other words to the engine, or only concerns the form of the answer.
_CONSUMED = frozenset(
    (
        *("model", "prompt", "stream", "n_probs", "response_fields", "return_tokens"),
        *("input_prefix", "input_suffix", "return_progress", "timings_per_token", "suffix", "echo"),
        *("stream_options", "logprobs"),
    )
)
#: Fields that ask for several answers, of which this form of answer has no word.
_COUNTS = ("n", "n_cmpl", "best_of")
_PROBS_MAX = 1000
#: Whose model fills in where none is named.
_TASK = llama_cpp_documents.COMPLETION


def protocol(params: GatewayParams) -> WireProtocol:
    """The table."""
    reads = _Reads(params)
    return WireProtocol(
        name="llama.cpp",
        reads={
            "/completion": reads.completion,
            "/completions": reads.completion,
            "/infill": reads.infill,
        },
        error_body=error_body,
        side_routes=llama_cpp_documents.SIDE_ROUTES,
        reload=reads.reload,
    )


class _Reads:
    """Reads bodies, knowing which models there are.

    Args:
        params: What the gateway was told.
    """

    def __init__(self, params: GatewayParams) -> None:
        self._models = params.models

    def reload(self, params: GatewayParams) -> None:
        """Other models are there."""
        self._models = params.models

    def completion(self, asked: Asked) -> Internal:
        """A text that goes on behind a prompt."""
        prompt = asked.body.get("prompt")
        if isinstance(prompt, dict):
            prompt = _prompt_object(prompt)
        if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
            prompt = prompt[0]
        if isinstance(prompt, list):
            prompt = whole_items(prompt)
        if isinstance(prompt, list) and (
            not prompt or any(type(part) not in {str, int} for part in prompt)
        ):
            raise _wrong("prompt", "must be a text or a list of texts and tokens")
        if isinstance(prompt, list) and all(isinstance(part, str) for part in prompt):
            raise _wrong("prompt", "must be one: several at a time are taken by /v1/completions")
        if not isinstance(prompt, str | list):
            raise _wrong("prompt", "must be a text or a list of texts and tokens")
        return self._internal(asked, {"prompt": prompt}, "")

    def infill(self, asked: Asked) -> Internal:
        """A text that fills the gap at a cursor; `prompt` is what of its line is typed already."""
        body = asked.body
        before, after, typed = (
            _text(body, name, needed=name != "prompt")
            for name in ("input_prefix", "input_suffix", "prompt")
        )
        _check_extra(body.get("input_extra"))
        found = self._internal(asked, {"prompt": before + typed, "suffix": after}, _TASK)
        found.at_cursor = True
        return found

    def _internal(self, asked: Asked, text: dict[str, Any], task: str) -> Internal:
        body = asked.body
        name, notices = self._model(body.get("model"), task)
        stream = body.get("stream")
        if not isinstance(stream, bool | None):
            raise _wrong("stream", "must be true or false")
        fields = {one: value for one, value in body.items() if one not in _CONSUMED}
        for count in _COUNTS:
            if fields.pop(count, 1) not in (None, 1):
                raise _wrong(count, "must be 1: several answers are given by /v1/completions")
        settings = dict(fields)
        _limit(fields)
        fields |= {"model": name, **text}
        if stream:
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
        probs = _number(body, "n_probs")
        if probs:
            fields["logprobs"] = probs
        slot = body.get("id_slot")
        told = Told(
            name,
            text["prompt"],
            id_slot=slot if isinstance(slot, int) else -1,
            settings={one: value for one, value in settings.items() if one != "input_extra"},
            fields=_names(body),
        )
        writer = Translated(CompletionTeller(told))
        return Internal(COMPLETIONS_PATH, fields, writer, notices=notices)

    def _model(self, name: object, task: str) -> tuple[str, tuple[str, ...]]:
        """The model that is named; else the one for the task, else the first."""
        if name is not None:
            if not isinstance(name, str) or not name:
                raise _wrong("model", "must be the id of a model (GET /v1/models lists them)")
            return name, ()
        model = llama_cpp_documents.unnamed(self._models, task)
        if len(self._models) == 1:
            return model.id, ()
        return model.id, (f"no model was named: {model.id} answers",)


def _limit(fields: dict[str, Any]) -> None:
    """Say the limit in the word that every engine knows; below 0 it is none, 0 is a warm-up."""
    limit = fields.get("n_predict")
    if isinstance(limit, bool) or not isinstance(limit, int):
        return  # the check of the internal form says what is wrong with it
    if limit > 0:
        fields["max_tokens"] = limit
    if limit != 0:
        del fields["n_predict"]


def _wrong(name: str, what: str) -> RequestError:
    return RequestError(f"{name}: {what}.", param=name)


def _text(body: dict[str, Any], name: str, *, needed: bool) -> str:
    value = body.get(name)
    if value is None and not needed:
        return ""
    if not isinstance(value, str):
        raise _wrong(name, "must be a text")
    return value


def _prompt_object(prompt: dict[str, Any]) -> str:
    if prompt.get("multimodal_data") not in (None, []):
        raise _wrong("prompt.multimodal_data", "is not taken here: send pictures in a chat")
    text = prompt.get("prompt_string")
    if not isinstance(text, str):
        raise _wrong("prompt.prompt_string", "must be a text")
    return text


def _check_extra(extra: object) -> None:
    if extra is None:
        return
    if not isinstance(extra, list):
        raise _wrong("input_extra", "must be a list of files")
    for index, file in enumerate(extra):
        text = file.get("text") if isinstance(file, dict) else None
        name = file.get("filename") if isinstance(file, dict) else None
        if not isinstance(text, str) or not isinstance(name, str | None):
            raise _wrong(f"input_extra[{index}]", "must have a text and may have a filename")


def _number(body: dict[str, Any], name: str) -> int:
    value = body.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _PROBS_MAX:
        raise _wrong(name, f"must be a whole number from 0 to {_PROBS_MAX}")
    return value


def _names(body: dict[str, Any]) -> tuple[str, ...]:
    names = body.get("response_fields")
    if names is None:
        return ()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _wrong("response_fields", "must be a list of names")
    return tuple(names)
