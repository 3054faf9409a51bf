"""Typists: their files, their rhythm, what is typed, and what they ask a server that is slow."""

import asyncio
import sys
from itertools import pairwise
from pathlib import Path

import aiohttp
import pytest

from slalom.bench.scenario_compare import Target, running
from slalom.bench.typing.background import Background, Beside
from slalom.bench.typing.document import AFTER_CHARS_MAX, BEFORE_CHARS_MAX, Document
from slalom.bench.typing.rhythm import Keystroke, Rhythm, keystrokes
from slalom.bench.typing.sources import Source, Sources
from slalom.bench.typing.typist import Completion, Editor, type_on
from slalom.clock import MonotonicClock
from slalom.errors import ConfigError
from slalom.metrics.records import NEVER
from slalom.models.fim import FimTemplate
from slalom.units import MS, SECOND

_JAVA = "class A {\n" + "".join(
    f"    int f{n}() {{\n        return {n};\n    }}\n" for n in range(200)
)


def _source(tmp_path: Path) -> Sources:
    (tmp_path / "A.java").write_text(_JAVA)
    return Sources((tmp_path,))


def test_keys_are_hit_in_bursts_with_pauses() -> None:
    rhythm = Rhythm()
    strokes = list(keystrokes(rhythm, 30.0, seed=1, typist=3))
    assert [one.number for one in strokes] == list(range(len(strokes)))
    burst = 0
    for one, following in pairwise(strokes):
        assert following.at_ns == one.next_ns
        gap_ms = (one.next_ns - one.at_ns) / MS
        low_ms, high_ms = rhythm.pause_ms if one.pause else rhythm.gap_ms
        assert low_ms <= gap_ms <= high_ms
        burst = 0 if one.pause else burst + 1
        assert burst < rhythm.burst[1]
    assert 0 <= strokes[-1].at_ns < 30 * SECOND <= strokes[-1].next_ns
    assert sum(one.pause for one in strokes) > 10


def test_times_are_the_typists_own_whatever_they_follow() -> None:
    plain = [one.at_ns for one in keystrokes(Rhythm(), 5.0, seed=1, typist=0)]
    follows = list(keystrokes(Rhythm(), 5.0, seed=1, typist=0, follow=1.0))
    assert [one.at_ns for one in follows] == plain
    assert all(one.follows for one in follows)
    assert [one.at_ns for one in keystrokes(Rhythm(), 5.0, seed=1, typist=1)] != plain


