"""The `scheduler` section: which policies decide, and every bound of the scheduler.

Owns the options and their bounds; `params` turns them into the core's frozen parameters.
"""

from typing import TYPE_CHECKING, TypeAlias

from pydantic import Field

from slalom.config.fields import Section
from slalom.config.policy_choice import PolicyChoice, choice, default_choice

if TYPE_CHECKING:
    Admission: TypeAlias = PolicyChoice
    Ordering: TypeAlias = PolicyChoice
    Residency: TypeAlias = PolicyChoice
    Routing: TypeAlias = PolicyChoice
    Scaling: TypeAlias = PolicyChoice
else:
    Admission, Ordering = choice("admission"), choice("ordering")
    Residency, Routing = choice("residency"), choice("routing")
    Scaling = choice("scaling")


class SchedulerSection(Section):
    """Policies and bounds of the scheduler."""

    admission: Admission = Field(
        default_factory=lambda: default_choice("admission"),
        description="Who may run, wait, or is refused.",
    )
    ordering: Ordering = Field(
        default_factory=lambda: default_choice("ordering"), description="Who is next."
    )
    residency: Residency = Field(
        default_factory=lambda: default_choice("residency"),
        description="Which models give way when memory is short.",
    )
    routing: Routing = Field(
        default_factory=lambda: default_choice("routing"), description="Which replica serves."
    )
    scaling: Scaling = Field(
        default_factory=lambda: default_choice("scaling"),
        description="How many replicas each model has, up to its replicas.",
    )
    queue_max: int = Field(
        10_000, ge=1, le=1_000_000, description="Requests that may wait; more get a 429."
    )
    queue_timeout_seconds: float = Field(
        300, gt=0, le=86_400, description="Longest wait of a request in the queue, seconds."
    )
    attempts_max: int = Field(
        3, ge=1, le=100, description="Attempts per request where an engine fails before it answers."
    )
    swap_patience_ms: float = Field(
        2000,
        ge=0,
        le=600_000,
        description="How long a request for an absent model waits for an idle model to give way "
        "before busy ones must, milliseconds.",
    )
    swap_hold_ms: float = Field(
        30_000,
        ge=0,
        le=3_600_000,
        description="The longest that a residency policy may hold such a request back because what "
        "would give way is worth more, milliseconds.",
    )
    min_residency_ms: float = Field(
        1000, ge=0, le=600_000, description="Shortest life of a loaded model, milliseconds."
    )
    swap_drain_timeout_ms: float = Field(
        30_000,
        ge=0,
        le=3_600_000,
        description="Longest wait for a model that gives way to finish its requests, milliseconds.",
    )
    load_backoff_ms: float = Field(
        1000, ge=0, le=600_000, description="Pause after a first failed load, milliseconds."
    )
    load_backoff_max_ms: float = Field(
        60_000, ge=0, le=3_600_000, description="Longest such pause; it doubles, milliseconds."
    )
    load_failures_max: int = Field(
        2,
        ge=1,
        le=100,
        description="Failed loads in a row after which the waiting requests fail too.",
    )
    load_timeout_seconds: float = Field(
        600, gt=0, le=86_400, description="A load or wake not over by then has failed, seconds."
    )
    load_stall_seconds: float = Field(
        300,
        ge=0,
        le=86_400,
        description="A load that has told progress and then none for so long has failed, seconds; "
        "0 for never.",
    )
    sleep_timeout_seconds: float = Field(
        120, gt=0, le=86_400, description="A replica not asleep by then has failed, seconds."
    )
    unload_timeout_seconds: float = Field(
        60, gt=0, le=86_400, description="An unload not confirmed by then is repeated, seconds."
    )
    attempt_silence_seconds: float = Field(
        900,
        gt=0,
        le=86_400,
        description="A dispatched request without any sign for this long is stalled; its replica "
        "is replaced, seconds.",
    )
    default_deadline_ms: float = Field(
        60_000,
        gt=0,
        le=86_400_000,
        description="Deadline of a request whose task has no time target, milliseconds.",
    )
    chains_max: int = Field(
        4096,
        ge=1,
        le=1_000_000,
        description="Chains of calls that are remembered; beyond it the one unheard of for longest "
        "is forgotten.",
    )
    chain_idle_seconds: float = Field(
        300,
        gt=0,
        le=86_400,
        description="A chain of which nothing is heard for this long is given up, seconds.",
    )
