"""The comparison with Ray Serve: its loads, its arithmetic, its page, and what Ray Serve is told.

Nothing here needs Ray: a run with it is `make bench-ray ARGS=--quick`.
"""

import asyncio
import json
import os
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse

from slalom.bench.bare_engine import bare_engine
from slalom.bench.ray_live.compare import ALONE, Run, alone_figures
from slalom.bench.ray_live.knee import Knee, steady_per_s
from slalom.bench.ray_live.load import (
    BURST,
    LOADS,
    alone,
    load,
    plenty,
    renamed,
    shares,
    tasks_for,
)
from slalom.bench.ray_live.machine import Serving, give_way
from slalom.bench.ray_live.page import Facts, page
from slalom.bench.ray_live.serve_program import Replica
from slalom.bench.ray_live.setting import (
    CODER,
    DIRECT,
    LOCAL,
    MODEL_OF,
    ON_RAY,
    PLACES,
    RAY,
    RAY_FIXED,
    REPLICAS,
    WRITER,
    Setting,
    configuration,
    serve_document,
)
from slalom.bench.ray_live.ways import Up, ray_version
from slalom.bench.scenario_requests import Speech, planned
from slalom.bench.scenario_text import Texts
from slalom.bench.sla_live.machine import cpu_s
from slalom.config.schema import Config
from slalom.engines.llama_cpp import LlamaCppOptions
from slalom.errors import SlalomError
from slalom.metrics.records import NEVER, Fate, RequestRecord
from slalom.models.sources import resolve
from slalom.testing.patience import until
from slalom.twin.engine_specs import LlamaCppEngine
from slalom.twin.step_time import StepProfile
from slalom.units import MS, SECOND, US

ENGINE = LlamaCppEngine(
    StepProfile("x", dense_flat_ns=8 * MS, dense_ns_per_token=MS, ingest_ns=500 * US),
    slots=PLACES,
    prefix_caching=False,
)
SLOWER = LlamaCppEngine(
    StepProfile("y", dense_flat_ns=16 * MS, dense_ns_per_token=2 * MS, ingest_ns=500 * US),
    slots=PLACES,
    prefix_caching=False,
)
TASKS = tasks_for({CODER: ENGINE, WRITER: SLOWER})


def _setting(tmp_path: Path) -> Setting:
    return Setting({CODER: tmp_path / "a.gguf", WRITER: tmp_path / "b.gguf"})


def test_targets_are_by_the_model_that_is_asked() -> None:
    alike = tasks_for({CODER: ENGINE, WRITER: ENGINE})
    assert TASKS["completion"] == alike["completion"]
    ratio = (TASKS["translation"].e2e_ms or 0) / (alike["translation"].e2e_ms or 1)
    assert ratio == pytest.approx(2.0, rel=0.01)


def test_a_load_asks_both_models_and_bursts_come_at_one_time() -> None:
    items = load(TASKS, LOADS["bursts"], 10.0, 20.0, seed=1, name="b")
    assert {(item.task, item.model) for item in items} == set(MODEL_OF.items())
    at_once = Counter(item.at_ns for item in items)
    assert set(at_once.values()) == {BURST}
    assert len(items) == pytest.approx(10.0 * 0.85 * 20.0, abs=BURST)
    even = load(TASKS, LOADS["poisson"], 10.0, 20.0, seed=1, name="p")
    assert max(Counter(item.at_ns for item in even).values()) == 1


def test_renamed_requests_have_the_same_sizes() -> None:
    items = load(TASKS, LOADS["poisson"], 10.0, 2.0, seed=1, name="p")
    other = renamed(items, "Ray Serve, 0")
    assert {one.id for one in items}.isdisjoint(one.id for one in other)
    assert [one.prompt_tokens for one in items] == [one.prompt_tokens for one in other]
    assert all(" " not in one.id for one in other)


def test_the_look_at_the_throughput_counts_nothing_of_its_beginning() -> None:
    steady = range(4 * SECOND, 11 * SECOND, SECOND)
    assert steady_per_s([*steady, 11 * SECOND], 10 * SECOND) == pytest.approx(1.0)
    assert steady_per_s([2 * SECOND], 10 * SECOND) == 0.0


def test_the_knee_is_what_the_mix_takes_of_a_machine_shared_by_two() -> None:
    share = shares()
    assert sum(share.values()) == pytest.approx(1.0)
    # Each alone would answer twice as many as beside the other.
    knee = Knee({CODER: 4.0, WRITER: 2.0}, Speech())
    busy_s = share[CODER] / 8.0 + share[WRITER] / 4.0
    assert knee.most_per_s == pytest.approx(1 / busy_s)
    assert {item.model for item in plenty(TASKS, WRITER, 0.2, seed=1, name="x")} == {WRITER}


def test_everybody_has_the_same_engine(tmp_path: Path) -> None:
    setting = _setting(tmp_path)
    options = setting.options(CODER)
    section = Config.model_validate(configuration(setting)).models[0]
    document = serve_document(setting, RAY, 1234, tmp_path)
    told = document["models"][CODER]
    assert LlamaCppOptions(Path(told["model"]), **told["options"]) == options
    command = bare_engine(DIRECT, CODER, options).command
    for name in ("context_tokens", "places", "threads", "micro_batch_tokens", "extra"):
        assert getattr(section.engine, name) == getattr(options, name)
        assert f'"{name}": {json.dumps(getattr(options, name))}' in command
    assert section.replicas == document["replicas"] == REPLICAS
    assert document["places"] == options.places


