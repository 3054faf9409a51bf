"""The documents that protocols offer beside inference, guarded and in one table.

Owns the checks before them (key, draining is none of theirs), the release of what their bodies
took, and errors in the protocol's own shape. A path may belong to several: the first whose
`claims` says so answers, else the built-in document. Called by `cold_routes`.
"""

from collections.abc import Awaitable, Callable, Iterable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from slalom.errors import SlalomError
from slalom.gateway.error_table import CLIENT_LEFT, failure_of_error
from slalom.gateway.protocols.frame import SideAsk, SideRoute, WireProtocol
from slalom.gateway.replies import error_headers
from slalom.gateway.request_body import ClientGoneError
from slalom.gateway.shared import Shared

Endpoint = Callable[[Request], Awaitable[Response]]


def side_routes(
    shared: Shared, protocols: Iterable[WireProtocol], built_in: Iterable[Route]
) -> list[Route]:
    """All documents, those of protocols before the built-in ones.

    Args:
        shared: What all routes share.
        protocols: In the order of the registry.
        built_in: Documents that every client finds where no protocol claims the request.
    """
    found = {route.path: route for route in built_in}
    rest = list(found)
    guarded: list[Route] = []
    claimed: dict[str, list[tuple[SideRoute, Endpoint]]] = {}
    for protocol in protocols:
        for side in protocol.side_routes:
            endpoint = _guarded(shared, protocol, side)
            if side.claims is None:
                guarded.append(Route(side.path, endpoint, methods=list(side.methods)))
            else:
                claimed.setdefault(side.path, []).append((side, endpoint))
    for path, rows in claimed.items():
        guarded.append(_shared_path(path, rows, found.get(path)))
        if path in found:
            rest.remove(path)
    return [*guarded, *(found[path] for path in rest)]


def _shared_path(
    path: str, rows: list[tuple[SideRoute, Endpoint]], built_in: Route | None
) -> Route:
    async def choose(request: Request) -> Response:
        for side, endpoint in rows:
            if side.claims is not None and side.claims(request):
                return await endpoint(request)
        if built_in is None:
            return await rows[0][1](request)
        answer: Response = await built_in.endpoint(request)
        return answer

    methods = {method for side, _ in rows for method in side.methods}
    return Route(path, choose, methods=sorted(methods | set((built_in and built_in.methods) or ())))


def _guarded(shared: Shared, protocol: WireProtocol, side: SideRoute) -> Endpoint:
    async def guarded(request: Request) -> Response:
        ask = SideAsk(request, shared, None)
        try:
            credentials = credentials_of(request)
            keys = shared.keys
            ask.key = keys.admin(*credentials) if side.admin else keys.caller(*credentials)
            return await side.endpoint(ask)
        except ClientGoneError:
            return Response(status_code=CLIENT_LEFT)
        except SlalomError as problem:
            failure = failure_of_error(problem)
            request_id = request.headers.get("x-request-id", "")
            lines = {name.decode(): value.decode() for name, value in error_headers(failure)}
            return Response(
                protocol.error_body(failure, request_id),
                failure.status,
                headers=lines,
                media_type="application/json",
            )
        finally:
            shared.take_bytes(-ask.body_bytes)

    return guarded


def credentials_of(request: Request) -> tuple[bytes | None, bytes | None]:
    """The two headers in which a key may come."""
    authorization = request.headers.get("authorization")
    api_key = request.headers.get("x-api-key")
    return (
        authorization.encode("latin-1") if authorization is not None else None,
        api_key.encode("latin-1") if api_key is not None else None,
    )
