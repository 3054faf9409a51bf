"""The admin plane of residency: what an operator asks of models, dry runs, and a feed of changes.

Owns these routes' documents; who may see them is `cold_routes`'s care. What an ask leads to is the
scheduler's: an answer here says that it was begun (202), or why not. Called by `cold_routes`.
"""

import asyncio
from collections.abc import AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from slalom.core.actions import AskRefused, Reason
from slalom.core.events import Ask, ModelAsked
from slalom.errors import OverloadedError, RequestError
from slalom.gateway.admin_feed import DecisionLog, Feed
from slalom.gateway.error_table import failure_of
from slalom.gateway.replies import error_body
from slalom.gateway.runtime_port import RuntimePort
from slalom.gateway.shared import Shared
from slalom.gateway.side_routes import Endpoint
from slalom.units import SECOND

#: Every route on which something is asked of a model.
ASK_PATHS = {f"/admin/models/{{name:path}}/{what.value}": what for what in Ask}
#: Clients of the feed at a time.
_FEEDS_MAX = 16
#: How often a feed looks whether the server ends, and after how many such looks without news it
#: says that it is alive.
_LOOK_S = 0.5
_LOOKS_TO_COMMENT = 20


class Admin:
    """The documents of these routes.

    Args:
        shared: What all routes share.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._feeds: set[Feed] = set()
        self._decisions = DecisionLog()
        shared.runtime.on_step.append(self._decisions.see)

    def asks(self, what: Ask) -> Endpoint:
        """The route on which this is asked of a model."""

        async def ask(request: Request) -> Response:
            return self._ask(request, what)

        return ask

    def _ask(self, request: Request, what: Ask) -> Response:
        model = self._shared.catalogue.find(request.path_params["name"]).model.id
        refusal = self._shared.runtime.ask(ModelAsked(model, what, self._shared.new_id()))
        if refusal is not None:
            return _refused(refusal)
        states = {one.id: one.state for one in self._shared.runtime.snapshot().models}
        document = {"model": model, "asked": what.value, "state": states.get(model, "")}
        return _json(document, 202)

    async def reload(self, request: Request) -> Response:
        """Read the configuration anew, or only tell what that would do."""
        reloader = self._shared.reloader
        if reloader is None:
            raise RequestError(
                "This server was not begun from a configuration that it could read anew.",
                code="not_reloadable",
            )
        if self._shared.draining:
            raise OverloadedError(
                "The server is shutting down.", retry_after_s=5, code=Reason.DRAINING.value
            )
        dry_run = request.query_params.get("dry_run", "false").lower()
        if dry_run not in {"true", "1", "false", "0"}:
            raise RequestError("dry_run must be true or false.", param="dry_run")
        return _json(await reloader(dry_run in {"true", "1"}))

    async def plan(self, request: Request) -> Response:
        """What bringing a model up would take: who would give way, and why."""
        name = request.query_params.get("model", "")
        if not name:
            raise RequestError("Name the model: /admin/plan?model=ID.", param="model")
        plan = self._shared.runtime.plan(self._shared.catalogue.find(name).model.id)
        if plan is None:
            raise RequestError(f"The scheduler has no model {name[:200]!r}.", code="not_found")
        document = msgspec.to_builtins(plan)
        for key in ("patience", "takes"):
            waits_ns = document.pop(f"{key}_ns")
            document[f"{key}_s"] = waits_ns / SECOND if waits_ns >= 0 else None
        return _json(document)

    async def evictions(self, request: Request) -> Response:
        """The last evictions, each with the score of everyone who could have given way."""
        return _json({"object": "list", "data": self._decisions.documents()})

    async def events(self, request: Request) -> Response:
        """What is loaded, put to sleep, woken and evicted, as it happens (SSE)."""
        if len(self._feeds) >= _FEEDS_MAX:
            raise OverloadedError(
                f"{_FEEDS_MAX} clients read the events already.",
                retry_after_s=5,
                code="too_many_requests",
            )
        return StreamingResponse(self._told(), media_type="text/event-stream")

    async def _told(self) -> AsyncIterator[bytes]:
        feed = Feed()
        on_step = self._shared.runtime.on_step
        self._feeds.add(feed)
        on_step.append(feed.see)
        looks = 0
        try:
            yield b": residency events\n\n"
            while not self._shared.draining:
                news = await feed.news(_LOOK_S)
                looks = 0 if news else looks + 1
                if news:
                    yield news
                elif looks % _LOOKS_TO_COMMENT == 0:
                    yield b": alive\n\n"
                if feed.overrun:
                    yield b'event: dropped\ndata: {"reason":"this client reads too slowly"}\n\n'
                    return
                await asyncio.sleep(0)
        finally:
            on_step.remove(feed.see)
            self._feeds.discard(feed)


def pinned(runtime: RuntimePort, model: str, request_id: str) -> tuple[str, ...]:
    """Pin a model because a request says so; what its client is told if that cannot be."""
    refusal = runtime.ask(ModelAsked(model, Ask.PIN, f"pin-{request_id}"))
    return () if refusal is None else (f"not pinned: {refusal.detail}",)


def _refused(refusal: AskRefused) -> Response:
    """The error, with needed, free and by whom."""
    failure = failure_of(refusal.reason, f"{refusal.model} cannot {refusal.what}: {refusal.detail}")
    body = msgspec.json.decode(error_body(failure))
    body["error"]["needed_bytes"] = refusal.needed_bytes
    body["error"]["free_bytes"] = refusal.free_bytes
    body["error"]["holders"] = msgspec.to_builtins(refusal.holders)
    return _json(body, failure.status)


def _json(document: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json")
