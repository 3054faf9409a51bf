"""The routes that are not on the hot path: models, health, readiness, metrics, admin.

Owns their documents and who may see them. Built on Starlette; its own 404 and 405 are answered
in OpenAI's shape. Called by `app` for every path that is not an inference route.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from slalom.core.snapshot import ModelSnapshot
from slalom.errors import RequestError, SlalomError
from slalom.gateway import openapi
from slalom.gateway.admin import ASK_PATHS, Admin
from slalom.gateway.dashboard import PATH as DASHBOARD_PATH
from slalom.gateway.dashboard import dashboard
from slalom.gateway.error_table import Failure, failure_of, failure_of_error
from slalom.gateway.ledger_metrics import status_document
from slalom.gateway.params import ServedAlias, ServedModel
from slalom.gateway.protocols.frame import WireProtocol
from slalom.gateway.replies import error_body, error_headers
from slalom.gateway.shared import Shared
from slalom.gateway.side_routes import Endpoint, credentials_of, side_routes
from slalom.units import SECOND, format_duration

_EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
#: Most records listed by `/admin/requests`.
_LISTED_MAX = 100


_SUMMARIES = {
    "/openapi.json": "This document.",
    "/v1/models": "The models, each with its state.",
    "/v1/models/{name:path}": "One model by any of its names.",
    "/health": "Whether the process answers.",
    "/ready": "Whether it is well.",
    "/metrics": "Metrics in Prometheus' text format.",
    **{path: f"Have a model {what.value}." for path, what in ASK_PATHS.items()},
    "/admin/reload": "Read the configuration anew: what it did to each model.",
    "/admin/plan": "What bringing a model up would take: a dry run.",
    "/admin/evictions": "The last evictions, with everyone's score.",
    "/admin/events": "Loads, sleeps, wakes and evictions as they happen (SSE).",
    "/admin/snapshot": "The scheduler's state in full.",
    "/admin/status": "The ledgers held against the devices.",
    "/admin/requests": "Records of the last ended requests.",
    "/admin/requests/{request_id:path}": "The record of one ended request.",
}


class ColdRoutes:
    """The documents of the cold routes.

    Args:
        shared: What all routes share.
        protocols: Those that are spoken here, with documents of their own.
    """

    def __init__(self, shared: Shared, protocols: Sequence[WireProtocol]) -> None:
        self._shared = shared
        self._protocols = protocols
        self._openapi: dict[str, Any] = {}
        self._built_in: list[tuple[str, str, str]] = []
        self._admin = Admin(shared)

    def starlette(self) -> Starlette:
        """The ASGI app that serves them."""
        routes = [
            Route("/openapi.json", self.openapi),
            Route("/v1/models", self._for_callers(self.models)),
            Route("/v1/models/{name:path}", self._for_callers(self.model)),
            Route("/health", self.health),
            Route("/ready", self.ready),
            Route("/metrics", self._for_callers(self.metrics)),
            *self._admin_routes(),
            Route("/admin/snapshot", self._for_admins(self.snapshot)),
            Route("/admin/status", self._for_admins(self.status)),
            Route("/admin/requests", self._for_admins(self.requests)),
            Route("/admin/requests/{request_id:path}", self._for_admins(self.request)),
        ]
        self._built_in = [
            (
                "get" if "GET" in (route.methods or ()) else "post",
                route.path,
                _SUMMARIES[route.path],
            )
            for route in routes
        ]
        self.describe()
        # For people, so that it is no part of the API's document.
        page = Route(DASHBOARD_PATH, dashboard)
        return Starlette(
            routes=[page, *side_routes(self._shared, self._protocols, routes)],
            exception_handlers={
                HTTPException: self._http_error,
                SlalomError: _slalom_error,
                Exception: _bug,
            },
        )

    def describe(self) -> None:
        """Make the API's document anew, of the models and keys that there are."""
        self._openapi = openapi.document(self._shared.params, self._protocols, self._built_in)

    async def openapi(self, request: Request) -> Response:
        """What there is, for machines."""
        return _json(self._openapi)

    def _admin_routes(self) -> list[Route]:
        """What an operator asks of models, and sees of them."""
        return [
            *(
                Route(path, self._for_admins(self._admin.asks(what)), methods=["POST"])
                for path, what in ASK_PATHS.items()
            ),
            Route("/admin/reload", self._for_admins(self._admin.reload), methods=["POST"]),
            Route("/admin/plan", self._for_admins(self._admin.plan)),
            Route("/admin/events", self._for_admins(self._admin.events)),
            Route("/admin/evictions", self._for_admins(self._admin.evictions)),
        ]

    async def models(self, request: Request) -> Response:
        """Every model with its state."""
        states = self._states()
        data = [self._card(model, states.get(model.id)) for model in self._shared.catalogue.models]
        data += [self._alias_card(alias) for alias in self._shared.catalogue.aliases]
        return _json({"object": "list", "data": data})

    async def model(self, request: Request) -> Response:
        """One model by any of its names."""
        named = self._shared.catalogue.find(request.path_params["name"])
        if named.alias is not None:
            return _json(self._alias_card(named.alias))
        return _json(self._card(named.model, self._states().get(named.model.id)))

    async def health(self, request: Request) -> Response:
        """Whether the process answers at all."""
        return _json({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """Whether new requests are taken and none waits beyond the bound."""
        snapshot = self._shared.runtime.snapshot()
        starving_ns = self._shared.params.starving_ns
        if self._shared.draining or snapshot.draining:
            return _json({"status": "draining", "reason": "The server is shutting down."}, 503)
        if snapshot.oldest_wait_ns > starving_ns:
            waiting = [model.id for model in snapshot.models if model.waiting]
            reason = (
                f"A request has waited {format_duration(snapshot.oldest_wait_ns)}, more than "
                f"{format_duration(starving_ns)}; models with waiting requests: "
                f"{', '.join(waiting)}."
            )
            return _json({"status": "starving", "reason": reason}, 503)
        return _json({"status": "ready"})

    async def metrics(self, request: Request) -> Response:
        """Prometheus' text format."""
        return Response(self._shared.telemetry.exposition(), media_type=_EXPOSITION)

    async def snapshot(self, request: Request) -> Response:
        """The scheduler's state in full."""
        return _json(self._shared.runtime.snapshot())

    async def status(self, request: Request) -> Response:
        """The ledgers held against the devices, and what is wrong with them."""
        return _json(status_document(self._shared.ledgers, self._shared.runtime.now_ns()))

    async def requests(self, request: Request) -> Response:
        """The last ended requests."""
        return _json({"object": "list", "data": self._shared.records.latest(_LISTED_MAX)})

    async def request(self, request: Request) -> Response:
        """One ended request."""
        request_id = request.path_params["request_id"]
        record = self._shared.records.find(request_id)
        if record is None:
            raise RequestError(
                f"There is no record of request {request_id[:200]!r}: it has not ended, or is "
                "older than the last "
                f"{self._shared.params.records_max}; 'slalom explain' reads the journal.",
                code="not_found",
            )
        return _json(record)

    async def _http_error(self, request: Request, problem: Exception) -> Response:
        """Starlette's own refusals: no such route, no such method."""
        status = problem.status_code if isinstance(problem, HTTPException) else 500
        path = request.url.path[:200]
        if status == 405:
            # A path may stand in several rows, and Starlette asks only the first; a row with this
            # very path stands before those whose places it would fill.
            rows = [row for row in request.app.routes if row.matches(request.scope)[0].value]
            found = [row.path for row in rows]
            own = request.url.path if request.url.path in found else found[0]
            allowed = {method for row in rows if row.path == own for method in row.methods}
            message = f"{path} does not take {request.method}."
            headers = {"allow": ", ".join(sorted(allowed))}
            return _error(failure_of("method_not_allowed", message), headers)
        if status == 404:
            paths = {path for protocol in self._protocols for path in protocol.reads}
            paths.update(route.path for route in request.app.routes)
            message = f"There is no {path} here. Routes: {', '.join(sorted(paths))}."
            return _error(failure_of("not_found", message))
        return _error(failure_of("internal"))

    def _states(self) -> dict[str, ModelSnapshot]:
        return {model.id: model for model in self._shared.runtime.snapshot().models}

    def _alias_card(self, alias: ServedAlias) -> dict[str, Any]:
        """A name that stands for several models; which of them serves is decided anew each time."""
        how = alias.alternatives
        details: dict[str, Any] = {"targets": how.models, "choice": how.choice}
        if alias.tasks:
            details["tasks"] = alias.tasks
        return {
            "id": alias.id,
            "object": "model",
            "created": self._shared.started_s,
            "owned_by": "slalom",
            "slalom": details,
        }

    def _card(self, model: ServedModel, state: ModelSnapshot | None) -> dict[str, Any]:
        card: dict[str, Any] = {
            "id": model.id,
            "object": "model",
            "created": self._shared.started_s,
            "owned_by": "slalom",
        }
        details: dict[str, Any] = {"aliases": [*model.aliases, *model.tasks]}
        if state is not None:
            now_ns = self._shared.runtime.now_ns()
            booked = sum(replica.booked_bytes for replica in state.replicas)
            details |= {
                "state": state.state,
                "progress": state.load_fraction,
                "waiting": state.waiting,
                "running": state.running,
                "bytes": booked,
                "replicas": [
                    {
                        "id": replica.id,
                        "state": replica.state,
                        "running": replica.running,
                        "bytes": replica.booked_bytes,
                        "measured_bytes": replica.measured_bytes,
                        "host_bytes": replica.host_bytes,
                    }
                    for replica in state.replicas
                ],
            }
            if state.last_failure:
                details["last_failure"] = state.last_failure
            if state.backoff_until_ns > now_ns:
                details["retry_after_s"] = (state.backoff_until_ns - now_ns) / SECOND
        card["slalom"] = details
        return card

    def _for_callers(self, endpoint: Endpoint) -> Endpoint:
        """Only with a key, where keys are configured."""

        async def guarded(request: Request) -> Response:
            self._shared.keys.caller(*credentials_of(request))
            return await endpoint(request)

        return guarded

    def _for_admins(self, endpoint: Endpoint) -> Endpoint:
        """Only with an admin key, always."""

        async def guarded(request: Request) -> Response:
            self._shared.keys.admin(*credentials_of(request))
            return await endpoint(request)

        return guarded


def _json(document: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json")


def _error(failure: Failure, headers: dict[str, str] | None = None) -> Response:
    lines = {name.decode(): value.decode() for name, value in error_headers(failure)}
    return Response(
        error_body(failure),
        failure.status,
        headers=lines | (headers or {}),
        media_type="application/json",
    )


async def _slalom_error(_request: Request, problem: Exception) -> Response:
    assert isinstance(problem, SlalomError)  # noqa: S101 - registered for this class
    return _error(failure_of_error(problem))


async def _bug(_request: Request, _problem: Exception) -> Response:
    """Anything else is our fault; Starlette raises it again, so that the server logs it."""
    return _error(failure_of("internal"))
