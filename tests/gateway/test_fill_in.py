"""Fill-in-the-middle on any engine: what becomes of a suffix, of other files, of marks in texts."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slalom.engines.protocol import Capabilities
from slalom.errors import RequestError
from slalom.gateway import fill_in
from slalom.gateway.resolution import COMPLETIONS_PATH
from slalom.models.fim import FimTemplate
from slalom.runtime.sink import Terms
from slalom.testing import FakeLauncher, FakeScript
from tests.gateway.house import house
from tests.gateway.test_preparation import work

TEMPLATE = FimTemplate(
    "<P>",
    "<S>",
    "<M>",
    file="<F>",
    stops=("<P>", "<F>"),
    engine_fields=(("stop_token_ids", (7, 8)),),
)
ENGINE: Any = SimpleNamespace(model_name="a", capabilities=Capabilities(fim=TEMPLATE))
EXTRA = [{"filename": "a.py", "text": "A = 1"}, {"text": "B <M>"}]


def sent(body: dict[str, Any], terms: Terms | None = None, engine: Any = ENGINE) -> dict[str, Any]:
    prepared = work({"model": "a", **body}, COMPLETIONS_PATH)
    found: dict[str, Any] = json.loads(prepared.outgoing.call(engine, terms or Terms()).body)
    return found


def test_a_suffix_becomes_the_models_own_prompt() -> None:
    body = sent({"prompt": "x<S>", "suffix": "y<M>", "stop": "END", "max_tokens": 4})
    assert body["prompt"] == "<P>x< S><S>y< M><M>"
    assert body["stop"] == ["END", "<P>", "<F>"]
    assert body["stop_token_ids"] == [7, 8]
    assert "suffix" not in body


@pytest.mark.parametrize(
    ("given", "most", "stops"),
    [
        ("END", 2, ["END", "<P>"]),
        (["END", "FIN"], 2, ["END", "FIN"]),
        # The engine may say itself what it thinks of these.
        (["1", "2", "3"], 2, ["1", "2", "3"]),
        (["1", "2", "3"], 4, ["1", "2", "3", "<P>"]),
        ([], 4, ["<P>", "<F>"]),
    ],
)
def test_the_models_marks_never_are_one_stop_too_many(
    given: Any, most: int, stops: list[str]
) -> None:
    able = Capabilities(fim=TEMPLATE, stops_max=most)
    engine = SimpleNamespace(model_name="a", capabilities=able)
    body = {"prompt": "x", "suffix": "y", "stop": given}
    assert sent(body, engine=engine)["stop"] == stops


def test_a_client_may_say_where_to_stop_itself() -> None:
    assert sent({"prompt": "x", "suffix": "y", "stop_token_ids": [1]})["stop_token_ids"] == [1]


def test_other_files_come_along() -> None:
    body = sent({"prompt": "x", "suffix": "y", "input_extra": EXTRA, "filename": "c.py"})
    assert body["prompt"] == "<P><F>a.py\nA = 1\n<F>\nB < M>\n<F>c.py\nx<S>y<M>"
    assert not {"input_extra", "filename", "repository"} & body.keys()


def test_other_files_count_as_prompt() -> None:
    plain = work({"model": "a", "prompt": "x", "suffix": "y"}, COMPLETIONS_PATH)
    more = {"model": "a", "prompt": "x", "suffix": "y", "input_extra": [{"text": "z" * 350}]}
    assert work(more, COMPLETIONS_PATH).request.prompt_tokens > 90 + plain.request.prompt_tokens


def test_a_prompt_that_has_marks_already_is_its_clients() -> None:
    prompt = "<P>x<S>y<M>"
    body = sent({"prompt": prompt, "max_tokens": 4})
    assert body["prompt"] == prompt
    assert "stop" not in body


def test_a_broken_off_answer_goes_on_behind_the_gap() -> None:
    body = sent(
        {"prompt": "x", "suffix": "y", "max_tokens": 9, "stream": True},
        Terms(attempt=2, resumed_text=" z", resumed_tokens=1),
    )
    assert body["prompt"] == "<P>x<S>y<M> z"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"input_extra": "x"}, "input_extra"),
        ({"input_extra": [3]}, "input_extra[0]"),
        ({"input_extra": [{"text": "x"}, {"filename": "x"}]}, "input_extra[1]"),
        ({"input_extra": [{"text": "x", "filename": 3}]}, "input_extra[0]"),
        ({"filename": 3}, "filename"),
        ({"repository": []}, "repository"),
        ({"prompt": ["x"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
    ],
)
def test_a_wrong_field_is_refused_by_name(changes: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as refused:
        sent({"prompt": "x", "suffix": "y", **changes})
    assert refused.value.param == param


VALUES = st.recursive(
    st.none() | st.integers() | st.text("<PSM>x", max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "filename"]), inner, max_size=2)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from(["prompt", "input_extra", "filename", "repository", "stop"])


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(NAMES, VALUES, max_size=4), st.text("<PSM>x\ud800", min_size=1, max_size=8))
def test_whatever_is_asked_the_prompt_has_each_mark_once(
    changes: dict[str, Any], suffix: str
) -> None:
    try:
        body = sent({"prompt": "x", "suffix": suffix, **changes})
    except RequestError:
        return
    for mark in TEMPLATE.marks:
        assert body["prompt"].count(mark) == 1


async def test_a_model_that_knows_none_says_what_to_do() -> None:
    chats = FakeScript(capabilities=Capabilities())
    async with house({"a": FakeLauncher(chats)}) as world:
        body = {"model": "a", "prompt": "x", "suffix": "y"}
        status, document, _ = await world.post(COMPLETIONS_PATH, body)
        assert status == 400
        assert document["error"]["code"] == "unsupported_by_model"
        assert document["error"]["param"] == "suffix"
        assert "'fim'" in document["error"]["message"]


def test_marks_of_a_model_without_a_middle_are_seen() -> None:
    codestral = FimTemplate("[P]", "[S]", "", suffix_first=True)
    assert fill_in.has_marks({"prompt": codestral.render("a", "b")}, codestral)
    assert not fill_in.has_marks({"prompt": "a[P]"}, codestral)
    assert not fill_in.has_marks({"prompt": ["[P][S]"]}, codestral)
