"""Tabby's protocol: completions by segments, health, and what became of suggestions.

Owns the table and the reading of requests. Tabby's completions have OpenAI's path and are told by
their body; they name no model and are never streamed. What editors report of suggestions is
`feedback`'s. Built by `registry`.
"""

import platform
from typing import Any

from starlette.responses import Response

from slalom import __version__
from slalom.errors import RequestError
from slalom.gateway.params import GatewayParams, ServedModel
from slalom.gateway.protocols.frame import Asked, Internal, SideAsk, SideRoute, WireProtocol
from slalom.gateway.protocols.tabby_answer import ChoiceTeller
from slalom.gateway.protocols.tabby_feedback import Feedback
from slalom.gateway.protocols.translation import Translated
from slalom.gateway.replies import json_response
from slalom.gateway.resolution import COMPLETIONS_PATH

#: Answer limit, tokens: what Tabby's own server takes by default.
TOKENS_MAX = 64
#: Version of Tabby whose API this is: from 0.9 on clients ask for `server_setting`.
_SPOKEN_VERSION = "v0.20.0"
#: Whose models these clients complete with, if one has this name.
_TASK = "completion"
#: Lists of other code in `segments`, in the order in which a model reads them.
_SNIPPETS = (
    "declarations",
    "relevant_snippets_from_recently_opened_files",
    "relevant_snippets_from_changed_files",
)


def protocol(params: GatewayParams) -> WireProtocol:
    """The table."""
    tabby = _Tabby(params)
    return WireProtocol(
        name="tabby",
        reads={COMPLETIONS_PATH: tabby.read},
        claims=_is_tabby,
        side_routes=(
            SideRoute("/v1/health", tabby.health, ("GET", "POST")),
            SideRoute("/v1/events", tabby.event, ("POST",)),
            SideRoute("/v1beta/server_setting", _settings),
            SideRoute("/admin/feedback", tabby.told, admin=True),
        ),
        reload=tabby.reload,
    )


def _is_tabby(asked: Asked) -> bool:
    return "segments" in asked.body and "prompt" not in asked.body


class _Tabby:
    """Knows which model completes.

    Args:
        params: What the gateway was told.
    """

    def __init__(self, params: GatewayParams) -> None:
        self._model = completing(params.models)
        self._feedback = Feedback(params.feedback_max)

    def __repr__(self) -> str:
        return f"<Tabby model={self._model!r}>"

    def reload(self, params: GatewayParams) -> None:
        """Other models are there."""
        self._model = completing(params.models)

    def read(self, asked: Asked) -> Internal:
        """A completion at the cursor."""
        given = asked.body
        segments = given.get("segments")
        if not isinstance(segments, dict):
            raise RequestError("segments must be an object with a prefix.", param="segments")
        body: dict[str, Any] = {
            "model": self._model if given.get("model") is None else given["model"],
            "prompt": _text(segments, "prefix", needed=True),
            "suffix": _text(segments, "suffix"),
            "filename": _text(segments, "filepath"),
            "repository": _repository(_text(segments, "git_url")),
            "input_extra": _extra(segments),
            "max_tokens": TOKENS_MAX,
            "temperature": 0 if given.get("temperature") is None else given["temperature"],
        }
        if given.get("seed") is not None:
            body["seed"] = given["seed"]
        user = given.get("user")
        if isinstance(user, str):
            body["user"] = user
        teller = ChoiceTeller(asked.request_id)
        return Internal(COMPLETIONS_PATH, body, Translated(teller), at_cursor=True)

    async def health(self, ask: SideAsk) -> Response:
        """What Tabby's clients ask first; without a model and a device they take us for dead."""
        ask.shared.catalogue.find(self._model)
        return json_response(
            {
                "model": self._model,
                "device": "slalom",
                "arch": platform.machine(),
                "cpu_info": "",
                "cpu_count": 0,
                "cuda_devices": [],
                "version": {
                    "build_date": f"slalom {__version__}",
                    "build_timestamp": "",
                    "git_sha": "",
                    "git_describe": _SPOKEN_VERSION,
                },
            }
        )

    async def event(self, ask: SideAsk) -> Response:
        """What somebody did with a suggestion; forgotten at once where nobody wants to know."""
        document = await ask.document()
        self._feedback.take(document, ask.key.name if ask.key is not None else "")
        return Response(status_code=200)

    async def told(self, ask: SideAsk) -> Response:
        """What is kept of such reports."""
        return json_response(self._feedback.document())


async def _settings(_ask: SideAsk) -> Response:
    """Asks clients to report to nobody else."""
    return json_response({"disable_client_side_telemetry": True})


def completing(models: tuple[ServedModel, ...]) -> str:
    """The model of clients that name none.

    1. The one that is called `completion`, as an alias or for its task.
    2. The first that knows fill-in-the-middle.
    3. The first.
    """
    if any(_TASK in (model.id, *model.aliases, *model.tasks) for model in models):
        return _TASK
    for model in models:
        if model.facts.fills:
            return model.id
    return models[0].id if models else ""


def _text(fields: dict[str, Any], name: str, *, needed: bool = False) -> str:
    value = fields.get(name)
    if isinstance(value, str):
        return value
    if needed or value is not None:
        raise RequestError(f"segments.{name} must be a text.", param=f"segments.{name}")
    return ""


def _extra(segments: dict[str, Any]) -> list[dict[str, str]]:
    """Other code, as files of the internal form; what was copied comes last."""
    found: list[dict[str, str]] = []
    for name in _SNIPPETS:
        listed = segments.get(name)
        if not isinstance(listed, list | None):
            raise RequestError(f"segments.{name} must be a list.", param=f"segments.{name}")
        for entry in listed or ():
            if not isinstance(entry, dict) or not isinstance(entry.get("body"), str):
                where = f"segments.{name}"
                raise RequestError(f"Each of {where} must have a body.", param=where)
            path = entry.get("filepath")
            found.append({"filename": path if isinstance(path, str) else "", "text": entry["body"]})
    copied = _text(segments, "clipboard")
    if copied.strip():
        found.append({"filename": "clipboard", "text": copied})
    return found


def _repository(url: str) -> str:
    """Name of a repository, of its address: no host, no credentials."""
    return url.rstrip("/").removesuffix(".git").rpartition("/")[2].rpartition(":")[2]
