"""What a core and the host of an engine tell each other: an order, facts, what came of a launch.

Owns plain data only; it travels between machines. The key of an engine travels with it and is
never shown. Used by `engine_host`, `hosted_engine` and `ray_engines`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from slalom.config.engine_sections import ModelSection
from slalom.config.sections import DeviceSection
from slalom.engines.http_engine import SleepPaths
from slalom.engines.protocol import Capabilities
from slalom.errors import EngineError


@dataclass(frozen=True, slots=True)
class EngineOrder:
    """One engine that is to run somewhere."""

    model: ModelSection
    device: DeviceSection
    #: Answer limit where a request names none, tokens.
    tokens_max: int
    #: Of its host, unique in the fleet.
    name: str
    #: It ends by itself if no core asks anything of it for so long, s.
    lease_s: float

    @property
    def fingerprint(self) -> str:
        """The same for two orders of which one's engine will do for the other."""
        text = f"{self.model.model_dump_json()} {self.device.id} {self.tokens_max}"
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """A running engine, as whoever calls it must know it."""

    model: str
    device: str
    fingerprint: str
    base_url: str
    #: Sent with every call.
    headers: Mapping[str, str] = field(repr=False)
    model_name: str
    capabilities: Capabilities
    health_path: str
    metrics_path: str | None
    sleep_paths: SleepPaths
    #: Node it runs on, process of its host, and its own.
    node: str
    pid: int
    engine_pid: int
    asleep: bool = False


@dataclass(frozen=True, slots=True)
class Launched:
    """What came of a launch: facts, or why there are none."""

    facts: EngineFacts | None = None
    problem: str = ""
    code: str = ""
    retryable: bool = True

    @classmethod
    def failed(cls, error: EngineError) -> "Launched":
        """A launch that failed."""
        return cls(None, str(error), error.code, error.retryable)

    def running(self) -> EngineFacts:
        """The facts.

        Raises:
            EngineError: It failed.
        """
        if self.facts is None:
            raise EngineError(self.problem, code=self.code, retryable=self.retryable)
        return self.facts
