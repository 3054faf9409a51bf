"""Prompts that begin like earlier ones: found by hashes, within one key and model."""

import random
from typing import Any

import pytest

from slalom.gateway.prefixes import Head, Prefixes
from tests.gateway.test_preparation import COMPLETIONS, work

CLIENT = ("key", "model")


def text(seed: int, chars: int) -> str:
    rng = random.Random(seed)
    return "".join(rng.choice("abcdefgh \n") for _ in range(chars))


def talk(*messages: str) -> dict[str, Any]:
    """A conversation: system, user, assistant, tool, and so on."""
    roles = ("system", "user", "assistant", "tool", "assistant", "tool")
    pairs = zip(roles, messages, strict=False)
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


def chars(body: dict[str, Any]) -> int:
    return sum(len(m["content"]) + len(m["role"]) for m in body["messages"])


def near(head: Head, body: dict[str, Any], common: int) -> bool:
    return abs(head.share * chars(body) - common) <= 50


SYSTEM, ASK, ANSWER, TOOL = text(1, 3_000), text(2, 900), text(3, 700), text(4, 2_000)


def test_the_next_step_of_a_conversation_shares_all_of_the_one_before_and_its_answer() -> None:
    index = Prefixes()
    first = index.find(CLIENT, talk(SYSTEM, ASK))
    assert first.name
    assert not first.share
    body = talk(SYSTEM, ASK, ANSWER, TOOL)
    second = index.find(CLIENT, body)
    assert second.name == first.name
    assert not second.start
    assert near(second, body, 3_000 + 900 + 700)
    body = talk(SYSTEM, ASK, ANSWER, TOOL, ANSWER, TOOL)
    assert near(index.find(CLIENT, body), body, 3_000 + 900 + 700 + 2_000 + 700)


def test_another_conversation_is_a_branch_of_the_one_with_its_system_prompt() -> None:
    index = Prefixes()
    first = index.find(CLIENT, talk(SYSTEM, ASK))
    body = talk(SYSTEM, text(7, 5_000))
    other = index.find(CLIENT, body)
    assert other.name not in {"", first.name}
    assert other.start == first.name
    assert near(other, body, 3_000)
    back = index.find(CLIENT, talk(SYSTEM, ASK, ANSWER, TOOL))
    assert back.name == first.name, "each goes on as itself"


@pytest.mark.parametrize("client", [("other", "model"), ("key", "another")])
def test_others_prompts_are_not_compared(client: tuple[str, str]) -> None:
    index = Prefixes()
    index.find(CLIENT, talk(SYSTEM, ASK))
    assert not index.find(client, talk(SYSTEM, ASK)).share
    assert index.find(CLIENT, talk(SYSTEM, ASK)).share == 1.0


@pytest.mark.parametrize("length", [3_000, 20_000, 200_000])
def test_typing_on_in_a_document_shares_all_but_the_end(length: int) -> None:
    index = Prefixes()
    document, after = text(5, length), text(6, 400)
    first = index.find(CLIENT, {"prompt": document, "suffix": after})
    for typed in ("x", "xy", "xyz = 1"):
        head = index.find(CLIENT, {"prompt": document + typed, "suffix": after})
        assert head.name == first.name
        assert length - 70 <= head.share * (length + len(typed) + 400) <= length + 8


def test_a_change_at_the_beginning_leaves_nothing_in_common() -> None:
    index = Prefixes()
    index.find(CLIENT, talk(SYSTEM, ASK))
    assert not index.find(CLIENT, talk("x" + SYSTEM, ASK)).share
    index.find(CLIENT, {"prompt": text(5, 9_000)})
    assert not index.find(CLIENT, {"prompt": "x" + text(5, 9_000)}).share


def test_what_is_declared_names_the_conversation() -> None:
    index = Prefixes()
    index.find(CLIENT, talk(SYSTEM, ASK), declared="mine")
    body = talk(SYSTEM, ASK, ANSWER, TOOL)
    assert index.find(CLIENT, body, declared="mine")[::2] == ("mine", "")
    assert index.find(CLIENT, body, declared="yours")[::2] == ("yours", "mine")


def test_what_is_only_estimated_leaves_no_trace() -> None:
    index = Prefixes()
    index.find(CLIENT, talk(SYSTEM, ASK), keep=False)
    assert not index.find(CLIENT, talk(SYSTEM, ASK)).share


def test_short_prompts_have_no_name_and_no_text_is_kept() -> None:
    index = Prefixes()
    assert index.find(CLIENT, talk("short", "secret-word")) == Head()
    assert index.find(CLIENT, {"prompt": [1, 2, 3]}) == Head()
    index.find(CLIENT, talk(SYSTEM, "secret-word " * 100))
    kept = [*index._names.items(), *index._owners.items()]
    assert "secret" not in repr(kept)


def test_the_index_is_bounded() -> None:
    index = Prefixes()
    for number in range(20_000):
        index.find(CLIENT, {"prompt": text(1, 600) + str(number)})
    for number in range(300):
        index.find(CLIENT, {"prompt": str(number) + "x" * 1_000_000})
    names, nodes = len(index._names), len(index._owners)
    assert names <= 16_384
    assert nodes <= 65_536


def test_pictures_and_tools_are_part_of_what_is_compared() -> None:
    index = Prefixes()
    picture = {"type": "image_url", "image_url": {"url": "data:" + text(8, 5_000)}}
    asked = {"type": "text", "text": text(9, 3_000)}
    body = {"messages": [{"role": "user", "content": [picture, asked]}]}
    index.find(CLIENT, body)
    assert index.find(CLIENT, body).share == 1.0
    other = {"type": "image_url", "image_url": {"url": "data:" + text(8, 6_000)}}
    assert not index.find(CLIENT, {"messages": [{"role": "user", "content": [other, asked]}]}).share
    assert not index.find(CLIENT, {**body, "tools": [{"type": "function"}]}).share


def test_a_request_carries_it() -> None:
    first = work({"model": "a", **talk(SYSTEM, ASK)}).request
    second = work({"model": "a", **talk(SYSTEM, ASK, ANSWER, TOOL)}).request
    assert second.prefix == first.prefix != ""
    assert first.prompt_tokens < second.prefix_tokens < second.prompt_tokens
    assert work({"model": "b", **talk(SYSTEM, ASK, ANSWER, TOOL)}).request.prefix_tokens == 0
    said = {"x-slalom-session": "one"}
    named = work({"model": "a", **talk(SYSTEM, ASK, ANSWER)}, headers=said).request
    assert named.prefix.startswith("s-")
    assert named.prefix_from == first.prefix
    assert named.prefix_tokens
    document = {"x-slalom-session": "one", "x-slalom-document": "main.py"}
    typed = work({"model": "a", "prompt": text(5, 3_000)}, COMPLETIONS, document).request
    again = work({"model": "a", "prompt": text(5, 3_000) + "x"}, COMPLETIONS, document).request
    assert typed.prefix == again.prefix
    assert again.prefix_tokens > 0.9 * typed.prompt_tokens