def test_source_files_of_any_language_are_found(tmp_path: Path) -> None:
    for name in ("deep/B.java", "c.c", "tests/d.py", ".git/e.py", "note.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(_JAVA)
    (tmp_path / "short.py").write_text("x = 1\n")
    sources = Sources((tmp_path,))
    assert {sources.file(number).name for number in range(9)} == {"B.java", "c.c"}
    alone = Sources((tmp_path / "note.txt",))
    assert alone.file(5).name == "note.txt"
    with pytest.raises(ConfigError, match="--files"):
        Sources((tmp_path / ".git" / "e.py" / "..", tmp_path / "short.py"))
    assert Sources().file(0).text


def test_a_file_is_typed_letter_by_letter_and_lines_bring_their_indentation() -> None:
    document = Document(Source("a.java", _JAVA), seed=0, typist=0)
    begun = document.before
    after = document.after
    for _ in range(80):
        document.type()
    typed = document.before[len(begun) :]
    assert typed in _JAVA
    assert len(typed) > 80  # indentation costs no keystroke
    assert document.after == after
    assert (begun + typed) in _JAVA


def test_the_head_of_the_prompt_stays_while_it_grows() -> None:
    document = Document(Source("a.java", _JAVA * 3), seed=0, typist=0)
    heads, sizes = set(), []
    for _ in range(1_500):
        document.type()
        heads.add(document.before[:100])
        sizes.append(len(document.before))
    assert max(sizes) <= BEFORE_CHARS_MAX + 60
    assert len(heads) < 6
    assert sizes[1] > sizes[0]
    assert 0 < len(document.after) <= AFTER_CHARS_MAX


def test_a_suggestion_is_typed_up_to_the_end_of_its_line() -> None:
    document = Document(Source("a.java", _JAVA), seed=0, typist=0)
    before = document.before
    document.follow("xyz\nnever")
    for _ in range(4):
        document.type()
    assert document.before.startswith(before + "xyz")
    assert not document.before.startswith(before + "xyz\nn")


def test_a_gap_is_marked_as_the_model_wants_it() -> None:
    document = Document(Source("a.java", _JAVA), seed=0, typist=0)
    assert document.prompt(None) == {"prompt": document.before, "suffix": document.after}
    marked = document.prompt(FimTemplate("<P>", "<S>", "<M>"))["prompt"]
    assert marked == f"<P>{document.before}<S>{document.after}<M>"


def _server(tokens_per_s: int) -> Target:
    command = (
        f"{sys.executable} -m slalom.testing.fake_server --port ${{PORT}} --places 64 "
        f"--tokens-per-s {tokens_per_s}"
    )
    return Target("fake", command=command)


def _strokes(*at_ms: int, follows: bool = False) -> list[Keystroke]:
    ends = [*at_ms[1:], at_ms[-1] + 2_000]
    return [
        Keystroke(n, at * MS, end * MS, pause=end - at > 300, follows=follows)
        for n, (at, end) in enumerate(zip(at_ms, ends, strict=True))
    ]


def _type(
    strokes: list[Keystroke], tmp_path: Path, *, tokens_per_s: int, cancels: bool, grace_ms: int
) -> tuple[list[Completion], Document]:
    document = Document(_source(tmp_path).file(0), seed=0, typist=0)

    async def play() -> list[Completion]:
        clock = MonotonicClock()
        async with running(_server(tokens_per_s)) as url, aiohttp.ClientSession(url) as session:
            editor = Editor(session, "fake", None, cancels, clock, extra={"stop": []})
            return await type_on(
                *(editor, document, strokes),
                typist=0,
                start_ns=clock.now_ns(),
                grace_ns=grace_ms * MS,
            )

    return asyncio.run(play()), document


def test_an_editor_that_cancels_hears_the_newest_answer_only(tmp_path: Path) -> None:
    # 32 tokens take 160 ms: none of the first three is whole when the next key is hit.
    strokes = _strokes(0, 40, 80, 120)
    found, _ = _type(strokes, tmp_path, tokens_per_s=200, cancels=True, grace_ms=5_000)
    assert [one.heard.whole_ns != NEVER for one in found] == [False, False, False, True]
    last = found[-1]
    assert last.in_time
    assert last.heard.tokens == 32
    assert last.at_ns <= last.heard.sent_ns < last.heard.first_ns < last.heard.whole_ns
    assert all(one.heard.tokens < 32 for one in found[:-1])


def test_an_editor_that_never_cancels_hears_all_of_them_too_late(tmp_path: Path) -> None:
    strokes = _strokes(0, 40, 80, 120)
    found, _ = _type(strokes, tmp_path, tokens_per_s=200, cancels=False, grace_ms=5_000)
    assert [one.heard.tokens for one in found] == [32] * 4
    assert [one.in_time for one in found] == [False, False, False, True]


def test_what_is_under_way_at_the_end_is_cut(tmp_path: Path) -> None:
    found, _ = _type(_strokes(0), tmp_path, tokens_per_s=10, cancels=False, grace_ms=250)
    assert found[0].heard.whole_ns == NEVER
    assert 0 < found[0].heard.tokens < 32


def test_after_a_pause_the_suggestion_is_typed(tmp_path: Path) -> None:
    strokes = _strokes(0, 1_500, 1_550, follows=True)
    found, document = _type(strokes, tmp_path, tokens_per_s=2_000, cancels=True, grace_ms=300)
    suggested = found[0].heard.text
    assert suggested.startswith(" w0 w1")
    assert document.before.endswith(suggested[:2])


def test_a_server_that_is_gone_is_told(tmp_path: Path) -> None:
    async def play() -> list[Completion]:
        clock = MonotonicClock()
        async with aiohttp.ClientSession("http://127.0.0.1:1") as session:
            editor = Editor(session, "m", None, cancels=False, clock=clock)
            document = Document(_source(tmp_path).file(0), seed=0, typist=0)
            return await type_on(
                *(editor, document, _strokes(0)), typist=0, start_ns=clock.now_ns(), grace_ns=SECOND
            )

    (only,) = asyncio.run(play())
    assert only.heard.failed == "ClientConnectorError"


def test_beside_them_people_chat_and_a_batch_fills_the_rest(tmp_path: Path) -> None:
    rule = Background(chats_per_s=20.0, chat_tokens=5, batch_width=3, batch_tokens=7)

    async def play() -> None:
        clock, sources = MonotonicClock(), _source(tmp_path)
        async with running(_server(1_000)) as url, aiohttp.ClientSession(url) as session:
            beside = Beside(session, "fake", sources, clock, rule, seed=1)
            start_ns = clock.now_ns()
            found = await beside.play(start_ns, start_ns + SECOND, 5 * SECOND)
            assert (
                clock.now_ns() - start_ns < 5 * SECOND
            )  # all were whole, so nothing is waited for
        tasks = [one.task for one in found]
        assert tasks.count("chat") > 3
        assert tasks.count("batch") > 3 * rule.batch_width
        assert {one.heard.tokens for one in found if one.task == "chat"} == {5}
        assert {one.heard.tokens for one in found if one.task == "batch"} == {7}

    asyncio.run(play())
