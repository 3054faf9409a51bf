"""How a model wants fill-in-the-middle prompts, and the making of such prompts.

Owns the order of marks and texts, the other files of a repository, and that no text can speak in
marks. Which marks a model has is told by `fim_families` and those who read its files. Pure.
Called by the gateway (`fim_prompt` for every completion with a suffix), by engines and benchmarks.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal

#: Where other files stand: before the first mark; the same, but with the path of the file at hand
#: behind its mark; or all of it behind the mark, as the beginning of the file.
FilesAt = Literal["outside", "split", "inside"]

#: What stands for a space in SentencePiece's spellings.
_SPACE_MARK = "▁"
#: Shorter spellings cannot be broken.
_MARK_CHARS_MIN = 3


@dataclass(frozen=True, slots=True)
class FimFile:
    """Another file, or a part of one, that is worth reading first."""

    path: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class FimText:
    """What is known around a cursor."""

    before: str = field(repr=False)
    after: str = field(repr=False)
    #: Of the file at hand, in its repository; told to the model only beside other files.
    path: str = ""
    #: In the order in which the model is to read them.
    files: tuple[FimFile, ...] = ()
    repository: str = ""


class Guard:
    """Keeps texts from speaking in marks.

    A mark in a text is broken by one space, so that a tokenizer takes it for ordinary characters.
    Nothing else in a text changes.

    Args:
        marks: Spellings that mean something to the model's tokenizer.
    """

    __slots__ = ("_heads", "_start", "_waiting")

    def __init__(self, marks: Iterable[str]) -> None:
        #: Marks by their first two characters.
        self._waiting: dict[str, set[str]] = {}
        for mark in marks:
            if len(mark.lstrip(_SPACE_MARK)) >= _MARK_CHARS_MIN:
                self._waiting.setdefault(mark[:2], set()).add(mark)
        self._heads = tuple(sorted(self._waiting))
        #: Finds first characters of heads; marks may overlap, hence not whole heads.
        starts = "|".join(f"{re.escape(h[0])}(?={re.escape(h[1])})" for h in self._heads)
        self._start = re.compile(starts) if starts else None

    def __repr__(self) -> str:
        return f"<Guard marks={sum(map(len, self._waiting.values()))}>"

    def quiet(self, text: str) -> str:
        """The text with every mark in it broken."""
        if self._start is None or not any(head in text for head in self._heads):
            return text
        parts, done = [], 0
        for place in self._breaks(text):
            parts.append(text[done:place])
            done = place
        return " ".join((*parts, text[done:]))

    def _breaks(self, text: str) -> Iterator[int]:
        """Where spaces belong, ascending."""
        assert self._start is not None  # noqa: S101 - quiet() has looked
        for found in self._start.finditer(text):
            at = found.start()
            for mark in self._waiting.get(text[at : at + 2], ()):
                if text.startswith(mark, at):
                    yield at + len(mark) - len(mark.lstrip(_SPACE_MARK)) + 1
                    break


@dataclass(frozen=True, slots=True)
class FimTemplate:
    """How a model wants fill-in-the-middle prompts."""

    #: Before the text in front of the cursor, before the text behind it, and where the model goes
    #: on; the last is empty where it goes on behind the text in front of the cursor.
    prefix: str
    suffix: str
    middle: str
    _: KW_ONLY
    #: Whether the text behind the cursor comes first.
    suffix_first: bool = False
    files_at: FilesAt = "inside"
    #: Before the repository's name; empty where the model is told none.
    repository: str = ""
    #: Before the path of each file.
    file: str = "# "
    #: At the end of each other file.
    between: str = "\n"
    #: Texts with which an answer ends, for the model has gone on to something else.
    stops: tuple[str, ...] = ()
    #: Fields that let the engine see these where they are tokens and no text.
    engine_fields: tuple[tuple[str, Any], ...] = ()
    #: Further spellings that mean something to the model's tokenizer.
    special: tuple[str, ...] = field(default=(), repr=False)
    family: str = "custom"
    _guard: Guard = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        marks = (*self.marks, self.repository.strip(), self.file.strip(), *self.special)
        object.__setattr__(self, "_guard", Guard(marks))

    @property
    def marks(self) -> tuple[str, ...]:
        """The marks of the gap."""
        return tuple(mark for mark in (self.prefix, self.suffix, self.middle) if mark)

    def quiet(self, text: str) -> str:
        """A text that has no mark of this model in it."""
        return self._guard.quiet(text)

    def render(self, before: str, after: str) -> str:
        """The prompt for text `before` and `after` the cursor."""
        return fim_prompt(self, FimText(before, after))

    def marked(self, prompt: str) -> bool:
        """Whether a prompt has this model's marks already."""
        return all(mark in prompt for mark in self.marks[1:])

    def around_cursor(self, prompt: str) -> tuple[str, str] | None:
        """Texts before and after the gap of a prompt with marks, these included; None without."""
        if self.suffix_first:
            after, mark, before = prompt.rpartition(self.prefix)
            return (before, after) if mark and self.suffix in after else None
        before, mark, after = prompt.partition(self.suffix)
        return (before, after) if mark else None

    def bare(self, before: str, after: str) -> tuple[str, str]:
        """What `around_cursor` gives, without the marks."""
        before, after = before.removeprefix(self.prefix), after.removeprefix(self.suffix)
        if self.middle:
            before, after = before.removesuffix(self.middle), after.removesuffix(self.middle)
        return before, after


def fim_prompt(template: FimTemplate, text: FimText) -> str:
    """The prompt with which a model fills the gap at the cursor.

    Marks of the model inside the texts are broken: a file that has them is a text like any other.

    Args:
        template: Of the model.
        text: What is known around the cursor.
    """
    before, after = template.quiet(text.before), template.quiet(text.after)
    outside, inside = _files(template, text)
    first = f"{template.prefix}{inside}{before}"
    second = f"{template.suffix}{after}"
    if template.suffix_first:
        return f"{outside}{second}{first}{template.middle}"
    return f"{outside}{first}{second}{template.middle}"


def _files(template: FimTemplate, text: FimText) -> tuple[str, str]:
    """What comes before the first mark, and at the beginning of the file at hand."""
    if not text.files:
        return "", ""
    path = _line(template, text.path)
    parts = []
    if template.repository and text.repository:
        parts.append(f"{template.repository}{_line(template, text.repository)}{template.between}")
    for file in text.files:
        told = template.quiet(file.text).removesuffix(template.between)
        parts.append(f"{template.file}{_line(template, file.path)}\n{told}{template.between}")
    others = "".join(parts)
    if template.files_at == "split":
        return f"{others}{template.file}", f"{path}\n" if path else ""
    others += f"{template.file}{path}\n"
    return (others, "") if template.files_at == "outside" else ("", others)


def _line(template: FimTemplate, text: str) -> str:
    """A name as one line."""
    return template.quiet(" ".join(text.split()))
