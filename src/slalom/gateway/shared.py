"""What the gateway's routes share: parameters, runtime, keys, catalogue, records, metrics.

Owns their construction from the parameters, the draining flag and the count of bytes inside.
Built by `app`.
"""

import secrets
import time
from itertools import count

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
        self.watched_headers = frozenset(
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
        #: Set once: new inference requests are refused from then on.
        self.draining = False
        #: Unix time of the start, seconds; what `/v1/models` calls `created`.
        self.started_s = int(time.time())
        self._id_head = secrets.token_hex(4)
        self._id_numbers = count(1)
        runtime.on_end.append(self.records.ended)
        runtime.on_end.append(self.telemetry.ended)
        self.records.on_record.append(self.telemetry.answered)

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
