"""A server with every route that there is, whose engine answers whatever it is asked.

Owns the house for programs that ask at random: keys with an administrator, files and batches, a
planner that estimates, an engine that answers short and knows its tokens. Used by tests of the
OpenAPI document.
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from slalom.batches.desk import Desk
from slalom.batches.params import BatchParams
from slalom.engines.protocol import Call
from slalom.engines.upstream_connection import UpstreamReply
from slalom.gateway.auth import key_digest
from slalom.gateway.batches.routes import protocol
from slalom.gateway.params import GatewayParams, KeyEntry, ServedModel
from slalom.testing import FakeEngine, FakeLauncher, FakeScript, FakeTimings
from slalom.testing.scripted_planner import EveryLever
from slalom.units import KIB, MIB
from tests.gateway.house import House, house

#: Secret of the administrator's key.
KEY = "key-of-the-administrator"
_TOLD = {
    "/tokenize": {"tokens": [1, 2, 3]},
    "/detokenize": {"content": "one two three"},
    "/apply-template": {"prompt": "one two three"},
}


class Telling(FakeEngine):
    """A fake engine that knows its tokens and its template."""

    async def generate(self, call: Call) -> UpstreamReply:
        """The answer to a question at once; all else as ever."""
        if call.path not in _TOLD:
            return await super().generate(call)
        reply = UpstreamReply("fake engine", call.stall_timeout_s)
        reply.status, reply.content_type = 200, "application/json"
        reply.push(json.dumps(_TOLD[call.path]).encode())
        reply.finish()
        return reply


@dataclass(eq=False, slots=True)
class TellingLauncher(FakeLauncher):
    """Brings such engines up."""

    async def launch(self, replica_id: str, on_progress: Callable[[float], None]) -> FakeEngine:
        """At once."""
        self.launches.append(replica_id)
        engine = Telling(FakeScript(FakeTimings(token_ns=1000), output_tokens=lambda _asked: 2))
        self.engines.append(engine)
        return engine


@asynccontextmanager
async def whole_server(folder: Path) -> AsyncIterator[House]:
    """Start it, with its model up."""
    desk = Desk(BatchParams(folder, free_bytes_min=0, file_bytes_max=64 * KIB))
    params = GatewayParams(
        (ServedModel("a", aliases=("b",)),),
        keys=(KeyEntry("administrator", key_digest(KEY), admin=True),),
        body_bytes_max=4 * MIB,
    )
    launchers: dict[str, FakeLauncher] = {"a": TellingLauncher()}
    async with house(
        launchers, params=params, documents=(protocol(desk),), admission=EveryLever()
    ) as world:
        yield world
