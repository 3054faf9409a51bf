"""The `chains` section: chains of calls that requests may name, with their steps and deadline.

Owns the options and their bounds; whether the steps of one make sense is `workload.chains`'s to
say. Used through `schema.Config`.
"""

from collections.abc import Mapping
from typing import Self

from pydantic import Field, field_validator, model_validator

from slalom.config.fields import Section
from slalom.workload.chains import ChainSpec, StepSpec, problem_of

_NAME = r"^[A-Za-z0-9._:/+=@-]{1,128}$"
_DAY_MS = 86_400_000


class ChainStepSection(Section):
    """One call of a chain."""

    name: str = Field(pattern=_NAME, description="Name of the step; a call may say it is this one.")
    model: str = Field(min_length=1, description="Model that is going to be asked (id or alias).")
    task: str | None = Field(None, description="Its task; null for the server's default task.")
    prompt_tokens: int = Field(
        0,
        ge=0,
        le=1 << 24,
        description="Expected length of its prompt, tokens; 0 for the prompt and the answer of the "
        "step before it.",
    )
    output_tokens: int = Field(
        0,
        ge=0,
        le=1 << 20,
        description="Expected length of its answer before any was seen, tokens; 0 for its task's.",
    )
    gap_ms: float = Field(
        0,
        ge=0,
        le=_DAY_MS,
        description="Between the answer before it and this call, while tools run, milliseconds.",
    )
    then: tuple[str, ...] | None = Field(
        None,
        description="Steps of which one follows; null for the next in the list, [] for the end.",
    )

    @field_validator("then", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class ChainSection(Section):
    """A chain of calls with one deadline."""

    deadline_ms: float | None = Field(
        None,
        gt=0,
        le=_DAY_MS,
        description="From the first call to the last answer, milliseconds; null for none, or for "
        "what the first call says.",
    )
    steps: tuple[ChainStepSection, ...] = Field(description="Its calls; the first begins it.")

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        problem = problem_of(self.specs("", {}))
        if problem:
            raise ValueError(problem)
        return self

    def specs(self, default_task: str, models: Mapping[str, str]) -> list[StepSpec]:
        """Its steps.

        Args:
            default_task: Of steps that name none.
            models: Alias -> id.
        """
        return [
            StepSpec(
                name=step.name,
                model=models.get(step.model, step.model),
                task=step.task or default_task,
                prompt_tokens=step.prompt_tokens,
                output_tokens=step.output_tokens,
                gap_ms=step.gap_ms,
                then=step.then,
            )
            for step in self.steps
        ]


def chain_specs(
    sections: Mapping[str, ChainSection], default_task: str, models: Mapping[str, str]
) -> dict[str, ChainSpec]:
    """Chains by name.

    Args:
        sections: As configured.
        default_task: Of steps that name none.
        models: Alias -> id.
    """
    return {
        name: ChainSpec(name, section.specs(default_task, models), section.deadline_ms or 0.0)
        for name, section in sections.items()
    }
