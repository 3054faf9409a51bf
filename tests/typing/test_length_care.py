"""One line where the cursor asks for it, no word for a warm-up or instead of a late answer."""

import asyncio
import json
from typing import Any, cast

import pytest

from slalom.config.params import tasks_over_defaults
from slalom.config.sections import TaskSection
from slalom.core.planning import Plan, Planning, PlanView, Refuse
from slalom.gateway.length_care import asks_for_one_line, stops, wants_single_line
from slalom.gateway.params import GatewayParams, KeyEntry, ServedModel
from slalom.gateway.preparation import Arrival, Work, prepare
from slalom.gateway.request_head import read_head
from slalom.policies.registry import build
from slalom.testing import FakeLauncher, FakeScript, FakeTimings
from slalom.testing.scripted_planner import Scripted
from slalom.units import MS
from tests.gateway.house import house
from tests.gateway.test_preparation import COMPLETIONS, SHARED, sent, work

MODELS = (ServedModel("a"),)
TASK = {"x-slalom-task": "completion"}
ONE_LINE = {"x-slalom-single-line": "auto"}


@pytest.mark.parametrize(
    ("before", "after", "one_line"),
    [
        ("    x = fo", "\n", True),
        ("    return ", "\n}\n", True),
        ("    call(a, ", ")\n", False),
        ("    call(", ")\n", False),  # its arguments may take lines
        ("    call(", ", last)\n", True),
        ("    ", "\n    return x\n", False),
        ("", "", False),
        ("def f(x):", "\n", False),
        ("if (x) {", "}", False),
        ("x = [", "]\n", False),
        ("    ", "left = right\n", True),
    ],
)
def test_the_text_around_the_cursor_tells(before: str, after: str, one_line: bool) -> None:
    assert asks_for_one_line("first line\n" + before, after) is one_line


@pytest.mark.parametrize(
    ("headers", "metadata", "of_key", "wanted"),
    [
        ({}, None, "off", False),
        ({}, None, "auto", True),
        ({}, {"single_line": "auto"}, "off", True),
        ({"x-slalom-single-line": "off"}, {"single_line": "on"}, "on", False),
        ({"x-slalom-single-line": " ON "}, None, "off", True),
        ({"x-slalom-single-line": "perhaps"}, None, "auto", True),
        ({}, {"single_line": 7}, "off", False),
    ],
)
def test_the_client_comes_first_then_its_key(
    headers: dict[str, str], metadata: Any, of_key: Any, wanted: bool
) -> None:
    cursor = ("x = fo", "\n")
    assert wants_single_line(headers, {"metadata": metadata}, of_key, cursor) is wanted


def test_the_end_of_the_line_joins_other_stops() -> None:
    assert stops({}) == ["\n"]
    assert stops({"stop": "END"}) == ["END", "\n"]
    assert stops({"stop": ["\n", "END"]}) == ["\n", "END"]


def infill(before: str, headers: dict[str, str] | None = None, **more: Any) -> Work:
    return work({"model": "a", "prompt": before, "suffix": "\n", **more}, COMPLETIONS, headers)


def test_an_engine_is_told_to_stop_and_the_task_is_that_of_one_line() -> None:
    plain = infill("    x = fo", max_tokens=99)
    assert "stop" not in sent(plain)
    assert plain.request.task == "completion-multiline"
    short = infill("    x = fo", ONE_LINE, max_tokens=99, stop="END")
    assert sent(short)["stop"] == ["END", "\n"]
    assert short.request.task == "completion"
    assert "stop" not in sent(infill("if x:", ONE_LINE))
    marked = {"model": "a", "prompt": "<P>x = fo<S>\n<M>"}
    assert sent(work(marked, COMPLETIONS, ONE_LINE))["stop"] == ["\n"]
    empty = {"model": "a", "prompt": "<P><S>\n<M>"}  # the mark itself is no code
    assert "stop" not in sent(work(empty, COMPLETIONS, ONE_LINE))
    assert "stop" not in sent(work({"model": "a", "prompt": "x = fo"}, COMPLETIONS, ONE_LINE))


def test_a_key_may_wish_it_for_all_its_requests() -> None:
    key = KeyEntry("editor", b"", single_line="auto")
    raw = json.dumps({"model": "a", "prompt": "x = fo", "suffix": "\n"}).encode()
    arrival = Arrival("r-1", COMPLETIONS, read_head([], SHARED.watched_headers), key, 1)
    assert sent(prepare(SHARED, arrival, raw))["stop"] == ["\n"]


async def given_up(asking: asyncio.Task[Any]) -> None:
    """A client that leaves."""
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


def refusing(view: PlanView, _now_ns: int) -> Plan:
    return Plan(refusals=[Refuse(one.request.id) for one in view.waiting(9)])


