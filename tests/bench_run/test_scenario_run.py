"""Scenarios against a server over HTTP: what is sent, what is counted, how targets compare."""

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slalom.bench.scenario_compare import Target, compare, ratios, running
from slalom.bench.scenario_requests import EVERY, Speech, TokenSize, planned
from slalom.bench.scenario_run import Choices, load_of, play, results
from slalom.bench.scenario_text import Texts
from slalom.cli.bench_commands import bench_app
from slalom.config.scenario_load import LoadedScenario, load_scenario
from slalom.core.request import Sla
from slalom.errors import ConfigError
from slalom.metrics.results import RunResult
from slalom.metrics.summaries import Summary
from slalom.units import MS
from slalom.workload.clients import Retries
from slalom.workload.load import LoadItem, every_step
from slalom.workload.plan import DOCUMENT_HEADER, SESSION_HEADER

_SCENARIO = """
name: tiny
duration_seconds: 1.5
clients:
  - name: people
    arrivals: {kind: even, rate_per_s: 20}
    mix:
      - task: chat
        model: m
        prompt: {kind: uniform, low: 20, high: 60}
        output: {kind: uniform, low: 2, high: 9}
        max_tokens: 64
      - task: completion
        model: m
        prompt: {kind: fixed, tokens: 30}
        output: {kind: fixed, tokens: 64}
        max_tokens: 64
        typed_on_share: 1.0
        typed_on_ms: [5, 20]
  - name: agents
    arrivals: {kind: even, rate_per_s: 2}
    mix:
      - task: agent
        model: m
        prompt: {kind: fixed, tokens: 40}
        output: {kind: fixed, tokens: 3}
        max_tokens: 64
    steps:
      count: {kind: fixed, tokens: 3}
      gap_seconds: 0.01
      appended: {kind: fixed, tokens: 10}
models:
  - {id: m, bytes: 1GiB, places: 4, engine: {kind: simple}}
devices:
  - {id: gpu, budget: 2GiB}
"""


def _server(tokens_per_s: int = 1_000) -> Target:
    command = (
        f"{sys.executable} -m slalom.testing.fake_server --port ${{PORT}} --places 64 "
        f"--tokens-per-s {tokens_per_s}"
    )
    return Target(f"fake-{tokens_per_s}", command=command)


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedScenario:
    """A second and a half of people who type on, chats, and agents of three steps."""
    path = tmp_path / "tiny.yaml"
    path.write_text(_SCENARIO)
    return load_scenario(path)


def test_a_scenario_is_played_in_real_time_with_its_cancellations_and_sessions(
    loaded: LoadedScenario,
) -> None:
    choices = Choices(models={EVERY: "fake"})
    items = load_of(loaded, 0, choices)

    async def main() -> RunResult:
        async with running(_server()) as url:
            return await play(loaded, url, name="fake", seed=0, choices=choices)

    run = asyncio.run(main())
    steps = list(every_step(items))
    typed_on = sum(step.give_up_after_ns >= 0 for step in steps)
    assert run.total.injected == len(steps) > 30
    assert run.tasks["agent"].done == 2 * 3, "each later step follows the answer before it"
    assert 0 < run.total.cancelled <= typed_on
    assert run.total.done == len(steps) - run.total.cancelled
    assert run.total.duration_s == 1.5
    assert "client_lag_ms.p99" in run.figures()


def test_the_load_is_the_twins(loaded: LoadedScenario) -> None:
    whole = load_of(loaded, 3, Choices())
    assert load_of(loaded, 3, Choices()) == whole
    assert [item.at_ns for item in load_of(loaded, 3, Choices(seconds=0.5))] == [
        item.at_ns for item in whole if item.at_ns < 500 * MS
    ]
    assert len(load_of(loaded, 3, Choices(rate_scale=2.0))) > 1.8 * len(whole)
    with pytest.raises(ConfigError, match="no request"):
        load_of(loaded, 3, Choices(seconds=0.001))


def _item(name: str, *, session: str = "", at_ns: int = 0, shared: int = 0) -> LoadItem:
    sla = Sla(ttft_ns=200 * MS, e2e_ns=500 * MS)
    return LoadItem(
        name, at_ns, "chat", "m", 50, 7, 64, 16, sla, session=session, shared_tokens=shared
    )


def test_bodies_force_lengths_and_headers_declare_targets(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"line {n} of text\n" for n in range(500)))
    speech = Speech(
        models={"m": "theirs"},
        sizes={"theirs": TokenSize(4.0, overhead=3.0)},
        headers={"authorization": "Bearer k"},
    )
    (request,) = planned([_item("r")], Texts(tmp_path), speech)
    body = json.loads(request.body)
    assert (body["model"], body["max_tokens"], body["ignore_eos"]) == ("theirs", 7, True)
    assert len(body["prompt"]) == (50 - 3) * 4
    assert request.headers["x-slo-ttft-ms"] == "200"
    assert request.headers["x-slo-e2e-ms"] == "500"
    assert "x-slo-tpot-ms" not in request.headers
    assert request.headers["authorization"] == "Bearer k"
    assert request.path == "/v1/completions"
    (chat,) = planned([_item("r")], Texts(tmp_path), Speech(chat=True))
    assert json.loads(chat.body)["messages"][0]["role"] == "user"


