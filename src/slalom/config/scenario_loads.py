"""Sections of a scenario file that say what is asked: arrivals, lengths, mixes, clients.

Owns their options, defaults and bounds; the laws behind them are `slalom.workload`'s. Used
through `scenario_file.ScenarioFile`; `scenario_load` turns them into a plan.
"""

from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from slalom.config.fields import Name, Section

_RATE = Field(gt=0, le=1_000_000, description="Long-run mean, requests per second.")
_BURSTINESS = Field(
    1.0, gt=0, le=1000, description="Shape of the Gamma distribution of gaps: 1 is Poisson, "
    "below 1 burstier; the coefficient of variation is 1/sqrt of it."
)  # fmt: skip


class PoissonArrivals(Section):
    """Independent arrivals: exponential gaps."""

    kind: Literal["poisson"] = "poisson"
    rate_per_s: float = _RATE


class GammaGaps(Section):
    """Gaps from a Gamma distribution."""

    kind: Literal["gamma"] = "gamma"
    rate_per_s: float = _RATE
    burstiness: float = _BURSTINESS


class EvenGaps(Section):
    """Equal gaps, or batches with equal gaps between them."""

    kind: Literal["even"] = "even"
    rate_per_s: float = _RATE
    batch: int = Field(1, ge=1, le=1_000_000, description="Requests that come at the same time.")


class ClientBursts(Section):
    """Many clients that come and go, of which a few send most of the traffic."""

    kind: Literal["clients"] = "clients"
    rate_per_s: float = _RATE
    clients: int = Field(50, ge=1, le=10_000, description="How many clients.")
    skew: float = Field(
        1.0, ge=0, le=5, description="Client k has weight 1/k to this power; 0 for equal ones."
    )
    on_seconds: float = Field(20, gt=0, le=1e6, description="Mean span of activity, seconds.")
    off_seconds: float = Field(60, ge=0, le=1e6, description="Mean silence between, seconds.")


class DayShape(Section):
    """A coding weekday: a quiet night, two peaks, a lunch dip."""

    kind: Literal["day"] = "day"
    rate_per_s: float = _RATE
    day_seconds: float = Field(
        86_400, gt=0, le=1e7, description="The day is squeezed into this span, seconds."
    )
    burstiness: float = _BURSTINESS


class StepShape(Section):
    """A constant rate with one step up, over and over."""

    kind: Literal["step"] = "step"
    rate_per_s: float = _RATE
    factor: float = Field(5, gt=0, le=1000, description="Height of the step over the rest.")
    before_seconds: float = Field(60, gt=0, le=1e6, description="Until the step, seconds.")
    step_seconds: float = Field(30, gt=0, le=1e6, description="Length of the step, seconds.")
    after_seconds: float = Field(60, gt=0, le=1e6, description="After the step, seconds.")
    burstiness: float = _BURSTINESS


class TraceReplay(Section):
    """A recorded load: its arrivals and lengths. Sizes of the mix do not count then."""

    kind: Literal["trace"] = "trace"
    path: Path = Field(
        description="The file; relative to the scenario's, and $NAME is an environment variable."
    )
    format: Literal["azure", "mooncake", "slalom"] = Field(
        "slalom", description="azure (CSV), mooncake (JSONL) or slalom (JSONL, trace export)."
    )
    rate_scale: float = Field(1, gt=0, le=10_000, description="Played so many times as fast.")
    from_seconds: float = Field(0, ge=0, le=1e9, description="Leave out what comes before.")
    to_seconds: float = Field(1e9, gt=0, le=1e9, description="Leave out what comes later.")


Arrivals = Annotated[
    PoissonArrivals | GammaGaps | EvenGaps | ClientBursts | DayShape | StepShape | TraceReplay,
    Field(discriminator="kind"),
]

_TOKENS_MAX = 10_000_000


class FixedTokens(Section):
    """Always the same length."""

    kind: Literal["fixed"] = "fixed"
    tokens: int = Field(ge=0, le=_TOKENS_MAX, description="The length, tokens.")


class UniformTokens(Section):
    """Evenly from a range."""

    kind: Literal["uniform"] = "uniform"
    low: int = Field(ge=0, le=_TOKENS_MAX, description="Shortest, tokens.")
    high: int = Field(ge=0, le=_TOKENS_MAX, description="Longest, tokens.")

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}: exchange them")
        return self


