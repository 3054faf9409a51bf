"""The families of code models that know fill-in-the-middle, and how each wants it.

Owns the table of marks, orders and stops, and finding a model's row by its vocabulary or its
name. Pure. Called by those who read models' files, and by the assembly for models whose files
are not here.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

from slalom.models.fim import FimTemplate

_PIPED = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
_PLAIN = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")
_DASHED = ("<fim-prefix>", "<fim-suffix>", "<fim-middle>")
#: With the fullwidth bar that DeepSeek's tokens have.
_DEEPSEEK = ("<\uff5cfim▁begin\uff5c>", "<\uff5cfim▁hole\uff5c>", "<\uff5cfim▁end\uff5c>")
_CODE_LLAMA = ("▁<PRE>", "▁<SUF>", "▁<MID>")
_CODESTRAL = ("[PREFIX]", "[SUFFIX]", "")


@dataclass(frozen=True, slots=True)
class Family:
    """One row: models that were trained with the same marks."""

    template: FimTemplate
    #: How its models' names look, lower case.
    names: str
    #: Further spellings that are in its vocabulary, and not in others' with the same marks.
    tells: tuple[str, ...] = ()
    #: Whether vocabularies have all these spellings of which the models know no meaning.
    needs_name: bool = False

    @property
    def name(self) -> str:
        """For people and the configuration."""
        return self.template.family

    def knows(self, spellings: Collection[str], name: str) -> bool:
        """Whether a model with this vocabulary and name is of this family."""
        if self.needs_name and not self.has_name(name):
            return False
        return all(mark in spellings for mark in (*self.template.marks, *self.tells))

    def has_name(self, name: str) -> bool:
        """Whether a model's name is of this family."""
        return re.search(self.names, name.lower()) is not None


def _template(family: str, marks: tuple[str, str, str], *more_stops: str) -> FimTemplate:
    # Engines may take the first few only: what ends an answer most often comes first.
    return FimTemplate(*marks, stops=(*more_stops[::-1], *filter(None, marks)), family=family)


#: Of two rows with the same marks the one that is told by more comes first. What may stand in
#: ordinary text (`usage: cat <filename>`) is a mark before a file, but ends no answer.
#:
#: Source: the models' cards and papers (of StarCoder2, section 5.1; of Qwen2.5-Coder, section 3).
FAMILIES = (
    Family(
        replace(
            _template("qwen", _PIPED, "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"),
            files_at="outside",
            repository="<|repo_name|>",
            file="<|file_sep|>",
            special=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_pad|>"),
        ),
        r"qwen[-_. ]?[23][-_. \d]*coder|slalom-(mini|small)",
        tells=("<|file_sep|>",),
    ),
    Family(
        replace(
            _template("codegemma", _PIPED, "<|file_separator|>"),
            files_at="outside",
            file="<|file_separator|>",
            special=("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        ),
        r"codegemma",
        tells=("<|file_separator|>",),
    ),
    Family(
        replace(
            _template("granite", _PIPED, "<|fim_pad|>"),
            repository="<|reponame|>",
            file="<|filename|>",
            special=("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"),
        ),
        r"granite[-_ ]?(3\.3|[4-9])",
        tells=("<|filename|>",),
    ),
    Family(
        replace(
            _template("starcoder2", _PLAIN, "<fim_pad>", "<repo_name>", "<file_sep>"),
            files_at="split",
            repository="<repo_name>",
            file="<file_sep>",
            between="",
            special=("<|endoftext|>", "<fim_pad>"),
        ),
        r"starcoder[-_]?2",
        tells=("<file_sep>",),
    ),
    Family(
        replace(
            _template("granite-code", _PLAIN, "<fim_pad>"),
            repository="<reponame>",
            file="<filename>",
            special=("<|endoftext|>", "<fim_pad>"),
        ),
        r"granite.*code",
        tells=("<filename>",),
        needs_name=True,
    ),
    Family(
        replace(
            _template("starcoder", _PLAIN, "<fim_pad>"),
            repository="<reponame>",
            file="<filename>",
            special=("<|endoftext|>", "<fim_pad>"),
        ),
        r"starcoder",
        tells=("<filename>",),
    ),
    Family(
        replace(_template("santacoder", _DASHED, "<fim-pad>"), special=("<|endoftext|>",)),
        r"santacoder",
    ),
    Family(
        replace(
            _template("deepseek", _DEEPSEEK),
            file="#",
            special=("<\uff5cend▁of▁sentence\uff5c>", "<\uff5cbegin▁of▁sentence\uff5c>", "<|EOT|>"),
        ),
        r"deepseek.*coder",
    ),
    Family(
        replace(
            _template("codellama", _CODE_LLAMA, "▁<EOT>", "<EOT>"),
            special=("<PRE>", "<SUF>", "<MID>", "<EOT>", "▁<EOT>", "<s>", "</s>"),
        ),
        r"code-?llama-(7|13|70)b(?!.*python)",
    ),
    Family(
        replace(
            _template("codestral", _CODESTRAL, "[MIDDLE]", "\n+++++ "),
            suffix_first=True,
            file="+++++ ",
            special=("[MIDDLE]", "[INST]", "[/INST]", "<s>", "</s>"),
        ),
        r"codestral",
        needs_name=True,
    ),
)

BY_NAME = {family.name: family.template for family in FAMILIES}


def of_vocabulary(spellings: Collection[str], name: str) -> FimTemplate | None:
    """The template of a model, by the spellings of its tokens.

    Args:
        spellings: Of its special tokens, at least.
        name: As people call it.
    """
    for family in FAMILIES:
        if family.knows(spellings, name):
            return family.template
    return _bare_marks(spellings)


def _bare_marks(spellings: Collection[str]) -> FimTemplate | None:
    """A template without more than the three marks, where a vocabulary has them."""
    for marks in (_PIPED, _PLAIN, ("<PRE>", "<SUF>", "<MID>")):
        if all(mark in spellings for mark in marks):
            return FimTemplate(*marks, stops=marks)
    return None


def of_name(name: str) -> FimTemplate | None:
    """The template of a model of which only the name is known."""
    for family in FAMILIES:
        if family.has_name(name):
            return family.template
    return None
