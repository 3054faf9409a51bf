"""A live runtime over fake engines on the virtual loop, and a sink that records."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from slalom.core.actions import EndRequest
from slalom.core.invariants import check
from slalom.core.journal import Entry
from slalom.core.params import SchedulerParams
from slalom.core.planning import Planning
from slalom.core.request import DeviceSpec, ModelSpec, Request, Sla
from slalom.core.scheduler import Scheduler
from slalom.engines.protocol import Call, Engine
from slalom.journal.files import JournalWriter
from slalom.policies.registry import policies
from slalom.runtime.driver import Runtime
from slalom.runtime.sink import Assignment, Served, Terms, Waiting
from slalom.testing import FakeLauncher, VirtualClock
from slalom.units import MIB, SECOND


@dataclass
class RecordingSink:
    """Keeps everything it is given."""

    status: int = 0
    data: bytes = b""
    waits: list[Waiting] = field(default_factory=list)
    assignments: list[Assignment] = field(default_factory=list)
    on_body: Callable[[], None] | None = None

    async def waiting(self, waiting: Waiting) -> None:
        self.waits.append(waiting)

    async def head(self, assignment: Assignment, status: int, content_type: str) -> None:
        self.status = status
        self.assignments.append(assignment)

    async def body(self, data: bytes) -> None:
        self.data += data
        if self.on_body:
            self.on_body()


class World:
    """One runtime with one launcher for each model."""

    def __init__(
        self,
        clock: VirtualClock,
        launchers: dict[str, FakeLauncher],
        *,
        budget: int = 100 * MIB,
        need: int = 64 * MIB,
        places: int = 2,
        params: SchedulerParams | None = None,
        admission: Planning | None = None,
        journal: Callable[[Scheduler], JournalWriter] | None = None,
        sleep_level: int = 0,
    ) -> None:
        self.launchers = launchers
        rest = {"sleep_level": sleep_level, "host_bytes": need if sleep_level == 1 else 0}
        self.scheduler = Scheduler(
            [ModelSpec(name, "host", need, places, **rest) for name in launchers],  # type: ignore[arg-type]
            [DeviceSpec("host", budget, host="ram"), DeviceSpec("ram", 10 * budget)],
            replace(policies(), admission=admission) if admission else policies(),
            params,
        )
        self.runtime = Runtime(
            self.scheduler,
            dict(launchers.items()),
            clock=clock,
            journal=journal(self.scheduler) if journal else None,
        )
        self.entries: list[Entry] = []
        self.ended: dict[str, EndRequest] = {}
        self.runtime.on_step.append(self._on_step)
        self.runtime.on_end.append(self._on_end)
        self.runtime.start()

    def _on_step(self, entry: Entry) -> None:
        check(self.scheduler.state)
        self.entries.append(entry)

    def _on_end(self, end: EndRequest) -> None:
        assert end.request_id not in self.ended, "two terminal outcomes"
        self.ended[end.request_id] = end

    async def ask(
        self,
        request_id: str,
        model: str = "a",
        *,
        tokens: int = 4,
        sink: RecordingSink | None = None,
        stream: bool = True,
        strip_usage: bool = True,
        **more: Any,
    ) -> Served:
        """Serve one request to its end."""
        request = Request(
            id=request_id,
            model=model,
            task="chat",
            sla=Sla(ttft_ns=60 * SECOND),
            arrived_ns=self.runtime.now_ns(),
            prompt_tokens=3,
            max_tokens=tokens,
            predicted_tokens=tokens,
        )
        request = replace(request, **more)

        def make_call(engine: Engine, terms: Terms) -> Call:
            limit = min(tokens, terms.max_tokens or tokens)
            body = {
                "model": engine.model_name,
                "prompt": "one two three" + terms.resumed_text,
                "max_tokens": limit - terms.resumed_tokens,
                "stream": stream,
                "stream_options": {"include_usage": True},
            }
            return Call("/v1/completions", json.dumps(body).encode())

        return await self.runtime.serve(
            request, make_call, sink or RecordingSink(), stream=stream, strip_usage=strip_usage
        )
