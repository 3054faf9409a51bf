"""Which completion replaces which: always by declaration, by a guess only where it is safe."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slalom.gateway.supersession import Documents, Typed, declared
from tests.gateway.test_preparation import COMPLETIONS, work

CLIENT = ("key", "editor/1.0", "10.0.0.7", "a")
DOCUMENT = "".join(f"line {number} of a document that is long enough\n" for number in range(20))


def guess(documents: Documents, before: str, after: str = "", client: Any = CLIENT) -> str:
    return documents.guess(Typed(client, before, after))


def test_typing_on_keeps_the_name() -> None:
    documents = Documents("auto")
    names = {guess(documents, DOCUMENT[:end], "}\n") for end in range(200, 600)}
    assert len(names) == 1
    assert names != {""}


def test_deleting_a_few_characters_keeps_it_too() -> None:
    documents = Documents("auto")
    name = guess(documents, DOCUMENT[:400])
    assert guess(documents, DOCUMENT[:380]) == name
    assert guess(documents, DOCUMENT[:380] + "other words") == name


def test_asking_the_same_again_is_asking_for_another_answer() -> None:
    documents = Documents("auto")
    assert guess(documents, DOCUMENT)
    assert guess(documents, DOCUMENT) == ""


@pytest.mark.parametrize(
    ("before", "after", "client"),
    [
        ("x" + DOCUMENT[1:], "", CLIENT),
        (DOCUMENT[:-100] + "y" * 100, "", CLIENT),
        (DOCUMENT + "z" * 65, "", CLIENT),
        (DOCUMENT + "z", "other text behind the cursor", CLIENT),
        (DOCUMENT + "z", "", (*CLIENT[:1], "other editor", *CLIENT[2:])),
        (DOCUMENT + "z", "", (*CLIENT[:2], "10.0.0.8", *CLIENT[3:])),
        (DOCUMENT + "z", "", (*CLIENT[:3], "b")),
    ],
)
def test_what_may_be_another_document_has_another_name(
    before: str, after: str, client: Any
) -> None:
    documents = Documents("auto")
    name = guess(documents, DOCUMENT)
    assert guess(documents, before, after, client) not in ("", name)


def test_two_users_in_one_file_have_two_names() -> None:
    """The same key, program and address: only where they type tells them apart."""
    documents = Documents("auto")
    here, there = DOCUMENT[:300], DOCUMENT[:600]
    first = guess(documents, here, DOCUMENT[300:])
    second = guess(documents, there, DOCUMENT[600:])
    assert first != second
    assert guess(documents, here + "a", DOCUMENT[300:]) == first
    assert guess(documents, there + "b", DOCUMENT[600:]) == second


def test_a_short_prompt_could_be_anything() -> None:
    assert guess(Documents("auto"), "def f(") == ""


def test_what_is_remembered_is_bounded_and_no_text() -> None:
    documents = Documents("auto")
    for number in range(3_000):
        guess(documents, DOCUMENT, client=(str(number),))
        guess(documents, f"{number % 50:09d}" + DOCUMENT)
    assert len(documents._by_client) <= 1_024
    kept = documents._by_client.values()
    assert max(map(len, kept)) <= 32
    assert "line" not in repr(kept)


@given(st.text(min_size=128), st.text())
def test_any_text_can_be_named(before: str, after: str) -> None:
    assert guess(Documents("auto"), before, after).isprintable()


def name_of(body: dict[str, Any], headers: dict[str, str] | None = None) -> str:
    task = {"x-slalom-task": "completion", **(headers or {})}
    fields = {"model": "a", "prompt": "x", **body}
    return work(fields, COMPLETIONS, task).request.supersedes


def test_a_session_can_be_declared() -> None:
    by_header = name_of({}, {"x-slalom-session": "s", "x-slalom-document": "d"})
    assert by_header.startswith("s-")
    assert by_header == name_of({"metadata": {"session": "s", "document": "d"}})
    assert by_header != name_of({"session_id": "s"}) != ""
    assert name_of({"session_id": "s"}) == name_of({}, {"x-slalom-session": "s"})
    assert name_of({"session_id": 7, "metadata": {"session": {}}}) == ""


def test_only_completions_replace_each_other() -> None:
    headers = {"x-slalom-session": "s", "x-slalom-task": "generation"}
    assert name_of({}, headers) == ""


def test_the_gap_of_a_fill_in_the_middle_prompt_is_where_one_types() -> None:
    first = name_of({"prompt": f"<P>{DOCUMENT}<S>after<M>"})
    assert first.startswith("d-")
    assert name_of({"prompt": f"<P>{DOCUMENT}x<S>after<M>"}) == first
    assert name_of({"prompt": f"<P>{DOCUMENT}x", "suffix": "after"}) not in ("", first)


def test_headers_come_first() -> None:
    by_header = declared({"x-slalom-session": "a"}, {"session_id": "b"}, CLIENT)
    assert by_header == declared({}, {"session_id": "a"}, CLIENT)


def test_a_session_is_a_clients_own() -> None:
    names = {declared({}, {"session_id": "1"}, (*CLIENT[:2], peer, "a")) for peer in "xyz"}
    assert len(names) == 3
