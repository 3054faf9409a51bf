"""How a model wants fill-in-the-middle prompts: a part of every engine's section.

Owns the options only; the known families are `slalom.models.fim_families`. Read by assembly.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from slalom.config.fields import Section


class FimTokens(Section):
    """How the model wants fill-in-the-middle prompts: a known family's way, or marks of its own."""

    family: Literal[
        "auto",
        "none",
        "qwen",
        "codegemma",
        "granite",
        "starcoder2",
        "granite-code",
        "starcoder",
        "santacoder",
        "deepseek",
        "codellama",
        "codestral",
    ] = Field(
        "auto",
        description="Whose way; auto looks into the model's files, or at its name where they are "
        "not here; none takes no suffixes.",
    )
    prefix: str | None = Field(
        None, min_length=1, description="Token before the text above the cursor; null for family's."
    )
    suffix: str | None = Field(
        None, min_length=1, description="Token before the text below the cursor."
    )
    middle: str | None = Field(
        None, min_length=1, description="Token after which the model writes."
    )
    suffix_first: bool = Field(
        default=False,
        description="Whether the text below the cursor comes first; middle may then be missing.",
    )
    stop: tuple[str, ...] = Field((), description="Texts with which an answer ends.")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = (self.prefix, self.suffix, self.middle)
        if all(mark is None for mark in given):
            if self.suffix_first:
                raise ValueError("suffix_first needs prefix and suffix")
            return self
        if self.family != "auto":
            raise ValueError("give a family, or prefix, suffix and middle, not both")
        if self.prefix is None or self.suffix is None:
            raise ValueError("prefix and suffix go together")
        if self.middle is None and not self.suffix_first:
            raise ValueError("middle is missing; only with suffix_first it may be")
        return self


#: The option, as every engine's section has it.
Fim = Annotated[
    FimTokens | None,
    Field(
        description="How the model wants fill-in-the-middle prompts; null finds out by its files "
        "or its name."
    ),
]
