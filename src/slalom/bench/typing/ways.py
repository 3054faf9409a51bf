"""The ways to an engine that typists are sent: directly, by LiteLLM, by Slalom, or as users name.

Owns starting them, each with an engine of its own and the same options, and finding where each
one's engine publishes its figures. Called by the runs.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from slalom.bench.demo_server import running_server
from slalom.bench.gateway_paths import LITELLM
from slalom.bench.scenario_compare import Target, running
from slalom.bench.scenario_probe import token_size
from slalom.bench.scenario_text import Texts
from slalom.bench.sla_live.compare import say
from slalom.bench.sla_live.machine import engines
from slalom.bench.sla_live.setting import (
    BY_LITELLM,
    DIRECT,
    HEADERS,
    configuration,
    engine_target,
    litellm_target,
)
from slalom.bench.typing.counters import Gauge
from slalom.errors import SlalomError
from slalom.models.fim import FimTemplate
from slalom.models.gguf_metadata import read_metadata
from slalom.models.sources import resolve

SLALOM = "Slalom"
#: The variable that holds the key of a llama.cpp replica.
_KEY_VARIABLE = "SLALOM_ENGINE_KEY"


@dataclass(frozen=True, slots=True)
class Way:
    """A server that typists are sent to."""

    name: str
    url: str
    #: Of the engine behind it; None where it is not known.
    gauge: Gauge | None = None


@dataclass(frozen=True, slots=True)
class Ways:
    """All of them, and how they are spoken to."""

    ways: Sequence[Way]
    model: str
    fim: FimTemplate | None
    #: Why LiteLLM is left out; empty if it is not.
    left_out: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: HEADERS, repr=False)


@contextlib.asynccontextmanager
async def bundled(model: str, folder: Path, *, litellm: bool = True) -> AsyncIterator[Ways]:
    """A bundled model, directly, by LiteLLM where that is installed, and by Slalom.

    Args:
        model: Its name.
        folder: For what the servers leave.
        litellm: False leaves LiteLLM out.

    Raises:
        SlalomError: An engine or Slalom did not start.
    """
    target, texts = engine_target(model), Texts()
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(running(target))
        found = [Way(DIRECT, url, Gauge(f"{url}/metrics"))]
        left_out = "" if litellm else "it was not asked for"
        if not left_out and not LITELLM.exists():
            left_out = "it is not installed (`make bench-setup` does that)"
        if not left_out:
            engine = await stack.enter_async_context(running(target))
            proxy = litellm_target(model, engine, folder)
            try:
                url = await stack.enter_async_context(running(proxy))
                found.append(Way(BY_LITELLM, url, Gauge(f"{engine}/metrics")))
            except SlalomError as problem:
                left_out = f"it did not start: {str(problem).splitlines()[0]}"
        before = engines()
        server = running_server(folder / "slalom", configuration(model))
        url = await stack.enter_async_context(server)
        # The first answer brings the model up.
        await token_size(url, model, texts, chat=False, headers=HEADERS)
        (pid,) = engines() - before
        found.append(Way(SLALOM, url, _gauge_of(pid)))
        if left_out:
            say(f"LiteLLM is left out: {left_out}")
        yield Ways(found, model, _fim(model), left_out)


@contextlib.asynccontextmanager
async def named(
    targets: Sequence[Target],
    model: str,
    *,
    metrics: Mapping[str, str],
    fim: FimTemplate | None,
    key: str | None = None,
) -> AsyncIterator[Ways]:
    """Servers of the user's own.

    Args:
        targets: Addresses or commands.
        model: Who is asked.
        metrics: Target's name -> address of its engine's metrics page, where that is not the
            target's own ``/metrics``.
        fim: How the model marks a gap; None sends the suffix in a field of its own.
        key: API key.

    Raises:
        EngineError: A command did not start.
    """
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for target in targets:
            url = await stack.enter_async_context(running(target))
            gauge = Gauge(metrics.get(target.name, f"{url}/metrics"))
            known = await gauge.computed() is not None
            found.append(Way(target.name, url, gauge if known else None))
            if not known:
                say(f"{target.name}: no engine's figures at {gauge.url}, so waste is not counted")
        given = {"authorization": f"Bearer {key}"} if key else {}
        yield Ways(found, model, fim, headers={**HEADERS, **given})


def _gauge_of(pid: int) -> Gauge:
    """Of a llama.cpp engine that a Slalom server has started: its key is the two's alone."""
    process = psutil.Process(pid)
    ports = [one.laddr.port for one in process.net_connections("tcp") if one.status == "LISTEN"]
    headers = {"authorization": f"Bearer {process.environ().get(_KEY_VARIABLE, '')}"}
    return Gauge(f"http://127.0.0.1:{ports[0]}/metrics", headers)


def _fim(model: str) -> FimTemplate | None:
    """How a bundled model marks a gap."""
    return read_metadata(resolve(f"bundled:{model}").path).fim
