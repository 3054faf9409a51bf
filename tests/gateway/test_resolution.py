"""Tasks and targets: header > body > key > rule > default, and a ceiling nobody gets above."""

from typing import Any

import pytest

from slalom.core.request import Sla
from slalom.errors import RequestError
from slalom.gateway.params import GatewayParams, KeyEntry, ServedModel, TaskRule
from slalom.gateway.resolution import Facts, Resolved, resolve
from slalom.units import MS
from slalom.workload.tasks import DEFAULT_TASKS, sla_for

CHAT = "/v1/chat/completions"
MODEL = ServedModel("coder")


def run(
    *,
    headers: dict[str, str] | None = None,
    body: dict[str, Any] | None = None,
    key: KeyEntry | None = None,
    rules: tuple[TaskRule, ...] = (),
    path: str = CHAT,
    model: ServedModel = MODEL,
    named_task: str | None = None,
    max_tokens: int = 100,
    prompt_tokens: int = 10,
    fim: bool = False,
) -> Resolved:
    facts = Facts(
        path=path,
        headers=headers or {},
        body=body or {},
        model_name=model.id,
        model=model,
        named_task=named_task,
        key=key,
        prompt_tokens=prompt_tokens,
        max_tokens=max_tokens,
        fim=fim,
    )
    return resolve(facts, GatewayParams((model,), rules=rules))


def key(task: str | None = None, ceiling: str | None = None) -> KeyEntry:
    return KeyEntry("k", b"x" * 32, task=task, ceiling=ceiling)


BATCH_RULE = TaskRule("batch", path=CHAT)
HISTORY = [{"role": "user"}, {"role": "assistant"}, {"role": "user"}]


@pytest.mark.parametrize(
    ("given", "task"),
    [
        # each source wins over all below it
        ({"headers": {"x-slalom-task": "translation"}, "body": {"metadata": {"task": "chat"}},
          "key": key("agent"), "rules": (BATCH_RULE,)}, "translation"),
        ({"body": {"metadata": {"task": "chat"}}, "named_task": "batch", "key": key("chat"),
          "rules": (BATCH_RULE,)}, "chat"),
        ({"named_task": "summarisation", "key": key("chat"), "rules": (BATCH_RULE,)},
         "summarisation"),
        ({"key": key("agent"), "rules": (BATCH_RULE,), "fim": True}, "agent"),
        ({"rules": (BATCH_RULE,), "fim": True}, "batch"),
        ({}, "generation"),
        # recognition
        ({"fim": True, "max_tokens": 32}, "completion"),
        ({"fim": True, "body": {"stop": ["\n"]}}, "completion"),
        ({"fim": True, "body": {"stop": "\n"}}, "completion"),
        ({"fim": True}, "completion-multiline"),
        ({"body": {"tools": [{}]}}, "agent"),
        ({"body": {"tools": []}}, "generation"),
        ({"body": {"messages": HISTORY}}, "chat"),
        ({"body": {"messages": HISTORY[:1]}}, "generation"),
        ({"path": "/v1/embeddings"}, "embedding"),
        ({"model": ServedModel("r1", default_task="reasoning"), "body": {"messages": HISTORY}},
         "reasoning"),
        ({"model": ServedModel("r1", default_task="reasoning"), "body": {"tools": [1]}}, "agent"),
        # other systems' words, with their polarity
        ({"headers": {"x-smg-priority": "Bulk"}}, "batch"),
        ({"headers": {"x-smg-priority": "system"}}, "generation"),
        ({"headers": {"x-request-priority": "-1"}}, "batch"),
        ({"headers": {"x-request-priority": "7"}}, "generation"),
        ({"headers": {"x-dynamo-request-priority": "-3"}}, "batch"),
        ({"headers": {"x-dynamo-request-priority": "0"}}, "generation"),
        ({"body": {"priority": 5}}, "batch"),
        ({"body": {"priority": -5}}, "generation"),
        ({"body": {"service_tier": "flex"}}, "batch"),
        ({"body": {"service_tier": "auto"}}, "generation"),
        # rules
        ({"rules": (TaskRule("batch", has=("tools",)),), "body": {"tools": [1]}}, "batch"),
        ({"rules": (TaskRule("batch", has=("tools",)),), "body": {"tools": []}}, "generation"),
        ({"rules": (TaskRule("batch", model="coder"),)}, "batch"),
        ({"rules": (TaskRule("batch", model="other"),)}, "generation"),
        ({"rules": (TaskRule("batch", header="X-App: ci"),), "headers": {"x-app": "ci"}}, "batch"),
        ({"rules": (TaskRule("batch", header="x-app"),), "headers": {"x-app": "1"}}, "batch"),
        ({"rules": (TaskRule("batch", header="x-app: ci"),), "headers": {"x-app": "ed"}},
         "generation"),
        ({"rules": (TaskRule("batch", history=True),), "body": {"messages": HISTORY}}, "batch"),
        ({"rules": (TaskRule("batch", history=False),), "body": {"messages": HISTORY}}, "chat"),
        ({"rules": (TaskRule("batch", path="/v1/embeddings"), TaskRule("agent", path=CHAT))},
         "agent"),
    ],
)  # fmt: skip
def test_which_task(given: dict[str, Any], task: str) -> None:
    resolved = run(**given)
    assert resolved.task.name == task
    assert resolved.notices == ()


