"""The twin against an engine without a server around it, in the engine's own processor time.

Owns the clock, the runs and their table. While requests are in the engine, time is what its threads
compute, so that other programs on the machine hardly count: what remains of them is the cache that
they take, and that the client sees an end a little later. Called by `fidelity`.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from slalom.bench.calibrate_fit import fit
from slalom.bench.calibrate_probe import Prober
from slalom.bench.calibrate_streams import Asked, Stream, watch
from slalom.bench.calibrate_work import Shape
from slalom.bench.fidelity_load import LOADS, Sizes, load, saturated_per_s, tasks_for
from slalom.bench.fidelity_report import MEASURES, Cell
from slalom.bench.scenario_text import Texts
from slalom.engines.http_engine import HttpEngine
from slalom.engines.llama_cpp import LlamaCppLauncher, LlamaCppOptions
from slalom.engines.protocol import Call, Reply
from slalom.errors import SlalomError
from slalom.metrics.records import Fate, RequestRecord
from slalom.metrics.results import RunResult
from slalom.models.sources import resolve
from slalom.twin.engine_model import Stage
from slalom.twin.engine_specs import LlamaCppEngine
from slalom.twin.step_time import StepProfile
from slalom.units import SECOND, seconds_to_ns
from slalom.workload.load import LoadItem

_STOP_S = 5.0
#: The shortest wait before the clock is looked at again, seconds.
_LOOK_EVERY_S = 0.0005
_LEARN_CHARS = 1_500
_POLICY = "fcfs"


class EngineClock:
    """Processor time of an engine's process while it has requests, real time else.

    Args:
        pid: Of the process.
    """

    def __init__(self, pid: int) -> None:
        # So Linux names the clock of a process.
        self._clock_id = (~pid << 3) | 2
        self._requests = 0
        self._passed_ns = 0
        self._since_ns = self._raw_ns()

    def now_ns(self) -> int:
        """Ns since the clock was made."""
        return self._passed_ns + self._raw_ns() - self._since_ns

    async def until(self, at_ns: int) -> None:
        """Wait for a time of it. It may be slower than real time, but is not faster."""
        while True:
            left_ns = at_ns - self.now_ns()
            if left_ns <= 0:
                return
            await asyncio.sleep(max(left_ns / SECOND, _LOOK_EVERY_S))

    def count(self, by: int) -> None:
        """So many requests more, or fewer, are in the engine."""
        self._passed_ns = self.now_ns()
        self._requests += by
        self._since_ns = self._raw_ns()

    def _raw_ns(self) -> int:
        return time.clock_gettime_ns(self._clock_id) if self._requests else time.monotonic_ns()


class _Timed:
    """What the probes need of an engine; each request is counted until its reply is closed."""

    def __init__(self, engine: Asked, clock: EngineClock) -> None:
        self._engine = engine
        self._clock = clock
        self.model_name = engine.model_name

    async def generate(self, call: Call) -> Reply:
        self._clock.count(1)
        try:
            return _TimedReply(await self._engine.generate(call), self._clock)
        except BaseException:
            self._clock.count(-1)
            raise


class _TimedReply:
    def __init__(self, reply: Reply, clock: EngineClock) -> None:
        self._reply = reply
        self._clock = clock
        self.status = reply.status
        self.content_type = reply.content_type

    async def read(self) -> bytes:
        return await self._reply.read()

    async def close(self) -> None:
        self._clock.count(-1)
        await self._reply.close()


@dataclass(frozen=True, slots=True)
class Options:
    """Of every engine here; each place has its own part of the KV cache."""

    places: int
    context_tokens: int
    micro_batch: int


async def measure_direct(sizes: Sizes, options: Options, seed: int = 0) -> list[Cell]:
    """Calibrate each model, and compare it with the twin under each load, first come first served.

    Raises:
        SlalomError: An engine failed.
    """
    cells = []
    for model in sizes.models:
        engine = await _launched(model, options)
        try:
            cells += await _model_cells(engine, sizes, options, seed)
        finally:
            await engine.stop(_STOP_S)
    return cells


def table(cells: Sequence[Cell]) -> list[str]:
    """The errors in Markdown."""
    rows = [
        "| model | load | requests/s | measure | live p50 | twin p50 | error | live p90 | error |",
        f"|---|---|---:|---|{'---:|' * 5}",
    ]
    for cell in cells:
        for measure in MEASURES:
            live, twin = cell.times_ms(measure, 50)
            rows.append(
                f"| {cell.model} | {cell.load} | {cell.rate_per_s:.1f} | {measure}, ms "
                f"| {live:.2f} | {twin:.2f} | {cell.error(measure, 50):+.1%} "
                f"| {cell.times_ms(measure, 90)[0]:.2f} | {cell.error(measure, 90):+.1%} |"
            )
    return rows


async def _launched(model: str, options: Options) -> HttpEngine:
    launched = LlamaCppOptions(
        model=resolve(f"bundled:{model}").path,
        places=options.places,
        context_tokens=options.context_tokens,
        micro_batch_tokens=options.micro_batch,
        kv_unified=False,
    )
    launcher = LlamaCppLauncher(launched, model_name=model)
    return await launcher.launch(model, lambda _fraction: None)


async def _model_cells(engine: HttpEngine, sizes: Sizes, options: Options, seed: int) -> list[Cell]:
    if engine.process is None:
        raise SlalomError("only an engine that is a process of ours has a processor time")
    model, clock = engine.model_name, EngineClock(engine.process.pid)
    timed = _Timed(engine, clock)
    twin = await _calibrated(timed, clock, sizes, options)
    tasks = tasks_for(twin)
    source = _Source(timed, clock, Texts(seed=seed), options.places)
    cells = []
    for number, name in enumerate(sizes.loads):
        rate = LOADS[name] * saturated_per_s(twin, model, seed)
        items = load(model, tasks, rate, sizes.seconds, seed + number)
        streams = await source.play(items)
        duration_ns = seconds_to_ns(sizes.seconds)
        live = [_live(item, stream, source.began_ns) for item, stream in streams]
        told = _told(streams, twin, source.began_ns)
        results = [RunResult.of(_POLICY, seed, records, duration_ns) for records in (live, told)]
        cells.append(
            Cell(
                *(model, name, _POLICY, rate),
                live=results[0],
                twin=results[1],
                live_records=tuple(live),
                twin_records=tuple(told),
            )
        )
    return cells


async def _calibrated(
    timed: _Timed, clock: EngineClock, sizes: Sizes, options: Options
) -> LlamaCppEngine:
    """The twin's engine of what probes find, by the clock."""
    twin = LlamaCppEngine(
        StepProfile("none yet", host_ns=1),
        slots=options.places,
        micro_batch_tokens=options.micro_batch,
        prefix_caching=False,
        context_tokens=options.context_tokens,
        kv_unified=False,
    )
    shape = Shape(
        options.places,
        numbered=True,
        kv_unified=False,
        micro_batch=options.micro_batch,
        batch_tokens=twin.batch_tokens,
    )
    budget_ns = seconds_to_ns(sizes.calibrate_s)
    context = options.context_tokens
    prober = Prober(timed, clock, shape=shape, context_tokens=context, budget_ns=budget_ns)
    await prober.run()
    profile = fit(prober.observations, name=timed.model_name, source="processor time").profile
    return replace(twin, profile=profile)


