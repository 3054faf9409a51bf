"""The protocols that are spoken here, and which of them a path means.

Owns the list and the lookup of inference routes, `/v1/estimate` among them: what stands behind it
is the path of the route whose request is to be estimated. Called by `app` once, and by
`inference` for each request.
"""

from collections.abc import Callable
from dataclasses import dataclass

from slalom.gateway import estimates
from slalom.gateway.params import GatewayParams
from slalom.gateway.protocols import (
    anthropic,
    llama_cpp,
    mistral,
    ollama,
    openai,
    responses,
    tabby,
)
from slalom.gateway.protocols.frame import WireProtocol

#: One row per protocol; of two with the same path the first has it, unless the other claims a
#: request.
PROTOCOLS: tuple[Callable[[GatewayParams], WireProtocol], ...] = (
    openai.protocol,
    anthropic.protocol,
    responses.protocol,
    ollama.protocol,
    llama_cpp.protocol,
    mistral.protocol,
    tabby.protocol,
)


@dataclass(frozen=True, slots=True)
class Route:
    """What a path means."""

    protocol: WireProtocol
    #: Path of the inference route; empty where only the body tells.
    path: str
    #: Only to be estimated.
    dry_run: bool = False
    #: Protocols that have this path too and may claim a request by what is in it.
    rivals: tuple[WireProtocol, ...] = ()


class Protocols:
    """The protocols of one gateway, with what each of them keeps.

    Args:
        params: What the gateway was told.
    """

    def __init__(self, params: GatewayParams) -> None:
        self.all = tuple(make(params) for make in PROTOCOLS)
        #: Request headers that protocols look at.
        self.headers = frozenset[str]().union(*(protocol.headers for protocol in self.all))
        self.routes = {estimates.PATH: Route(self.all[0], "", dry_run=True)}
        owners: dict[str, list[WireProtocol]] = {}
        for protocol in self.all:
            for path in protocol.reads:
                owners.setdefault(path, []).append(protocol)
        for path, (first, *rivals) in owners.items():
            self.routes[path] = Route(first, path, rivals=tuple(rivals))
            self.routes[estimates.PATH + path] = Route(
                first, path, dry_run=True, rivals=tuple(rivals)
            )

    def __repr__(self) -> str:
        return f"<Protocols {' '.join(protocol.name for protocol in self.all)}>"
