"""Prompts: cut where the code really is, bounded, and the same for the same seed."""

import ast
import textwrap
from pathlib import Path

import pytest

from slalom.errors import ConfigError
from slalom.workload import prompts
from slalom.workload.prompts import CUTTERS, Prompt
from slalom.workload.source_code import Corpus
from slalom.workload.streams import stream
from slalom.workload.tasks import DEFAULT_TASKS


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus(seed=5)


def cut(task: str, corpus: Corpus, number: int) -> Prompt:
    return CUTTERS[task](stream(5, task, number), corpus, number)


def question(prompt: Prompt) -> str:
    (message,) = prompt.fields["messages"]
    assert message["role"] == "user"
    return str(message["content"])


def code_of(prompt: Prompt) -> str:
    text = question(prompt)
    return text.split("```python\n")[1].removesuffix("\n```")


@pytest.mark.parametrize("number", range(12))
def test_a_completion_is_a_cursor_in_a_real_line(corpus: Corpus, number: int) -> None:
    prompt = cut("completion", corpus, number)
    above, below = prompt.fields["prompt"], prompt.fields["suffix"]
    path = corpus.folder / prompt.origin.split(":")[0]
    # Above, what is missing and below stand together in the file.
    assert f"{above}{prompt.reference}{below}".rstrip("\n") in path.read_text(encoding="utf-8")
    typed = above.rsplit("\n", 1)[-1]
    assert typed.strip()
    assert prompt.reference
    assert "\n" not in prompt.reference
    assert prompt.fields["stop"] == ["\n"]
    assert len(above) <= prompts.PREFIX_CHARS_MAX
    assert 0 < len(below) <= prompts.SUFFIX_CHARS_MAX


@pytest.mark.parametrize("number", range(12))
def test_a_multiline_completion_is_a_whole_block(corpus: Corpus, number: int) -> None:
    prompt = cut("completion-multiline", corpus, number)
    above, below = prompt.fields["prompt"], prompt.fields["suffix"]
    path = corpus.folder / prompt.origin.split(":")[0]
    text = path.read_text(encoding="utf-8")
    assert above + prompt.reference.rstrip("\n") in text
    assert below.strip("\n") in text
    assert prompt.reference.count("\n") >= 1
    # The cursor stands after nothing but indentation.
    assert not above.rsplit("\n", 1)[-1].strip()
    assert "stop" not in prompt.fields


@pytest.mark.parametrize("number", range(8))
def test_a_generation_shows_the_head_and_hides_the_body(corpus: Corpus, number: int) -> None:
    prompt = cut("generation", corpus, number)
    head = code_of(prompt)
    assert prompt.reference.startswith(head)
    assert len(head) < len(prompt.reference)
    (function,) = ast.parse(
        head + "\n    pass" if head.endswith('"""') else f"{head}\n    ..."
    ).body
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)


@pytest.mark.parametrize("task", ["summarisation", "translation"])
@pytest.mark.parametrize("number", range(8))
def test_a_whole_function_is_shown(corpus: Corpus, task: str, number: int) -> None:
    prompt = cut(task, corpus, number)
    (function,) = ast.parse(code_of(prompt)).body
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    assert prompt.origin.endswith(function.name)


@pytest.mark.parametrize("task", CUTTERS)
def test_the_same_seed_cuts_the_same(task: str, corpus: Corpus) -> None:
    # Another corpus object, asked in another order.
    again = Corpus(seed=5)
    numbers = [0, 3, 7]
    backwards = [cut(task, again, number) for number in reversed(numbers)]
    assert [cut(task, corpus, number) for number in numbers] == backwards[::-1]
    assert task in DEFAULT_TASKS


def test_numbers_walk_through_files(corpus: Corpus) -> None:
    origins = {cut("generation", corpus, number).origin.split()[0] for number in range(10)}
    assert len(origins) == 10


def test_prompts_do_not_show_in_reprs(corpus: Corpus) -> None:
    prompt = cut("generation", corpus, 0)
    assert "def " not in repr(prompt)


SOURCE = (
    textwrap.dedent(
        '''
    """A file of a user's own."""

    def first(values):
        total = 0
        for value in values:
            total += value
        return total

    def second(text):
        """Say it twice."""
        if text:
            print(text)
            print(text)
        return len(text)
    '''
    )
    + "# padding\n" * 150
)


def test_a_folder_of_ones_own_is_used(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(SOURCE)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "skipped.py").write_text(SOURCE)
    (tmp_path / "broken.py").write_text("def (:\n" * 400)
    corpus = Corpus(tmp_path, seed=1)
    for task in CUTTERS:
        for number in range(6):
            assert cut(task, corpus, number).origin.startswith("own.py")


def test_a_folder_without_code_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no Python file"):
        Corpus(tmp_path)
    with pytest.raises(ConfigError, match="is no folder"):
        Corpus(tmp_path / "absent")
