"""An engine somebody else runs, behind a base URL.

Owns the check that it is there. It is never started, stopped or measured here. Called by the
runtime through the `Launcher` protocol.
"""

import asyncio
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from slalom.core.events import FailureKind
from slalom.engines.http_engine import HttpEngine, SleepPaths
from slalom.engines.protocol import Capabilities, OnProgress
from slalom.engines.upstream import Upstream
from slalom.errors import ConfigError, EngineError

_POLL_PERIOD_S = 0.2
_POLL_TIMEOUT_S = 5.0
_KEY = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """Where an engine is and what it can do."""

    #: As OpenAI clients have it; a ``/v1`` at its end does not matter.
    base_url: str
    #: Sent as a bearer token. Never shown.
    api_key: str | None = field(default=None, repr=False)
    #: Name of the model there, where it differs from the public one.
    model_name: str | None = None
    #: Answers 200 while the engine is well.
    health_path: str = "/v1/models"
    #: Prometheus text with llama.cpp's or vLLM's names; None where there is none.
    metrics_path: str | None = None
    #: Time for it to answer at first, seconds.
    ready_timeout_s: float = 10.0
    #: Certificate authorities to trust instead of the system's.
    ca_file: Path | None = None
    capabilities: Capabilities = field(default_factory=Capabilities)
    sleep_paths: SleepPaths = field(default_factory=SleepPaths)


class RemoteLauncher:
    """A `Launcher` that connects instead of starting.

    Args:
        options: Where the engine is.
        model_name: Public name of the model, used unless the options name another.

    Raises:
        ConfigError: The base URL, the key or the certificates cannot be used.
    """

    def __init__(self, options: RemoteOptions, *, model_name: str) -> None:
        self.options = options
        self._upstream()  # now, so that mistakes show when the configuration is read
        self.model_name = options.model_name or model_name

    def __repr__(self) -> str:
        return f"<RemoteLauncher {self.model_name!r} {self.options.base_url}>"

    async def launch(self, replica_id: str, on_progress: OnProgress) -> HttpEngine:
        """Return once the engine answers its health path.

        Raises:
            EngineError: START_FAILED (refused the key, not an engine) or LOAD_TIMEOUT.
        """
        on_progress(0.0)
        upstream = self._upstream()
        try:
            await self._wait_ready(replica_id, upstream)
        except BaseException:
            upstream.close()
            raise
        on_progress(1.0)
        return HttpEngine(
            upstream,
            model_name=self.model_name,
            capabilities=self.options.capabilities,
            health_path=self.options.health_path,
            metrics_path=self.options.metrics_path,
            sleep_paths=self.options.sleep_paths,
        )

    def _upstream(self) -> Upstream:
        options = self.options
        tls = None
        if options.ca_file is not None:
            try:
                tls = ssl.create_default_context(cafile=str(options.ca_file))
            except OSError as problem:
                raise ConfigError(
                    f"ca_file {options.ca_file} cannot be read as certificates: {problem}"
                ) from problem
        if options.api_key is not None and not _KEY.fullmatch(options.api_key):
            raise ConfigError(
                f"api_key for {options.base_url} has spaces, line breaks or letters beyond ASCII "
                "in it: it was probably not copied as it is"
            )
        headers = {} if options.api_key is None else {"authorization": f"Bearer {options.api_key}"}
        base_url = options.base_url.rstrip("/").removesuffix("/v1")
        return Upstream(base_url, headers=headers, tls=tls)

    async def _wait_ready(self, replica_id: str, upstream: Upstream) -> None:
        said = "no answer"
        where = f"{upstream.where}{self.options.health_path}"
        try:
            async with asyncio.timeout(self.options.ready_timeout_s):
                while True:
                    try:
                        status, _ = await upstream.get(
                            self.options.health_path, timeout_s=_POLL_TIMEOUT_S
                        )
                    except EngineError as problem:
                        said = str(problem)
                    else:
                        if 200 <= status < 300:
                            return
                        if status in (401, 403, 404):
                            raise EngineError(
                                f"{replica_id}: {where} answered {status}; "
                                "check api_key, base_url and health_path",
                                code=FailureKind.START_FAILED,
                                status=status,
                            )
                        said = f"it answered {status}"
                    await asyncio.sleep(_POLL_PERIOD_S)
        except TimeoutError as problem:
            raise EngineError(
                f"{replica_id}: {where} was not ready within {self.options.ready_timeout_s:g} s "
                f"({said})",
                code=FailureKind.LOAD_TIMEOUT,
            ) from problem