class _Source:
    """Sends loads to an engine, first come first served, one request for each place at a time."""

    def __init__(self, timed: _Timed, clock: EngineClock, texts: Texts, places: int) -> None:
        self._timed = timed
        self._clock = clock
        self._texts = texts
        self._places = asyncio.Semaphore(places)
        self._chars_per_token = 0.0
        #: When the last load began.
        self.began_ns = 0

    async def play(self, items: Sequence[LoadItem]) -> list[tuple[LoadItem, "_Played"]]:
        """Send each request at its time by the clock."""
        if not self._chars_per_token:
            probe = Stream(1, text=self._texts.of(items[0], _LEARN_CHARS, 0))
            await watch(self._timed, self._clock, probe, salt=0, output_tokens=1)
            self._chars_per_token = _LEARN_CHARS / probe.prompt_tokens
        self.began_ns = self._clock.now_ns()
        tasks = []
        for item in items:
            await self._clock.until(self.began_ns + item.at_ns)
            tasks.append(asyncio.create_task(self._answered(item, self._clock.now_ns())))
        return list(zip(items, await asyncio.gather(*tasks), strict=True))

    async def _answered(self, item: LoadItem, arrived_ns: int) -> "_Played":
        text = self._texts.of(item, round(item.prompt_tokens * self._chars_per_token), 0)
        stream = Stream(item.prompt_tokens, text=text)
        async with self._places:
            await watch(self._timed, self._clock, stream, salt=0, output_tokens=item.output_tokens)
        return _Played(arrived_ns, stream)


@dataclass(frozen=True, slots=True)
class _Played:
    """A request as it was sent and answered."""

    arrived_ns: int
    stream: Stream


def _live(item: LoadItem, played: _Played, began_ns: int) -> RequestRecord:
    stream = played.stream
    return _record(
        *(item, played.arrived_ns - began_ns),
        stream.arrivals_ns[0] - began_ns,
        stream.arrivals_ns[-1] - began_ns,
        stream.output_tokens,
    )


def _told(
    streams: Sequence[tuple[LoadItem, _Played]], twin: LlamaCppEngine, began_ns: int
) -> list[RequestRecord]:
    """The same requests in the twin's engine, whose queue is first come first served too."""
    engine = twin.build(0)
    first_ns: dict[str, int] = {}
    ended_ns: dict[str, int] = {}

    def wake(now_ns: int) -> None:
        for at_ns, milestone in engine.take_due(now_ns):
            stages = first_ns if milestone.stage is Stage.FIRST_TOKEN else ended_ns
            stages[milestone.job] = at_ns

    for item, played in streams:
        at_ns = played.arrived_ns - began_ns
        while (next_ns := engine.next_ns()) is not None and next_ns <= at_ns:
            wake(next_ns)
        tokens = played.stream.prompt_tokens, played.stream.output_tokens
        engine.start(item.id, *tokens, at_ns)
    while (next_ns := engine.next_ns()) is not None:
        wake(next_ns)
    return [
        _record(
            *(item, played.arrived_ns - began_ns),
            *(first_ns[item.id], ended_ns[item.id], played.stream.output_tokens),
        )
        for item, played in streams
    ]


def _record(
    item: LoadItem, arrived_ns: int, first_ns: int, ended_ns: int, tokens: int
) -> RequestRecord:
    good = item.sla.held(
        arrived_ns=arrived_ns, first_token_ns=first_ns, ended_ns=ended_ns, output_tokens=tokens
    )
    return RequestRecord(
        *(item.id, item.task, item.model, arrived_ns, arrived_ns),
        *(first_ns, ended_ns, tokens, Fate.DONE, good),
    )
