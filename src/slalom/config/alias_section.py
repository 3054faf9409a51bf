"""Names that stand for several models: the section, and what its names must agree on.

Owns the options of an alias and the words for one that cannot be. Read by `schema` and by
`scenario_checks`; `params` turns it into what the core takes.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from slalom.config.fields import Name, Section
from slalom.config.nearest import nearest
from slalom.core.request import Alternatives, Choice
from slalom.units import ms_to_ns

#: Field of an alias, and what is wrong there.
Complaint = tuple[str, str]


class AliasSection(Section):
    """A name that stands for several models, of which one is chosen for each request."""

    id: Name = Field(description="Name by which clients ask for it.")
    targets: Annotated[tuple[Name, ...], Field(min_length=1)] = Field(
        description="Ids of the models that may serve, the best first."
    )
    kind: Literal["warm-first", "spillover", "deadline", "confident"] = Field(
        "warm-first",
        description="What decides when a request arrives. warm-first: the first that is ready, "
        "else the first. spillover: the first that is not waited for too long, else the one that "
        "is waited for least. deadline: the first that is expected to hold the request's targets, "
        "else the one that ends first. confident: of two models the first, a small one, answers if "
        "it is ready; where its answer is doubted, the second one answers instead, if that is "
        "expected to be on time.",
    )
    max_wait_ms: int = Field(
        1000,
        ge=0,
        le=86_400_000,
        description="For spillover: the longest expected wait, milliseconds.",
    )
    max_waiting: int | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="For spillover: the most requests that may wait for a model before this one; "
        "null for any number.",
    )
    min_logprob: float = Field(
        -0.7,
        ge=-100,
        le=0,
        description="For confident: the least mean log-probability of an answer's first tokens; "
        "below it the answer is doubted.",
    )
    first_tokens: int = Field(
        3, ge=1, le=64, description="For confident: how many tokens that mean is taken of."
    )
    parse: bool = Field(
        default=True,
        description="For confident: whether a completion is doubted with which the text around it "
        "is no program. Such an answer reaches its client only as a whole.",
    )
    language: str | None = Field(
        None,
        description="For confident: the programming language where a request does not say it, by "
        "a file name or otherwise; null looks at no such completion.",
    )
    tasks: tuple[str, ...] = Field(
        (), description="Tasks that another than the first model may serve; empty for all."
    )

    @model_validator(mode="after")
    def _two(self) -> Self:
        if self.kind == "confident" and len(self.targets) != 2:
            raise ValueError("confident needs two targets: a small model, and one that takes over")
        return self

    def alternatives(self) -> Alternatives:
        """As the core takes it."""
        return Alternatives(
            self.targets,
            Choice(self.kind),
            wait_ns=ms_to_ns(self.max_wait_ms),
            waiting_max=-1 if self.max_waiting is None else self.max_waiting,
        )


def complaints(
    aliases: Sequence[AliasSection],
    models: Collection[str],
    taken: Collection[str],
    tasks: Collection[str],
) -> Iterator[tuple[int, Complaint]]:
    """Everything that is wrong with aliases, by their place in the list.

    Args:
        aliases: As written.
        models: Ids of the models.
        taken: All names that models have.
        tasks: Names of the tasks.
    """
    names = [alias.id for alias in aliases]
    for index, alias in enumerate(aliases):
        if alias.id in taken or alias.id in names[:index]:
            yield index, ("id", f"the name {alias.id!r} is given twice: rename one")
        for place, target in enumerate(alias.targets):
            if target == alias.id:
                yield index, ("targets", f"{target!r} stands for itself: name models")
            elif target in names and target not in models:
                what = f"{target!r} is an alias too: name its models, so that one rule decides"
                yield index, ("targets", what)
            elif target not in models:
                hint = nearest(target, list(models))
                yield index, ("targets", f"there is no model {target!r}; {hint}")
            elif target in alias.targets[:place]:
                yield index, ("targets", f"{target!r} is named twice: once is enough")
        for task in alias.tasks:
            if task not in tasks:
                hint = nearest(task, list(tasks))
                yield index, ("tasks", f"there is no task {task!r}; {hint}")
