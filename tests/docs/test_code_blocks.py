"""The code in README.md and the docs does what the pages say.

Owns the list of pages and one shared server with no configuration. How a block is run is in
tools/docs/running.py; that every block is run or says why not is a rule of tools/tidy.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools.docs.running import BlockError, Page, Server, page_blocks, resembles, transcript
from tools.tidy.prose import Block, blocks

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("docs/**/*.md"))]
RUNNABLE = [page for page in PAGES if page_blocks(ROOT, page)]


@pytest.fixture(scope="session")
def shared_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], str]]:
    """Address of a server with the bundled models, started when first asked for."""
    servers: list[Server] = []

    def address() -> str:
        if not servers:
            page = Page(tmp_path_factory.mktemp("shared-server"), lambda: "")
            servers.append(page.serve([]))
        return servers[0].address

    yield address
    for server in servers:
        assert server.stop() == 0


@pytest.mark.live
@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", RUNNABLE)
def test_a_page_does_what_it_says(
    path: str, tmp_path: Path, shared_address: Callable[[], str]
) -> None:
    page = Page(tmp_path, shared_address)
    try:
        for block in page_blocks(ROOT, path):
            page.run(block)
    finally:
        page.close()


def test_the_readme_runs_something() -> None:
    assert "README.md" in RUNNABLE


def a_page(tmp_path: Path) -> Page:
    def nobody() -> str:
        raise AssertionError("no server is needed here")

    return Page(tmp_path, nobody)


def only_block(text: str) -> Block:
    (block,) = blocks("page.md", text)
    return block


@pytest.mark.parametrize(
    "text",
    [
        "<!-- run -->\n```bash\nfalse\ntrue\n```\n",
        "<!-- run -->\n```python\nraise SystemExit(3)\n```\n",
        "<!-- run -->\n```console\n$ echo one\ntwo\n```\n",
        "<!-- run -->\n```console\n$ true\n$ exit 4\n```\n",
        "<!-- run: serve -->\n```console\n$ echo serve\n```\n",
    ],
)
def test_a_wrong_block_fails(text: str, tmp_path: Path) -> None:
    with pytest.raises(BlockError, match=r"page\.md:2"):
        a_page(tmp_path).run(only_block(text))


def test_blocks_of_a_page_share_a_folder(tmp_path: Path) -> None:
    page = a_page(tmp_path)
    text = (
        "<!-- file: a.yaml -->\n```yaml\nport: 1\n```\n"
        "<!-- run -->\n```console\n$ cat \\\n  a.yaml\nport: ...\n```\n"
        "<!-- run -->\n```python\nassert open('a.yaml', closefd=True).close() is None\n```\n"
    )
    for block in blocks("page.md", text):
        page.run(block)


def test_a_transcript_is_commands_and_what_they_print() -> None:
    code = "$ a \\\n  b\none\ntwo\n$ c '{\n}'\nthree"
    assert list(transcript(code)) == [("a \\\n  b", "one\ntwo"), ("c '{\n}'", "three")]


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("a ... c", "a b\nb c\n", True),
        ("a   b", " a b ", True),
        ("a", "b", False),
        ("a ... d", "a b c", False),
    ],
)
def test_dots_stand_for_anything(expected: str, printed: str, same: bool) -> None:
    assert resembles(expected, printed) is same
