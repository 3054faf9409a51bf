"""Rules about the written word: links, decision records, news fragments, code blocks.

Owns what keeps the docs true to the tree without building the site. Owns no rendering (MkDocs
does that, strictly) and runs no code block (tests/docs does). A fenced block of a language that
could run must be run, or say in a comment before it why not.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from posixpath import normpath

from tools.tidy.tree import Finding, Tree

#: Kinds of news fragment; the same list as [tool.towncrier] in pyproject.toml.
FRAGMENT_KINDS = ("feature", "change", "fix", "doc", "supply")
_FRAGMENT = re.compile(rf"(?:\d+|\+[a-z0-9-]+)\.(?:{'|'.join(FRAGMENT_KINDS)})(?:\.\d+)?\.md")
_LINK = re.compile(r"(?<!\!)\[[^\]\n]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)|!\[[^\]\n]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(\s*)(`{3,}|~{3,})\s*([\w-]*)(.*)$")
_NAMED = re.compile(r"`((?:src|tests|tools|docs|requirements)/[\w./-]+)(?:::(\w+))?`")
#: Languages of blocks that a reader might type or run.
RUNNABLE = frozenset({"bash", "sh", "shell", "console", "python", "py"})
_MARK = re.compile(r"<!--\s*(run|skip|file)(?::\s*(.*?))?\s*-->")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced code block of a Markdown file."""

    path: str
    #: Line of the opening fence, from 1.
    line: int
    language: str
    code: str
    #: "run", "skip" or "" where no mark stands before the block.
    mark: str
    #: What the mark says after its colon: a reason, or how to run it.
    note: str


def blocks(path: str, text: str) -> Iterator[Block]:
    """The fenced blocks of a Markdown text, in order."""
    opened: tuple[int, str, str, str] | None = None
    body: list[str] = []
    mark = note = ""
    for number, line in enumerate(text.splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is None:
            if fence:
                opened = (number, fence[2], fence[3].lower(), fence[1])
                body = []
            elif found := _MARK.search(line):
                mark, note = found[1], (found[2] or "").strip()
            elif line.strip():
                mark = note = ""
        elif fence and fence[2].startswith(opened[1]) and not fence[3]:
            indent = opened[3]
            code = "\n".join(row.removeprefix(indent) for row in body)
            yield Block(path, opened[0], opened[2], code, mark, note)
            opened, mark, note = None, "", ""
        else:
            body.append(line)


def code_blocks(tree: Tree) -> Iterator[Finding]:
    """Every block that could run is run or says why not."""
    for path in (name for name in tree.paths if _is_documentation(name)):
        for block in blocks(path, tree.text(path)):
            if block.language not in RUNNABLE:
                continue
            if not block.mark:
                yield Finding(path, block.line, "put <!-- run --> or <!-- skip: why --> before it")
            elif block.mark == "skip" and not block.note:
                yield Finding(path, block.line, "a skipped block needs a reason")


def _is_documentation(path: str) -> bool:
    return path == "README.md" or (path.startswith("docs/") and path.endswith(".md"))


def _without_code(text: str) -> str:
    text = re.sub(r"(?ms)^\s*(`{3,}|~{3,}).*?^\s*\1\s*$", "", text)
    return re.sub(r"`[^`\n]*`", "", text)


def links(tree: Tree) -> Iterator[Finding]:
    """Every relative link in a Markdown file leads to something in the tree."""
    for path in (name for name in tree.paths if name.endswith(".md")):
        for found in _LINK.finditer(_without_code(tree.text(path))):
            target = (found[1] or found[2]).partition("#")[0]
            if not target or re.match(r"[a-z][a-z0-9+.-]*:", target):
                continue
            whole = normpath(str(PurePosixPath(path).parent / target))
            if not tree.exists(whole):
                yield Finding(path, 0, f"link to {target}, which is not there")


def named_files(tree: Tree) -> Iterator[Finding]:
    """Every file, folder and test that the prose names in backticks is there."""
    for path in (name for name in tree.paths if name.endswith(".md")):
        for found in _NAMED.finditer(re.sub(r"(?ms)^```.*?^```", "", tree.text(path))):
            file, test = found[1].rstrip("/"), found[2]
            if not tree.exists(file):
                yield Finding(path, 0, f"names {file}, which is not there")
            elif test and f"def {test}(" not in tree.text(file):
                yield Finding(path, 0, f"names the test {test}, which is not in {file}")


def decision_records(tree: Tree) -> Iterator[Finding]:
    """Every decision record is in the site's navigation and in the index of records."""
    index, navigation = "docs/adr/index.md", "mkdocs.yml"
    for path in tree.under("docs/adr", suffix=".md"):
        name = PurePosixPath(path).name
        if path == index:
            continue
        if not re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", name):
            yield Finding(path, 0, "name a decision record NNNN-some-words.md")
        for place, needle in ((index, f"({name})"), (navigation, f"adr/{name}")):
            if place in tree.paths and needle not in tree.text(place):
                yield Finding(path, 0, f"not in {place}")


def news_fragments(tree: Tree) -> Iterator[Finding]:
    """A news fragment has a name towncrier understands, and says something."""
    for path in tree.under("newsfragments"):
        name = PurePosixPath(path).name
        if name == "README.md":
            continue
        if not _FRAGMENT.fullmatch(name):
            kinds = ", ".join(FRAGMENT_KINDS)
            yield Finding(path, 0, f"name it ISSUE.KIND.md or +words.KIND.md; KIND: {kinds}")
        elif not tree.text(path).strip():
            yield Finding(path, 0, "empty: say what changed for whom")