class QuantileTokens(Section):
    """An empirical distribution; between two quantiles lengths grow geometrically."""

    kind: Literal["quantiles"] = "quantiles"
    points: tuple[tuple[float, float], ...] = Field(
        min_length=2, description="Pairs [per cent, tokens], ascending, from 0 to 100."
    )

    @field_validator("points")
    @classmethod
    def _whole(cls, points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        if points[0][0] != 0 or points[-1][0] != 100:
            raise ValueError("the first point must be at 0 and the last at 100 per cent")
        for (below, low), (above, high) in pairwise(points):
            if below >= above or low > high or low < 1:
                raise ValueError(
                    f"[{below:g}, {low:g}] and [{above:g}, {high:g}] do not ascend from 1 token"
                )
        return points


class LogNormalTokens(Section):
    """A median and a spread on the logarithmic scale."""

    kind: Literal["lognormal"] = "lognormal"
    median: float = Field(ge=1, le=_TOKENS_MAX, description="Median, tokens.")
    sigma: float = Field(0.7, ge=0, le=5, description="Standard deviation of the logarithm.")
    most: int = Field(32_768, ge=1, le=_TOKENS_MAX, description="Longest, tokens.")


class RatioTokens(Section):
    """So many times the prompt."""

    kind: Literal["ratio"] = "ratio"
    ratio: float = Field(1.0, gt=0, le=1000, description="Tokens per token of the prompt.")
    sigma: float = Field(0.2, ge=0, le=5, description="Spread of the ratio's logarithm.")
    most: int = Field(32_768, ge=1, le=_TOKENS_MAX, description="Longest, tokens.")


Lengths = Annotated[
    FixedTokens | UniformTokens | QuantileTokens | LogNormalTokens | RatioTokens,
    Field(discriminator="kind"),
]


def _ascending(span: tuple[float, float]) -> tuple[float, float]:
    low, high = span
    if not 0 <= low <= high:
        raise ValueError("must be two ascending times of 0 or more")
    return span


class KeystrokesSection(Section):
    """Users who type on in one document and ask anew: each arrival is the first of a burst."""

    share: float = Field(
        ge=0, le=0.95, description="Share of requests that a further keystroke makes stale."
    )
    after_ms: Annotated[tuple[float, float], AfterValidator(_ascending)] = Field(
        (100, 600), description="The next keystroke comes between these after a request, ms."
    )
    cancels: float = Field(
        1,
        ge=0,
        le=1,
        description="Share of documents whose editor cancels the stale request; the others leave "
        "it to itself and only send the newer one.",
    )
    supersede: bool = Field(
        default=False,
        description="Requests name their document, so that the server ends the stale one itself.",
    )


def _not_empty(entries: tuple[Any, ...]) -> tuple[Any, ...]:
    if not entries:
        raise ValueError("needs at least one entry")
    return entries


#: Of a list that must not be empty. Unlike a least length it does not count entries that are wrong
#: as missing.
NOT_EMPTY = AfterValidator(_not_empty)


class ChainCallSection(Section):
    """A later call of a chain."""

    task: Name = Field(description="Its task: a default one, or one of the file's tasks.")
    model: Name = Field(description="Model that serves it.")
    prompt: Lengths = Field(description="Tokens of its prompt beside what it carries over.")
    output: Lengths = Field(description="Length of answers; the scheduler does not see it.")
    max_tokens: int = Field(
        1024, ge=1, le=_TOKENS_MAX, description="Answer limit a request names, tokens."
    )
    gap_seconds: float = Field(
        0, ge=0, le=86_400, description="Median pause before it, while tools run, seconds."
    )
    gap_sigma: float = Field(0, ge=0, le=5, description="Spread of the pause's logarithm.")
    carries: bool = Field(
        default=True,
        description="Its prompt begins with the prompt and the answer of the call before it.",
    )


class ChainLawSection(Section):
    """Calls that follow each other, with one deadline for all: the entry itself is the first."""

    deadline_seconds: float = Field(
        gt=0, le=86_400, description="From the first call to the last answer, seconds."
    )
    then: Annotated[tuple[ChainCallSection, ...], NOT_EMPTY] = Field(
        description="The calls after the first one."
    )


class MixEntrySection(Section):
    """One kind of request among those a group of clients sends."""

    task: Name = Field(description="Its task: a default one, or one of the file's tasks.")
    model: Name | tuple[Name, ...] = Field(
        description="Model that serves it, or several of which one is drawn by rank."
    )
    zipf: float = Field(
        1.0, ge=0, le=10, description="With several models: rank k has weight 1/k to this power."
    )
    phase_seconds: float = Field(
        0, ge=0, le=1e9, description="Ranks turn by one after this span; 0 for never, seconds."
    )
    weight: float = Field(1.0, ge=0, le=1e9, description="Weight among the entries.")
    weight_to: float | None = Field(
        None, ge=0, le=1e9, description="Weight at the end of the load, linear until then."
    )
    prompt: Lengths = Field(description="Length of prompts.")
    output: Lengths = Field(description="Length of answers; the scheduler does not see it.")
    max_tokens: int = Field(
        1024, ge=1, le=_TOKENS_MAX, description="Answer limit a request names, tokens."
    )
    typed_on_share: float = Field(
        0, ge=0, le=1, description="Share of requests whose user types on and takes them back."
    )
    typed_on_ms: Annotated[tuple[float, float], AfterValidator(_ascending)] = Field(
        (100, 600), description="When that happens: between these after the arrival, milliseconds."
    )
    keystrokes: KeystrokesSection | None = Field(
        None, description="Users who type on and send a newer request each time."
    )
    chain: ChainLawSection | None = Field(
        None, description="Calls that follow its answer, with one deadline for all of them."
    )

    @model_validator(mode="after")
    def _types_in_one_way(self) -> Self:
        if self.keystrokes is not None and self.typed_on_share:
            raise ValueError(
                "typed_on_share and keystrokes both say that users type on: leave one out "
                "(keystrokes sends a newer request, typed_on_share does not)"
            )
        if self.chain is not None and (self.keystrokes or self.typed_on_share):
            raise ValueError("a chain's calls are not taken back: leave out who types on")
        return self


class StepsSection(Section):
    """How a session goes on after an answer: a person thinks, or an agent runs its tools."""

    count: Lengths = Field(description="Requests of one session (the kinds of lengths, a count).")
    gap_seconds: float = Field(
        ge=0, le=86_400, description="Median pause between an answer and the next step, seconds."
    )
    gap_sigma: float = Field(0.8, ge=0, le=5, description="Spread of the pause's logarithm.")
    appended: Lengths = Field(
        description="Tokens a step adds to the prompt and the answer before it."
    )


class RetriesSection(Section):
    """Clients that come again after a refusal (429, 503), as the SDKs of OpenAI do."""

    tries: int = Field(2, ge=1, le=20, description="Further tries after the first one.")
    backoff_seconds: float = Field(
        0.5,
        ge=0,
        le=3600,
        description="Wait before the first of them, doubled for each, up to sixteen times; longer "
        "where the server says so.",
    )
    jitter: float = Field(
        0.25, ge=0, le=1, description="Up to this share of the wait is added at random."
    )


class ClientsSection(Section):
    """A group of clients of one behaviour; several groups are added up."""

    name: Name = Field("load", description="Beginning of the requests' ids.")
    arrivals: Arrivals = Field(description="When requests, or sessions, begin.")
    mix: Annotated[tuple[MixEntrySection, ...], NOT_EMPTY] = Field(description="What they ask for.")
    steps: StepsSection | None = Field(None, description="Sessions of several steps.")
    retries: RetriesSection | None = Field(
        None, description="What refused clients do; without it they do not come again."
    )

    @model_validator(mode="after")
    def _weights(self) -> Self:
        if not any(entry.weight for entry in self.mix):
            raise ValueError("the weights of the mix are all 0; give one a weight")
        if self.steps is not None and self.arrivals.kind == "trace":
            raise ValueError("a trace holds every request already: leave steps out")
        if any(entry.keystrokes for entry in self.mix):
            if self.arrivals.kind == "trace":
                raise ValueError("a trace holds every request already: leave keystrokes out")
            if self.steps is not None:
                raise ValueError("steps and keystrokes do not go together: make two groups")
        if any(entry.chain for entry in self.mix) and (
            self.steps is not None or self.arrivals.kind == "trace"
        ):
            raise ValueError("chains go neither with steps nor with a trace: make two groups")
        return self
