"""`slalom chat` and `slalom complete` against a stub server."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slalom.cli import app
from slalom.cli.ask import read_cursor
from slalom.errors import RequestError
from tests.cli.stub_server import StubServer

RUNNER = CliRunner()


def test_chat_streams_the_answer_to_stdout_and_its_figures_to_stderr(stub: StubServer) -> None:
    result = RUNNER.invoke(app, ["chat", "hello", "--url", stub.url])
    assert result.exit_code == 0
    assert result.stdout == "one two\n"
    assert "slalom-mini#0" in result.stderr
    assert "slalom explain req-1" in result.stderr
    path, body, _ = stub.asked[-1]
    assert path == "/v1/chat/completions"
    assert body["messages"] == [{"role": "user", "content": "hello"}]
    assert body["model"] == "chat"
    assert body["stream"] is True


def test_chat_takes_system_model_limit_and_key(stub: StubServer) -> None:
    arguments = ["chat", "q", "--system", "be brief", "-m", "m1", "--max-tokens", "7"]
    result = RUNNER.invoke(app, arguments, env={"SLALOM_URL": stub.url, "SLALOM_API_KEY": "sek"})
    assert result.exit_code == 0
    _, body, headers = stub.asked[-1]
    assert body["messages"][0] == {"role": "system", "content": "be brief"}
    assert (body["model"], body["max_tokens"]) == ("m1", 7)
    assert headers["authorization"] == "Bearer sek"


def test_chat_reads_the_question_from_standard_input(stub: StubServer) -> None:
    result = RUNNER.invoke(app, ["chat", "--url", stub.url], input="from a pipe")
    assert result.exit_code == 0
    assert stub.asked[-1][1]["messages"][0]["content"] == "from a pipe"
    empty = RUNNER.invoke(app, ["chat", "--url", stub.url], input=" \n")
    assert empty.exit_code == 2


def test_a_conversation_keeps_its_history(
    stub: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = iter(["first", "", "second"])

    def typed(prompt: str) -> str:
        try:
            return next(lines)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", typed)
    monkeypatch.setattr("slalom.cli.ask.standard_input", lambda: None)
    result = RUNNER.invoke(app, ["chat", "--url", stub.url])
    assert result.exit_code == 0
    messages = stub.asked[-1][1]["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "user"]
    assert messages[1]["content"] == "one two"


def test_complete_sends_what_stands_before_and_after_the_cursor(
    stub: StubServer, tmp_path: Path
) -> None:
    (tmp_path / "a.py").write_text("def f(x):\n    return x\n\nf(1)\n", encoding="utf-8")
    result = RUNNER.invoke(app, ["complete", "a.py:2:12", "--url", stub.url])
    assert result.exit_code == 0
    assert result.stdout == "one two\n"
    path, body, _ = stub.asked[-1]
    assert path == "/v1/completions"
    assert body["prompt"] == "def f(x):\n    return "
    assert body["suffix"] == "x\n\nf(1)\n"
    assert body["model"] == "completion"


def test_json_holds_the_text_with_its_figures(stub: StubServer, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = ", encoding="utf-8")
    result = RUNNER.invoke(app, ["complete", "a.py:1", "--json", "--url", stub.url])
    document = json.loads(result.stdout)
    assert document["text"] == "one two"
    assert document["request_id"] == "req-1"
    assert document["queue_ms"] == 12.5
    assert document["usage"] == {"completion_tokens": 2}
    assert 0 < document["ttft_ms"] <= document["e2e_ms"]


@pytest.mark.parametrize(
    ("place", "before", "after"),
    [
        ("a.py:1", "one", "\ntwo\n"),
        ("a.py:1:1", "", "one\ntwo\n"),
        ("a.py:1:4", "one", "\ntwo\n"),
        ("a.py:2:2", "one\nt", "wo\n"),
    ],
)
def test_places(tmp_path: Path, place: str, before: str, after: str) -> None:
    (tmp_path / "a.py").write_text("one\ntwo\n", encoding="utf-8")
    cursor = read_cursor(place)
    assert (cursor.before, cursor.after) == (before, after)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("a.py", "write FILE:LINE"),
        (":3", "write FILE:LINE"),
        ("a.py:x", "write FILE:LINE"),
        ("a.py:0", "there is no line 0"),
        ("a.py:3", "ends with line 2"),
        ("a.py:1:5", "columns 1 to 4"),
        ("a.py:1:0", "columns 1 to 4"),
        ("none.py:1", "cannot read none.py"),
        ("b.bin:1", "not UTF-8"),
    ],
)
def test_wrong_places_are_explained(tmp_path: Path, place: str, words: str) -> None:
    (tmp_path / "a.py").write_text("one\ntwo\n", encoding="utf-8")
    (tmp_path / "b.bin").write_bytes(b"\xff\xfe")
    with pytest.raises(RequestError, match=words):
        read_cursor(place)


def test_what_a_server_refuses_or_breaks_off_is_one_line(stub: StubServer) -> None:
    ask = ["chat", "x", "-m", "m", "--url", stub.url]
    stub.error = "The engine died."
    failed = RUNNER.invoke(app, ask)
    assert failed.exit_code == 1
    assert "could not finish: The engine died." in failed.stderr
    stub.error, stub.cut = None, True
    assert "before it was complete" in RUNNER.invoke(app, ask).stderr
    stub.cut, stub.status = False, 404
    refused = RUNNER.invoke(app, ask)
    assert refused.exit_code == 1
    assert "answered 404: No such thing." in refused.stderr
    stub.status = 401
    assert "SLALOM_API_KEY" in RUNNER.invoke(app, ask).stderr


def test_a_named_server_that_does_not_answer_is_told() -> None:
    result = RUNNER.invoke(app, ["chat", "x", "--url", "http://127.0.0.1:9"])
    assert result.exit_code == 1
    assert "no server answers at http://127.0.0.1:9" in result.stderr
    wrong = RUNNER.invoke(app, ["chat", "x", "--url", "ftp://x"])
    assert "write http://HOST:PORT" in wrong.stderr


def test_what_answers_and_is_no_openai_server_is_told(stub: StubServer) -> None:
    stub.cards = None  # type: ignore[assignment]
    result = RUNNER.invoke(app, ["chat", "x", "--url", stub.url])
    assert "not as an OpenAI-compatible server does" in result.stderr


def test_without_a_model_of_the_task_the_first_is_asked(stub: StubServer) -> None:
    stub.cards = [{"id": "only-one"}]
    assert RUNNER.invoke(app, ["chat", "x", "--url", f"{stub.url}/v1/"]).exit_code == 0
    assert stub.asked[-1][1]["model"] == "only-one"
    stub.cards = []
    assert "serves no model" in RUNNER.invoke(app, ["chat", "x", "--url", stub.url]).stderr


def test_an_estimate_is_printed_with_its_targets(stub: StubServer) -> None:
    arguments = ["estimate", "why", "--task", "completion", "--max-tokens", "7", "--e2e-ms", "500"]
    result = RUNNER.invoke(app, [*arguments, "--url", stub.url])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        "completion for slalom-mini on slalom-mini#0",
        "start       after 10 ms",
        "first token after 50 ms (target 200 ms)",
        "end         after 700 ms (target 500 ms)",
        "chance      25%",
        "The end is expected after 700 ms, 200 ms later than its target.",
    ]
    path, body, headers = stub.asked[-1]
    assert (path, body["max_tokens"]) == ("/v1/estimate", 7)
    assert (headers["x-slalom-task"], headers["x-slo-e2e-ms"]) == ("completion", "500")
    told = RUNNER.invoke(app, ["estimate", "why", "--url", stub.url, "--json"])
    assert json.loads(told.stdout)["chance"] == 0.25


def test_a_server_that_predicts_nothing_says_so(stub: StubServer) -> None:
    stub.status = 501
    result = RUNNER.invoke(app, ["estimate", "why", "-m", "a", "--url", stub.url])
    assert result.exit_code == 1
    assert "No such thing." in result.stderr
