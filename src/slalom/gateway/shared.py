"""What the gateway's routes share: parameters, runtime, keys, catalogue, records, metrics.

Owns their construction from the parameters, the draining flag and the count of bytes inside.
Built by `app`.
"""

import secrets
import time
from collections.abc import Awaitable, Callable, Collection
from itertools import count
from typing import Any

from slalom.errors import ConfigError, OverloadedError
from slalom.gateway.auth import Keys
from slalom.gateway.catalogue import Catalogue
from slalom.gateway.chain_words import HEADERS as CHAIN_HEADERS
from slalom.gateway.chains import Chains
from slalom.gateway.completion_cache import HEADERS as CACHE_HEADERS
from slalom.gateway.completion_cache import CompletionCache
from slalom.gateway.declared import HEADERS
from slalom.gateway.ledger_metrics import LedgerCollector, Ledgers
from slalom.gateway.length_care import HEADERS as LENGTH_HEADERS
from slalom.gateway.params import GatewayParams
from slalom.gateway.prefixes import Prefixes
from slalom.gateway.records import Records
from slalom.gateway.residency_wishes import HEADERS as WISH_HEADERS
from slalom.gateway.runtime_port import RuntimePort
from slalom.gateway.supersession import HEADERS as SESSION_HEADERS
from slalom.gateway.supersession import Documents
from slalom.gateway.telemetry import Telemetry

#: Names of removed models that are remembered, for people who ask for them.
_REMOVED_MAX = 1_000

#: Reads the configuration anew and goes by it, or only says what it would do; the document that
#: says what was done.
Reloader = Callable[[bool], Awaitable[dict[str, Any]]]


class Shared:
    """State of one gateway.

    Args:
        runtime: Serves the requests.
        params: What the gateway was told.
        headers: Request headers that protocols look at, lower case.

    Raises:
        ConfigError: Two models share a name, or a key or rule names an unknown task.
    """

    def __init__(
        self,
        runtime: RuntimePort,
        params: GatewayParams,
        headers: frozenset[str] = frozenset(),
    ) -> None:
        _check_tasks(params)
        self.runtime = runtime
        self.params = params
        self.keys = Keys(params.keys)
        self.catalogue = Catalogue(params.models, params.tasks, params.aliases)
        self.records = Records(params.records_max, params.inflight_max)
        #: Ids of the inference requests in this gateway, waiting and running.
        self.inside: set[str] = set()
        #: Bytes of their bodies.
        self.bytes_inside = 0
        self.completions = CompletionCache(params.completion_cache_bytes)
        self.telemetry = Telemetry(runtime.snapshot, lambda: len(self.inside), self.completions)
        #: The ledgers held against the devices; None where nothing watches them.
        self.ledgers: Ledgers | None = None
        self.telemetry.registry.register(LedgerCollector(lambda: self.ledgers))
        self.documents = Documents(params.supersede)
        self.chains = Chains(params.chains, params.tasks, params.chains_max, params.chain_idle_ns)
        self.prefixes = Prefixes()
        self._headers = headers
        self.watched_headers = _watched(params, headers)
        #: Reads the configuration anew; None where nobody can.
        self.reloader: Reloader | None = None
        #: Names that models had before a reload took them away, the last ones last.
        self._removed: dict[str, None] = {}
        #: Set once: new inference requests are refused from then on.
        self.draining = False
        #: Unix time of the start, seconds; what `/v1/models` calls `created`.
        self.started_s = int(time.time())
        self._id_head = secrets.token_hex(4)
        self._id_numbers = count(1)
        runtime.on_end.append(self.records.ended)
        runtime.on_end.append(self.telemetry.ended)
        self.records.on_record.append(self.telemetry.answered)

    def judge(self, params: GatewayParams) -> Catalogue:
        """The names that there would be.

        Raises:
            ConfigError: The parameters contradict each other.
        """
        _check_tasks(params)
        return Catalogue(params.models, params.tasks, params.aliases)

    def reload(self, params: GatewayParams, renewed: Collection[str]) -> None:
        """Go by other parameters from now on; what is inside goes on as it was begun.

        Args:
            params: Which sizes of what is kept are as they were: those are not looked at again.
            renewed: Models with another engine: what was kept of their answers is no more theirs.

        Raises:
            ConfigError: As when a gateway is built with these; nothing is changed then.
        """
        fresh = self.judge(params)
        removed = {**self._removed, **dict.fromkeys(self.catalogue.names())}
        removed = {name: None for name in removed if name not in fresh.names()}
        self._removed = dict(list(removed.items())[-_REMOVED_MAX:])
        self.catalogue = Catalogue(params.models, params.tasks, params.aliases, self._removed)
        self.params = params
        self.keys = self.keys.followed_by(params.keys)
        self.chains.templates, self.chains.tasks = params.chains, params.tasks
        self.watched_headers = _watched(params, self._headers)
        if renewed:
            self.completions.clear()

    def new_id(self) -> str:
        """A request id that no other request of any server has."""
        return f"req-{self._id_head}-{next(self._id_numbers)}"

    def take_bytes(self, more_bytes: int) -> None:
        """Count bytes of a request's body; whoever took them gives them back.

        Raises:
            OverloadedError: All bodies together would be too large; nothing is counted then.
        """
        bytes_inside = self.bytes_inside + more_bytes
        if bytes_inside > self.params.bodies_bytes_max:
            raise OverloadedError(
                f"The bodies of all requests in this server would take {bytes_inside} bytes.",
                retry_after_s=1,
                code="too_many_bytes",
            )
        self.bytes_inside = bytes_inside


def _watched(params: GatewayParams, headers: frozenset[str]) -> frozenset[bytes]:
    """Request headers that somebody looks at."""
    return frozenset(
        name.encode("latin-1")
        for names in (
            HEADERS,
            SESSION_HEADERS,
            CACHE_HEADERS,
            LENGTH_HEADERS,
            WISH_HEADERS,
            CHAIN_HEADERS,
            headers,
        )
        for name in names | _rule_headers(params)
    )


def _rule_headers(params: GatewayParams) -> set[str]:
    return {
        rule.header.partition(":")[0].strip().lower()
        for rule in params.rules
        if rule.header is not None
    }


def _check_tasks(params: GatewayParams) -> None:
    named = [("the default task", params.default_task)]
    for key in params.keys:
        named += [(f"key {key.name!r}", task) for task in (key.task, key.ceiling) if task]
    named += [(f"rule {index + 1}", rule.task) for index, rule in enumerate(params.rules)]
    for model in params.models:
        tasks = (*model.tasks, model.default_task)
        named += [(f"model {model.id!r}", task) for task in tasks if task]
    for where, task in named:
        if task not in params.tasks:
            raise ConfigError(
                f"{where} names the unknown task {task!r}: use one of {', '.join(params.tasks)}, "
                "or define it under 'tasks'"
            )