def test_clients_type_on_and_come_again_as_they_do_in_the_twin(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("print(1)\n" * 500)
    rule = Retries(2, 5 * MS)
    item = replace(_item("r"), stale_after_ns=7 * MS, supersedes="doc", retries=rule)
    (request,) = planned([item], Texts(tmp_path), Speech())
    assert (request.stale_after_ns, request.retries) == (7 * MS, rule)
    assert request.headers[DOCUMENT_HEADER] == "doc"
    # Without a session, servers take a document's name for nothing.
    assert request.headers[SESSION_HEADER]
    (other,) = planned([_item("r")], Texts(tmp_path), Speech())
    assert (other.stale_after_ns, other.retries) == (None, None)
    assert DOCUMENT_HEADER not in other.headers


def test_only_requests_of_a_session_share_their_beginning(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"{n} squared is {n * n}\n" for n in range(5_000)))
    texts = Texts(tmp_path, seed=1)
    one, two = _item("a", session="s", shared=20), _item("b", session="s", shared=20)
    first, second = texts.of(one, 200, 80), texts.of(two, 200, 80)
    assert first[:80] == second[:80]
    assert first[80:] != second[80:]
    step, later = _item("s.1", session="s", at_ns=-1), _item("s.2", session="s", at_ns=-1)
    assert texts.of(later, 300, 200).startswith(texts.of(step, 200, 100))
    assert texts.of(_item("a"), 200, 0) != texts.of(_item("b"), 200, 0)
    assert len(texts.of(_item("a"), 1_000_000, 0)) == 1_000_000, "around the end of the text"


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no text files"):
        Texts(tmp_path)


def test_targets_alternate_and_the_slower_one_shows_in_the_ratios(loaded: LoadedScenario) -> None:
    order: list[tuple[str, int]] = []
    fast, slow = _server(1_000), _server(250)
    choices = Choices(models={EVERY: "fake"}, seconds=0.6)
    runs = asyncio.run(
        compare(
            loaded,
            [fast, slow],
            range(2),
            choices,
            on_run=lambda name, seed, _: order.append((name, seed)),
        )
    )
    assert order == [(fast.name, 0), (slow.name, 0), (slow.name, 1), (fast.name, 1)]
    found = ratios(results(loaded, "both", runs, choices), ["e2e_ms.p50", "nothing"])
    (ratio,) = found
    assert ratio.target == slow.name
    assert 1 < ratio.low <= ratio.ratio.mean <= ratio.high
    assert ratio.ratio.count == 2


def _run(policy: str, seed: int, good: int) -> RunResult:
    summary = Summary(10, 10, good, 0, 0, 0, 0, 10.0, None, None, None)
    return RunResult(policy, seed, summary, {"chat": summary})


def test_ratios_are_of_equal_seeds(loaded: LoadedScenario) -> None:
    runs = [_run("a", 0, 4), _run("b", 0, 8), _run("a", 1, 10), _run("b", 1, 10), _run("a", 2, 5)]
    (ratio,) = ratios(results(loaded, "w", runs, Choices()), ["goodput_per_s"])
    assert (ratio.low, ratio.high, ratio.ratio.mean) == (1.0, 2.0, 1.5)


@pytest.mark.parametrize(
    ("text", "url"),
    [("http://h:1/v1/", "http://h:1"), ("a=https://h", "https://h")],
)
def test_a_target_may_be_an_address(text: str, url: str) -> None:
    assert Target.read(text).url == url


@pytest.mark.parametrize("text", ["", "=x", "name=", "name", "a=serve --port 80"])
def test_a_target_that_cannot_be_started_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="target"):
        Target.read(text)


def test_the_commands_print_tables_and_write_the_twins_form(
    loaded: LoadedScenario, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    target = f"one={_server().command}"
    arguments = ["compare", str(loaded.path), "--target", target, "--target"]
    arguments += [f"two={_server().command}", "--seeds", "1", "--seconds", "0.4"]
    arguments += ["--model", "fake", "--json", str(out)]
    done = CliRunner().invoke(bench_app, arguments)
    assert done.exit_code == 0, done.output
    assert "over one" in done.stdout
    document = json.loads(out.read_text())
    assert document["scenario"] == "tiny"
    assert list(document["policies"]) == ["one", "two"]


def test_a_trace_is_cut_and_replaced_by_options(loaded: LoadedScenario, tmp_path: Path) -> None:
    row = '{{"at_ms": {}, "prompt_tokens": 20, "output_tokens": 3}}\n'
    (tmp_path / "t.jsonl").write_text("".join(row.format(n * 100) for n in range(20)))
    head, tail = loaded.path.read_text().split("  - name: agents")
    head = head.replace("kind: even, rate_per_s: 20", "kind: trace, path: absent.jsonl")
    (tmp_path / "traced.yaml").write_text(head + "models:" + tail.split("models:")[1])
    words = ["--trace", str(tmp_path / "t.jsonl"), "--from", "0.5", "--to", "1", "--json", "-"]

    async def main() -> str:
        async with running(_server()) as url:
            command = ["run", "--url", url, str(tmp_path / "traced.yaml"), "--model", "fake"]
            done = await asyncio.to_thread(CliRunner().invoke, bench_app, [*command, *words])
            return done.stdout

    (policy,) = json.loads(asyncio.run(main()))["policies"].values()
    assert policy["estimates"]["injected"]["mean"] == 5


def test_a_server_that_is_not_there_is_told_with_a_remedy(loaded: LoadedScenario) -> None:
    arguments = ["run", "--url", "http://127.0.0.1:9", str(loaded.path)]
    done = CliRunner().invoke(bench_app, arguments)
    assert done.exit_code == 1
    assert "is it running" in done.stderr