@pytest.mark.parametrize(
    ("given", "sla"),
    [
        ({}, Sla(ttft_ns=500 * MS, tpot_ns=50 * MS)),
        ({"headers": {"x-slalom-task": "translation"}}, Sla(e2e_ns=10_200 * MS)),
        ({"headers": {"x-slo-ttft-ms": "250"}}, Sla(250 * MS, 50 * MS)),
        ({"headers": {"x-llm-d-slo-ttft-ms": "250"}}, Sla(250 * MS, 50 * MS)),
        ({"headers": {"x-sgl-ttft-slo-ms": "0.5"}}, Sla(MS // 2, 50 * MS)),
        ({"headers": {"x-slo-tpot-ms": "20"}}, Sla(500 * MS, 20 * MS)),
        ({"headers": {"x-llm-d-slo-tpot-ms": "20"}}, Sla(500 * MS, 20 * MS)),
        ({"headers": {"x-sgl-tps-slo": "40"}}, Sla(500 * MS, 25 * MS)),
        ({"headers": {"x-slo-e2e-ms": "9000"}}, Sla(500 * MS, 50 * MS, 9_000 * MS)),
        ({"body": {"metadata": {"slo_ttft_ms": "300"}}}, Sla(300 * MS, 50 * MS)),
        ({"body": {"metadata": {"slo_ttft_ms": 300}}, "headers": {"x-slo-ttft-ms": "100"}},
         Sla(100 * MS, 50 * MS)),
        ({"body": {"t_max_prompt_ms": 150, "t_max_predict_ms": 350}},
         Sla(150 * MS, 50 * MS, 500 * MS)),
        ({"body": {"t_max_prompt_ms": -1}}, Sla(500 * MS, 50 * MS)),
    ],
)  # fmt: skip
def test_which_targets(given: dict[str, Any], sla: Sla) -> None:
    assert run(**given).sla == sla


@pytest.mark.parametrize(
    ("given", "param"),
    [
        *(
            ({"headers": {name: value}}, name)
            for name in (
                "x-slo-ttft-ms",
                "x-slo-tpot-ms",
                "x-slo-e2e-ms",
                "x-llm-d-slo-ttft-ms",
                "x-llm-d-slo-tpot-ms",
                "x-sgl-ttft-slo-ms",
                "x-sgl-tps-slo",
            )
            for value in ("fast", "-1", "0", "nan", "inf", "", "1e300", "1e-300")
        ),
        ({"headers": {"x-request-priority": "high"}}, "x-request-priority"),
        ({"headers": {"x-dynamo-request-priority": "1.5"}}, "x-dynamo-request-priority"),
        ({"body": {"metadata": {"slo_e2e_ms": "soon"}}}, "metadata.slo_e2e_ms"),
        ({"body": {"metadata": {"slo_e2e_ms": True}}}, "metadata.slo_e2e_ms"),
        ({"body": {"t_max_predict_ms": "1"}}, "t_max_predict_ms"),
        ({"body": {"t_max_predict_ms": 10**400}}, "t_max_predict_ms"),
        # a second name for the same target is checked too
        ({"headers": {"x-slo-ttft-ms": "5", "x-llm-d-slo-ttft-ms": "x"}}, "x-llm-d-slo-ttft-ms"),
    ],
)
def test_malformed_numbers_are_named(given: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as problem:
        run(**given)
    assert problem.value.param == param
    assert param in str(problem.value)


def test_an_unknown_task_falls_back_and_says_so() -> None:
    resolved = run(headers={"x-slalom-task": "teleport\r\n"}, body={"tools": [1]})
    assert resolved.task.name == "agent"
    assert resolved.notices == ("unknown task 'teleport' ignored",)
    assert run(body={"metadata": {"task": "x"}}).notices
    assert run(headers={"x-smg-priority": "vip"}).notices


@pytest.mark.parametrize(
    ("the_key", "declared", "task", "noted"),
    [
        (key(ceiling="chat"), "completion", "chat", True),
        (key(ceiling="chat"), "translation", "translation", False),
        (key(ceiling="chat"), "generation", "generation", False),
        # a key's own task is its ceiling where it has no other
        (key(task="translation"), "completion", "translation", True),
        (key(task="translation"), "batch", "batch", False),
        (key(task="translation", ceiling="completion"), "completion", "completion", False),
        (key(), "completion", "completion", False),
    ],
)
def test_a_header_may_lower_a_keys_class_never_raise_it(
    the_key: KeyEntry, declared: str, task: str, noted: bool
) -> None:
    resolved = run(headers={"x-slalom-task": declared}, key=the_key)
    assert resolved.task.name == task
    assert bool(resolved.notices) is noted


def test_targets_stay_below_the_ceiling_too() -> None:
    chat = key(ceiling="chat")
    tight = {"x-slo-ttft-ms": "1", "x-slo-tpot-ms": "1", "x-slo-e2e-ms": "1"}
    resolved = run(headers=tight, key=chat)
    assert resolved.sla == Sla(500 * MS, 50 * MS, 500 * MS)
    assert resolved.notices
    loose = {"x-slo-ttft-ms": "900", "x-slo-tpot-ms": "90"}
    assert run(headers=loose, key=chat).sla == Sla(900 * MS, 90 * MS)
    assert run(headers=loose, key=chat).notices == ()
    assert run(headers=tight, key=key(ceiling="batch")).sla == Sla(tpot_ns=MS)


def test_the_default_table_is_ordered_by_urgency() -> None:
    urgencies = [task.urgency_ms for task in DEFAULT_TASKS.values()]
    assert urgencies == sorted(urgencies)
    assert sla_for(DEFAULT_TASKS["batch"], 100) == Sla()
    assert sla_for(DEFAULT_TASKS["completion"], 100) == Sla(200 * MS, None, 500 * MS)