def test_ray_serve_scales_by_itself_or_not_at_all(tmp_path: Path) -> None:
    setting = _setting(tmp_path)
    assert serve_document(setting, RAY, 1, tmp_path)["scaling"]["target_ongoing_requests"] == 2
    assert serve_document(setting, RAY_FIXED, 1, tmp_path)["scaling"] is None


def test_ray_serve_is_asked_by_path() -> None:
    requests = planned(alone(2, "x"), Texts(), Speech())
    assert [one.path for one in Up("u", by_path=True).requests(requests)] == [
        f"/{CODER}/v1/completions"
    ] * 2
    assert Up("u").requests(requests) == requests


def test_no_ray_is_no_version(tmp_path: Path) -> None:
    assert ray_version(tmp_path / "python") == ""


@pytest.mark.live
async def test_the_deployment_relays_what_the_engine_says() -> None:
    options = {"context_tokens": 256, "places": 1}
    replica = Replica("m", str(resolve("bundled:slalom-mini").path), options)
    await replica.reconfigure(None)
    engine = replica.engine
    assert engine is not None
    try:
        body = {"prompt": "def f", "max_tokens": 3, "stream": True, "ignore_eos": True}
        answer = await replica(_request("/m/v1/completions", body))
        assert isinstance(answer, StreamingResponse)
        said = b"".join([bytes(piece) async for piece in answer.body_iterator])  # type: ignore[arg-type]
        assert answer.status_code == 200
        assert said.count(b'"text":') >= 3
        assert said.endswith(b"data: [DONE]\n\n")
        refused = await replica(_request("/m/v1/completions", {"prompt": 7, "max_tokens": "x"}))
        assert refused.status_code >= 400
    finally:
        await engine.stop(0.0)


def _request(path: str, body: object) -> Request:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b""}
    scope |= {"server": ("127.0.0.1", 80), "scheme": "http"}
    return Request(scope, receive)


async def test_what_serves_is_told_apart_from_engines() -> None:
    spent = Serving()
    code = "import time\nwhile time.process_time() < 0.3: pass\ninput()"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdin=PIPE)

    async def enough() -> bool:
        return spent.cpu_s() >= 0.25

    # It waits for a line once it has spent its time.
    await until(enough, "its time is counted")
    assert spent.cpu_s() < 2.0
    await process.communicate(b"\n")
    engine = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, "slalom.engines.llama_cpp_process"), stdin=PIPE
    )
    spent = Serving()

    async def computed() -> bool:
        return cpu_s(engine.pid) >= 0.25

    await until(computed, "the engine has spent its time")
    assert spent.cpu_s() < 0.1
    await engine.communicate(b"\n")


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads are Linux's")
def test_engines_give_way_among_sessions_too() -> None:
    engine = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        give_way(engine.pid)
        assert os.getpriority(os.PRIO_PROCESS, engine.pid) == 10
        group = Path(f"/proc/{engine.pid}/autogroup")
        assert not group.exists() or group.read_text().endswith("nice 10\n")
    finally:
        engine.communicate(b"\n")


def _record(number: int, first_ms: float, end_ms: float, fate: Fate = Fate.DONE) -> RequestRecord:
    return RequestRecord(
        request_id=f"r{number}",
        task="generation",
        model=CODER,
        scheduled_ns=0,
        sent_ns=SECOND,
        first_token_ns=SECOND + round(first_ms * MS) if fate is Fate.DONE else NEVER,
        ended_ns=SECOND + round(end_ms * MS),
        output_tokens=9,
        fate=fate,
        good=True,
    )


def test_what_a_way_adds_counts_from_the_sending() -> None:
    found = alone_figures([_record(n, 10.0 + n, 30.0 + n) for n in range(3)])
    assert found == {"ttft_ms": pytest.approx(11.0), "e2e_ms": pytest.approx(31.0)}
    with pytest.raises(SlalomError, match="not answered"):
        alone_figures([_record(0, 10.0, 20.0), _record(1, 0.0, 20.0, Fate.FAILED)])


def _facts(left_out: dict[str, str] | None = None) -> Facts:
    return Facts(
        *("the command", "a machine", "versions", (60_000_000, 120_000_000), TASKS),
        most_per_s=3.0,
        seconds=30.0,
        repeats=2,
        left_out=left_out or {},
        took_s=60.0,
    )


def _run(way: str, load_name: str, repeat: int, **known: float) -> Run:
    return Run(way, load_name, repeat, known, disturbed=0.01)


def test_the_page_sets_slalom_beside_ray_serve() -> None:
    good = {RAY: 1.0, RAY_FIXED: 1.6, LOCAL: 2.0}
    runs = [
        _run(way, "bursts", repeat, goodput_per_s=per_s, requests=10, done=9, refused=1)
        for repeat in range(2)
        for way, per_s in good.items()
    ]
    waits = {DIRECT: 20.0, RAY: 32.0, LOCAL: 21.5}
    runs += [
        _run(way, ALONE, repeat, ttft_ms=ms + repeat, e2e_ms=2 * ms)
        for repeat in range(2)
        for way, ms in waits.items()
    ]
    text = page(_facts({ON_RAY: "there is no Ray"}), runs)
    assert f"{LOCAL} by {RAY}: × 2.00 ± 0.00" in text
    assert f"{LOCAL} by {RAY_FIXED}: × 1.25 ± 0.00" in text
    assert "| Ray Serve | 32.5 ± 6.4 | 12.0 ± 0.0 | 64.0 ± 0.0 | 24.0 ± 0.0 |" in text
    assert "| Slalom | 20 | 18 | 2 | 0 |" in text
    assert f"{ON_RAY} is left out: there is no Ray." in text
    assert "measure again" not in text
    assert f"- *{ON_RAY}*" not in text
