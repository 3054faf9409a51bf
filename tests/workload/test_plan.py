"""Plans: complete requests, the same for the same seed, with targets that the server shares."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from slalom.gateway.upstream_call import prompt_tokens as gateway_estimate
from slalom.units import MS, SECOND
from slalom.workload.arrivals import poisson
from slalom.workload.mix import MixEntry
from slalom.workload.plan import LoadSpec, plan
from slalom.workload.prompts import CHAT_PATH
from slalom.workload.source_code import Corpus
from slalom.workload.tasks import DEFAULT_TASKS, sla_for

MIX = (
    MixEntry("completion", "tiny", 6, (8, 24)),
    MixEntry("generation", "large", 3, (100, 100)),
    MixEntry("translation", "large", 1, (50, 200)),
)
SPEC = LoadSpec(MIX, poisson(10.0), 200, seed=4, name="test")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus(seed=4)


def test_the_same_spec_gives_the_same_bytes(corpus: Corpus) -> None:
    assert plan(SPEC, corpus) == plan(SPEC, Corpus(seed=4))
    assert plan(SPEC, corpus) != plan(replace(SPEC, seed=5), corpus)


def test_requests_are_complete(corpus: Corpus) -> None:
    limits = {entry.task: entry.max_tokens for entry in MIX}
    planned = plan(SPEC, corpus)
    assert len({request.id for request in planned}) == SPEC.count
    assert [request.at_ns for request in planned] == sorted(r.at_ns for r in planned)
    for request in planned:
        body = json.loads(request.body)
        low, high = limits[request.task]
        assert low <= body["max_tokens"] <= high
        assert body["model"] == request.model
        assert body["stream"] is True
        assert body["stream_options"] == {"include_usage": True}
        assert request.headers["x-slalom-task"] == request.task
        assert ("suffix" in body) == (request.path == "/v1/completions")
        assert request.give_up_after_ns is None
        assert b"def " not in repr(request).encode()


def test_fitted_arrivals_end_where_the_rate_says(corpus: Corpus) -> None:
    plain, fitted = plan(SPEC, corpus), plan(replace(SPEC, fitted=True), corpus)
    assert fitted[-1].at_ns == pytest.approx(20 * SECOND, abs=1)
    stretch = fitted[-1].at_ns / plain[-1].at_ns
    assert [r.at_ns for r in fitted] == [pytest.approx(r.at_ns * stretch, abs=2) for r in plain]
    assert [r.body for r in fitted] == [r.body for r in plain]


def test_shares_follow_the_weights(corpus: Corpus) -> None:
    counts = Counter(request.task for request in plan(replace(SPEC, count=600), corpus))
    assert counts["completion"] == pytest.approx(360, abs=60)
    assert counts["translation"] == pytest.approx(60, abs=30)


def test_targets_are_those_the_gateway_will_use(corpus: Corpus) -> None:
    for request in plan(SPEC, corpus):
        tokens = gateway_estimate(json.loads(request.body), chat=request.path == CHAT_PATH)
        assert request.sla == sla_for(DEFAULT_TASKS[request.task], tokens)


def test_a_share_of_completions_is_typed_on_and_nothing_else_changes(corpus: Corpus) -> None:
    plain = plan(SPEC, corpus)
    typed = plan(replace(SPEC, typed_on_share=0.5, typed_on_ms=(100, 200)), corpus)
    assert [r.body for r in typed] == [r.body for r in plain]
    gone = [r for r in typed if r.give_up_after_ns is not None]
    completions = [r for r in typed if r.task == "completion"]
    assert {r.task for r in gone} == {"completion"}
    assert 0.3 * len(completions) < len(gone) < 0.7 * len(completions)
    assert all(100 * MS <= (r.give_up_after_ns or 0) <= 200 * MS for r in gone)


@pytest.mark.parametrize(
    "entry",
    [
        ("poetry", 1.0, (1, 2)),
        ("completion", 0.0, (1, 2)),
        ("completion", 1.0, (0, 2)),
        ("completion", 1.0, (3, 2)),
    ],
)
def test_what_cannot_be_planned_is_refused(entry: tuple[str, float, tuple[int, int]]) -> None:
    task, weight, limits = entry
    with pytest.raises(ValueError, match=task):
        MixEntry(task, "m", weight, limits)
