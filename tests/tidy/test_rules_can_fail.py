"""Each of the house's rules fails on a small made-up tree that breaks it, and passes a good one.

Owns the proof that `tools.tidy` can say no. The rules on the real tree are in `test_house`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools.tidy import exceptions, names, places, prose, reach, sizes
from tools.tidy.tree import Finding, Tree

Rule = Callable[[Tree], Iterator[Finding]]
WORDS = '"""One.\n\nOwns a thing.\nCalled by another.\n"""\n'


@pytest.fixture
def tree_of(tmp_path: Path) -> Callable[[dict[str, str]], Tree]:
    """Builds a tree from paths and texts."""

    def build(files: dict[str, str]) -> Tree:
        for path, text in files.items():
            whole = tmp_path / path
            whole.parent.mkdir(parents=True, exist_ok=True)
            whole.write_text(text, encoding="utf-8")
        return Tree.of_folder(tmp_path)

    return build


def messages(rule: Rule, tree: Tree) -> list[str]:
    return [str(finding) for finding in rule(tree)]


LONG_FUNCTION = "def walk():\n" + "    step = 1\n" * 60

BREACHES: list[tuple[Rule, dict[str, str], str]] = [
    (sizes.file_length, {"src/slalom/a.py": "x = 1\n" * 401}, "401 lines, at most 400"),
    (sizes.function_length, {"src/slalom/a.py": LONG_FUNCTION}, "function walk: 61 lines"),
    (
        sizes.function_length,
        {"tests/a.py": "class A:\n" + "".join(f"    {row}\n" for row in LONG_FUNCTION.split("\n"))},
        "function A.walk: 61 lines",
    ),
    (sizes.module_docstring, {"tests/test_a.py": "x = 1\n"}, "no module docstring"),
    (sizes.module_docstring, {"src/slalom/a.py": '"""One line."""\n'}, "docstring of 1 lines"),
    (names.names, {"src/slalom/utils.py": WORDS}, "'utils'"),
    (names.names, {"src/slalom/a.py": "class ReplicaManager: ...\n"}, "'Manager'"),
    (names.names, {"tests/test_a.py": "async def run_helper(): ...\n"}, "'helper'"),
    (names.sleeps, {"tests/test_a.py": "import time\ntime.sleep(1)\n"}, "sleep in a test"),
    (names.sleeps, {"tests/test_a.py": "from asyncio import sleep\nsleep(0.1)\n"}, "sleep in"),
    (
        names.sleeps,
        {"tests/test_a.py": "def test():\n    run_virtual(main)\n    time.sleep(1)\n"},
        "sleep in a test",
    ),
    (reach.dead_modules, {"src/slalom/core/a.py": WORDS}, "nothing imports slalom.core.a"),
    (
        reach.dead_modules,
        {"src/slalom/core/a.py": WORDS, "tests/t.py": "import slalom.core.a"},
        "nothing imports slalom.core.a",
    ),
    (places.places, {"docs/a.md": "See /wor" + "k/main.\n"}, "a path of the machine"),
    (places.places, {"requirements/a.txt": "--index" + "-url x\n"}, "an index address"),
    (places.places, {"a.py": "HOST = 'pypi." + "org'\n"}, "the host of a package registry"),
    (prose.links, {"README.md": "[x](docs/gone.md)\n"}, "link to docs/gone.md"),
    (prose.links, {"docs/a.md": "![x](../gone.png)\n"}, "link to ../gone.png"),
    (prose.named_files, {"README.md": "See `src/slalom/gone.py`.\n"}, "names src/slalom/gone.py"),
    (
        prose.named_files,
        {"docs/a.md": "`tests/test_a.py::test_x`", "tests/test_a.py": "def test_y(): ...\n"},
        "names the test test_x",
    ),
    (prose.code_blocks, {"README.md": "```console\n$ make test\n```\n"}, "<!-- run -->"),
    (prose.code_blocks, {"docs/a.md": "<!-- skip -->\n```python\n1\n```\n"}, "needs a reason"),
    (prose.decision_records, {"docs/adr/first.md": "# 1\n"}, "name a decision record"),
    (
        prose.decision_records,
        {"docs/adr/0001-a.md": "# 1\n", "docs/adr/index.md": "none\n"},
        "not in docs/adr/index.md",
    ),
    (
        prose.decision_records,
        {"docs/adr/0001-a.md": "# 1\n", "mkdocs.yml": "nav: []\n"},
        "not in mkdocs.yml",
    ),
    (prose.news_fragments, {"newsfragments/2.feat.md": "New.\n"}, "name it ISSUE.KIND.md"),
    (prose.news_fragments, {"newsfragments/2.fix.md": "\n"}, "empty"),
]


@pytest.mark.parametrize(("rule", "files", "expected"), BREACHES)
def test_a_breach_is_found(
    tree_of: Callable[[dict[str, str]], Tree],
    rule: Rule,
    files: dict[str, str],
    expected: str,
) -> None:
    found = messages(rule, tree_of(files))
    assert len(found) == 1
    assert expected in found[0]


GOOD: list[tuple[Rule, dict[str, str]]] = [
    (sizes.file_length, {"src/slalom/a.py": "x = 1\n" * 400}),
    (sizes.function_length, {"src/slalom/a.py": "def walk():\n" + "    step = 1\n" * 59}),
    (sizes.module_docstring, {"src/slalom/a.py": WORDS, "src/slalom/__init__.py": '"""One."""'}),
    (names.names, {"src/slalom/a.py": "def handle(): ...\nclass ContextManaged: ...\n"}),
    (names.names, {"src/slalom/a.py": "def service_tier(): ...\n"}),
    (names.sleeps, {"tests/a.py": "asyncio.sleep(0)\nengine.sleep(1)\n", "src/b.py": "sleep(1)\n"}),
    (
        names.sleeps,
        {
            "tests/test_a.py": (
                "def test():\n    async def main():\n        await asyncio.sleep(5)\n"
                "    run_virtual(main)\n"
            )
        },
    ),
    (
        reach.dead_modules,
        {
            "src/slalom/a.py": "def late():\n    from slalom.core import b\n",
            "src/slalom/core/b.py": "START = 'slalom.core.c'\n",
            "src/slalom/core/c.py": "from .. import a\n",
            "src/slalom/testing/d.py": WORDS,
            "tests/t.py": "from slalom.testing.d import x\n",
        },
    ),
    (places.places, {"docs/a.md": "A network/frame and /home/you/models.\n"}),
    (
        prose.links,
        {
            "README.md": "[x](docs/a.md#here) [y](https://example.org) `[z](gone)`\n",
            "docs/a.md": "# Here\n```\n[w](gone.md)\n```\n[up](../README.md)\n",
        },
    ),
    (
        prose.named_files,
        {
            "docs/a.md": "`tests/test_a.py::test_y` in `tests`, `docs/adr/NNNN-words.md`\n",
            "tests/test_a.py": "def test_y(): ...\n",
            "docs/adr/NNNN-words.md": "",
        },
    ),
    (
        prose.code_blocks,
        {"docs/a.md": "<!-- run -->\n```console\n$ x\n```\n\n```yaml\na: 1\n```\n"},
    ),
    (
        prose.decision_records,
        {
            "docs/adr/0001-a.md": "# 1\n",
            "docs/adr/index.md": "[1](0001-a.md)\n",
            "mkdocs.yml": "- adr/0001-a.md\n",
        },
    ),
    (prose.news_fragments, {"newsfragments/+a.fix.md": "Mended.\n", "newsfragments/README.md": ""}),
]


@pytest.mark.parametrize(("rule", "files"), GOOD)
def test_a_good_tree_passes(
    tree_of: Callable[[dict[str, str]], Tree], rule: Rule, files: dict[str, str]
) -> None:
    assert messages(rule, tree_of(files)) == []


@pytest.mark.parametrize(
    ("lines", "expected"),
    [(450, []), (451, ["451 lines"]), (449, ["lower its row"]), (400, ["take its row out"])],
)
def test_an_exception_may_only_shrink(
    tree_of: Callable[[dict[str, str]], Tree],
    monkeypatch: pytest.MonkeyPatch,
    lines: int,
    expected: list[str],
) -> None:
    monkeypatch.setitem(exceptions.LONG_FILES, "src/slalom/a.py", (450, "made up"))
    found = messages(sizes.file_length, tree_of({"src/slalom/a.py": "x = 1\n" * lines}))
    assert len(found) == len(expected)
    assert all(part in text for part, text in zip(expected, found, strict=True))


def test_an_exception_for_something_gone_is_found(
    tree_of: Callable[[dict[str, str]], Tree], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(exceptions.LONG_FILES, "src/gone.py", (450, "made up"))
    monkeypatch.setitem(exceptions.LONG_FUNCTIONS, "src/slalom/a.py::walk", (70, "made up"))
    tree = tree_of({"tools/tidy/exceptions.py": WORDS, "src/slalom/a.py": WORDS})
    found = messages(sizes.stale_exceptions, tree)
    assert any("src/gone.py" in text for text in found)
    assert any("src/slalom/a.py::walk" in text for text in found)


def test_blocks_carry_their_marks_and_lose_their_indent() -> None:
    text = "<!-- run: server -->\n\n  ```console\n  $ a\n  ```\n\nWords.\n\n````md\n```\n````\n"
    first, second = prose.blocks("a.md", text)
    assert (first.language, first.code, first.mark, first.note) == (
        "console",
        "$ a",
        "run",
        "server",
    )
    assert (second.language, second.code, second.mark) == ("md", "```", "")