def late(when: Any) -> GatewayParams:
    return GatewayParams(
        MODELS, tasks=tasks_over_defaults({"completion": TaskSection(when_late=when)})
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_a_class_may_want_no_word_instead_of_a_late_one(*, stream: bool) -> None:
    body = {"model": "a", "prompt": "x", "max_tokens": 4, "stream": stream}
    async with house(params=late("empty"), admission=Scripted(refusing)) as at:
        url = f"{at.url}{COMPLETIONS}"
        async with at.http.post(url, json=body, headers=TASK) as reply:
            text = await reply.text()
            assert reply.status == 200, text
            assert reply.headers["x-slalom-outcome"] == "late"
        if stream:
            first, end, _ = text.split("\n\n")
            assert end == "data: [DONE]"
            text = first.removeprefix("data: ")
        (choice,) = json.loads(text)["choices"]
        assert (choice["text"], choice["finish_reason"]) == ("", "stop")
        # Other classes are told that they were refused.
        status, document, _ = await at.post(COMPLETIONS, {**body, "stream": False})
        assert (status, document["error"]["code"]) == (429, "sla_infeasible")
        await at.until(lambda: len(at.gateway.records.latest(9)) == 2)
        codes = [record["code"] for record in at.gateway.records.latest(9)]
        assert codes == ["sla_infeasible", "sla_infeasible"]


async def test_the_planner_gives_such_a_class_up_at_once() -> None:
    """By itself it would let the late one wait for its patience's time."""
    slow = FakeLauncher(FakeScript(timings=FakeTimings(token_ns=20 * MS), places=1))
    patient = {"late": "demote", "late_patience": 1_000.0, "late_patience_ms": 600_000}
    planner = cast("Planning", build("admission", "plan-and-trim", patient))
    async with house({"a": slow}, params=late("empty"), places=1, admission=planner) as at:
        for _ in range(12):  # so that it learns what a step takes
            await at.post(COMPLETIONS, {"model": "a", "prompt": "x", "max_tokens": 3})
        long = asyncio.create_task(
            at.post(COMPLETIONS, {"model": "a", "prompt": "x", "max_tokens": 2_000})
        )
        await at.until(lambda: at.engine()._active)
        status, document, headers = await at.post(
            COMPLETIONS,
            {"model": "a", "prompt": "x", "max_tokens": 40},
            {**TASK, "x-slo-e2e-ms": "50"},
        )
        assert status == 200
        assert headers.get("x-slalom-outcome") == "late"
        assert document["choices"][0]["text"] == ""
        assert not long.done()
        await given_up(long)


def test_what_a_class_wants_when_it_is_late_is_configured() -> None:
    table = tasks_over_defaults(
        {"completion": TaskSection(when_late="empty"), "mine": TaskSection()}
    )
    assert table["completion"].when_late == "empty"
    assert table["completion"].ttft_ms == 200
    assert table["mine"].when_late == "policy"


def warm_up(**more: Any) -> dict[str, Any]:
    return {"model": "a", "prompt": "x " * 200, "n_predict": 0, **more}


def test_a_warm_up_is_of_the_least_urgent_class_and_replaces_nothing() -> None:
    prepared = work(warm_up(), COMPLETIONS, {**TASK, "x-slalom-session": "s"})
    assert prepared.warm_up
    assert prepared.request.task == "batch"
    assert prepared.request.sla.e2e_ns is None
    assert prepared.request.supersedes == ""
    assert prepared.request.max_tokens == 1
    assert prepared.question is None
    assert sent(prepared)["max_tokens"] == sent(prepared)["n_predict"] == 1
    assert not work(warm_up(n_predict=3), COMPLETIONS).warm_up
    assert not work(warm_up(max_tokens=3), COMPLETIONS).warm_up


@pytest.mark.parametrize("stream", [False, True])
async def test_a_warm_up_has_no_text_and_is_left_out_when_others_are_served(
    *, stream: bool
) -> None:
    slow = FakeLauncher(FakeScript(timings=FakeTimings(token_ns=20 * MS)))
    async with house({"a": slow}) as at:
        await at.post(COMPLETIONS, {"model": "a", "prompt": "x", "max_tokens": 1})
        url = f"{at.url}{COMPLETIONS}"
        async with at.http.post(url, json=warm_up(stream=stream)) as reply:
            read_ahead, outcome = await reply.text(), reply.headers.get("x-slalom-outcome")
        assert outcome is None
        assert '"text":""' in read_ahead
        assert " w0" not in read_ahead
        assert len(at.ended) == 2  # the engine has read it
        other = asyncio.create_task(
            at.post(COMPLETIONS, {"model": "a", "prompt": "x", "max_tokens": 400})
        )
        await at.until(lambda: at.engine()._active)
        async with at.http.post(url, json=warm_up(stream=stream)) as reply:
            left_out, outcome = await reply.text(), reply.headers.get("x-slalom-outcome")
        assert outcome == "skipped"
        assert '"text":""' in left_out
        assert len(at.ended) == 2
        await given_up(other)


async def test_a_warm_up_loads_no_model() -> None:
    async with house() as at:
        _, _, headers = await at.post(COMPLETIONS, warm_up())
        assert headers["x-slalom-outcome"] == "skipped"
        assert not at.launchers["a"].engines
