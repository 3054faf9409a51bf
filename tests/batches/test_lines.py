"""What a batch's file must look like, and that its lines are found again."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slalom.batches.lines import FAULTS_MAX, Lines, Rules, scan
from slalom.batches.objects import LineFault
from slalom.errors import RequestError

ENDPOINT = "/v1/completions"


def _no_model_called_nope(name: str) -> None:
    if name == "nope":
        raise RequestError("There is no model 'nope'.", code="model_not_found")


def rules(**changes: Any) -> Rules:
    given = {"lines_max": 100, "line_bytes_max": 1500, **changes}
    return Rules(endpoint=ENDPOINT, check_model=_no_model_called_nope, **given)


def line(name: str, **changes: Any) -> bytes:
    body = {"model": "a", "prompt": f"secret prompt of {name}"}
    document = {"custom_id": name, "method": "POST", "url": ENDPOINT, "body": body, **changes}
    return json.dumps(document, ensure_ascii=False).encode()


def look(path: Path, text: bytes, **changes: Any) -> tuple[Lines, list[LineFault]]:
    path.write_bytes(text)
    return scan(path, rules(**changes), lambda: False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lines"


def test_lines_are_numbered_as_editors_do_and_read_back(path: Path) -> None:
    texts = [b"\xef\xbb\xbf" + line("é"), b"", line("b") + b" \r", b"  ", line("c")]
    lines, faults = look(path, b"\n".join(texts))
    assert not faults
    assert lines.count == 3
    assert list(lines.numbers["a"]) == [1, 3, 5]
    for number, name in ((1, "é"), (3, "b"), (5, "c")):
        found = lines.read(number)
        assert (found.number, found.custom_id) == (number, name)
        assert json.loads(found.body) == {"model": "a", "prompt": f"secret prompt of {name}"}


@pytest.mark.parametrize(
    ("wrong", "code", "param"),
    [
        (b"{", "invalid_json_line", None),
        (b"[1]", "invalid_json_line", None),
        (b"\xff\xfe", "invalid_json_line", None),
        (b"[" * 900, "invalid_json_line", None),
        (line("x", custom_id=7), "invalid_json_line", None),
        (line("x", custom_id=""), "invalid_line", "custom_id"),
        (line("x" * 513), "invalid_line", "custom_id"),
        (line("good"), "duplicate_custom_id", "custom_id"),
        (line("x", method="GET"), "invalid_line", "method"),
        (line("x", url="/v1/embeddings"), "invalid_line", "url"),
        (line("x", body={"prompt": "secret prompt"}), "invalid_json_line", None),
        (line("x", body={"model": "a", "stream": True}), "invalid_line", "body.stream"),
        (line("x", body={"model": "nope"}), "model_not_found", "body.model"),
        (line("x", more="x" * 1500), "line_too_long", None),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    path: Path, wrong: bytes, code: str, param: str | None
) -> None:
    _, faults = look(path, b"\n".join([line("good"), wrong]))
    assert [(fault.line, fault.code, fault.param) for fault in faults] == [(2, code, param)]
    assert "secret" not in faults[0].message
    assert faults[0].message.startswith("Line 2 ")


def test_how_much_it_may_be(path: Path) -> None:
    many = b"\n".join(line(str(number)) for number in range(5))
    assert look(path, many, lines_max=5)[1] == []
    assert [fault.code for fault in look(path, many, lines_max=4)[1]] == ["too_many_lines"]
    for empty in (b"", b"\n\n"):
        assert [fault.code for fault in look(path, empty)[1]] == ["empty_file"]
    assert len(look(path, b"{\n" * 1000, lines_max=1000)[1]) == FAULTS_MAX


def test_nobody_waits_for_a_scan_that_nobody_wants(path: Path) -> None:
    asked: list[bool] = []
    path.write_bytes(b"\n".join(line(str(number)) for number in range(20_000)))

    def stopped() -> bool:
        asked.append(True)
        return True

    lines, _ = scan(path, rules(lines_max=30_000), stopped)
    assert asked == [True]
    assert lines.count < 20_000


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
        unique=True,
        min_size=1,
        max_size=30,
    ),
    st.sampled_from([b"\n", b"\r\n", b"\n\n", b" \n"]),
    st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_every_line_is_found(path: Path, names: list[str], end: bytes, last_ends: bool) -> None:
    text = end.join(line(name) for name in names) + (end if last_ends else b"")
    lines, faults = look(path, text)
    assert not faults
    assert [lines.read(number).custom_id for number in lines.numbers["a"]] == names
