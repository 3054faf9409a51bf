"""The schema of a scenario file: what is asked, of which models, on what hardware, decided how.

Owns the file's top and the sections of models and policies (those of loads: `scenario_loads`).
One file is played by the twin and against a live server. Read by `scenario_load`; the reference
page and `slalom twin schema` are made from it.
"""

from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from slalom.config.alias_section import AliasSection
from slalom.config.fields import Name, Section, Size
from slalom.config.policy_choice import PolicyChoice, choice
from slalom.config.scenario_loads import NOT_EMPTY, ClientsSection
from slalom.config.scheduler_section import SchedulerSection
from slalom.config.sections import TaskSection

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


class SimpleLaw(Section):
    """Each token the slower the more requests run beside it; prompts are read side by side."""

    kind: Literal["simple"] = "simple"
    prefill_us_per_token: float = Field(
        100, ge=0, le=1e6, description="Reading one prompt token, microseconds."
    )
    token_ms: float = Field(
        10, gt=0, le=1e5, description="One output token of a request alone, milliseconds."
    )
    neighbour_ms: float = Field(
        1, ge=0, le=1e5, description="What each request beside it adds to that, milliseconds."
    )


class UslSpeed(Section):
    """The universal scalability law: each of L requests gets a/(1 + sL + kL²) tokens a second."""

    kind: Literal["usl"] = "usl"
    a: float = Field(gt=0, le=1e6, description="Scale of the speed, tokens per second.")
    s: float = Field(ge=0, le=10, description="Contention.")
    k: float = Field(ge=-1, le=1, description="Coherency; a fit may make it slightly negative.")
    prefill_us_per_token: float = Field(
        0, ge=0, le=1e6, description="Reading one prompt token, microseconds."
    )


_PROFILE = Field(
    min_length=1,
    description="Step times: a shipped profile's name, or a JSON file of `slalom calibrate`.",
)


class VllmBatching(Section):
    """Continuous batching with chunked prefill, in the manner of vLLM V1."""

    kind: Literal["vllm"] = "vllm"
    profile: str = _PROFILE
    seqs_max: int = Field(
        0, ge=0, le=100_000, description="Sequences in a step; 0 for the model's places."
    )
    budget_tokens: int = Field(8192, ge=1, le=1 << 20, description="Most tokens of one step.")
    kv_blocks: int = Field(
        0, ge=0, le=1 << 31, description="Blocks of the KV cache; 0 for as many as it takes."
    )
    block_tokens: int = Field(16, ge=1, le=1024, description="Tokens of a KV block.")
    long_prefill_tokens: int = Field(
        0, ge=0, le=1 << 20, description="Most prompt tokens of a sequence in a step; 0: all."
    )
    prefix_caching: bool = Field(
        default=True, description="Whether what was read serves later prompts of a session."
    )
    by_priority: bool = Field(
        default=False,
        description="Whether it takes waiting requests by priority (a planner's, else the first "
        "deadline) and lets the least urgent give way, as with vLLM's priority scheduling.",
    )


class LlamaCppSlots(Section):
    """Slots and micro-batches, in the manner of llama.cpp's server."""

    kind: Literal["llama-cpp"] = "llama-cpp"
    profile: str = _PROFILE
    slots: int = Field(0, ge=0, le=100_000, description="Slots; 0 for the model's places.")
    batch_tokens: int = Field(2048, ge=1, le=1 << 20, description="Most tokens of one step.")
    micro_batch_tokens: int = Field(
        512, ge=1, le=1 << 20, description="Most tokens of one piece of a step."
    )
    prefix_caching: bool = Field(
        default=True, description="Whether a slot keeps what it read for the session's next."
    )


Engine = Annotated[SimpleLaw | UslSpeed | VllmBatching | LlamaCppSlots, Field(discriminator="kind")]


class LoadTimeSection(Section):
    """How long a replica takes to come up."""

    fixed_seconds: float = Field(0.5, ge=0, le=86_400, description="Part that is always spent.")
    weights: Size = Field(0, description="Bytes that a load moves; 0 for the model's bytes.")
    bytes_per_second: Size = Field(
        2 << 30, ge=1, description="Its bytes come at this rate, and never faster."
    )
    links: tuple[Name, ...] = Field(
        (), description="Links (see `links`) that its bytes share with other loads."
    )


class SleepSection(Section):
    """How a replica that gives way sleeps instead of ending, its process staying alive."""

    level: Literal[1, 2] = Field(
        1, description="1 moves its weights to host memory, 2 drops them and reads them again."
    )
    weights: Size = Field(
        0, description="Bytes that move, and at level 1 take host memory; 0 for the model's bytes."
    )
    residual: Size = Field(0, description="Bytes it keeps on its device while it sleeps.")
    fixed_seconds: float = Field(
        0.2, ge=0, le=86_400, description="Part of each sleep and each wake that is always spent."
    )
    bytes_per_second: Size = Field(
        21_000_000_000, ge=1, description="The weights move at this rate, and never faster."
    )
    first_bytes_per_second: Size = Field(
        2_600_000_000,
        description="The same for the first sleep of a life at level 1, which pins its host "
        "memory; 0 where that is done beforehand.",
    )
    links: tuple[Name, ...] = Field(
        (), description="Links (see `links`) that the weights share with other transfers."
    )
    deep: bool = Field(
        default=False,
        description="Whether it can drop its weights where level 1 finds no host memory, and read "
        "them again as a load does when it wakes.",
    )


class ScenarioModel(Section):
    """A model that can be served."""

    id: Name = Field(description="Name that the load's mixes use.")
    device: str = Field("gpu", min_length=1, description="Device whose memory holds a replica.")
    devices: tuple[str, ...] = Field(
        (),
        description="Devices that may hold a replica, most preferred first, instead of device: "
        "each goes where it fits without others giving way, then where most memory is free.",
    )
    bytes: Size = Field(description="Memory of one replica: weights, KV cache, runtime.")
    places: int = Field(8, ge=1, le=100_000, description="Requests a replica runs at a time.")
    replicas: int = Field(1, ge=1, le=100_000, description="Replicas while there is demand.")
    pinned: bool = Field(default=False, description="Loaded at the start, never evicted.")
    resumable: bool = Field(
        default=True,
        description="Whether its answers can be broken off and continued: planners may pause them.",
    )
    engine: Engine = Field(description="How fast it is.")
    calibrated: bool | Annotated[float, Field(gt=0, le=100)] = Field(
        default=True,
        description=(
            "Whether planners know its step times at the start, or the factor by which what they "
            "are told is wrong."
        ),
    )
    load: LoadTimeSection = Field(
        default_factory=LoadTimeSection, description="How long it takes to come up."
    )
    sleep: SleepSection | None = Field(
        None, description="How it sleeps when it gives way; null where its engine cannot."
    )

    @property
    def homes(self) -> tuple[str, ...]:
        """Devices that may hold a replica, most preferred first."""
        return self.devices or (self.device,)


class ScenarioDevice(Section):
    """A memory domain."""

    id: str = Field("gpu", min_length=1, description="Its name.")
    budget: Size = Field(description="Bytes that replicas may take together.")
    window: int = Field(
        0, ge=0, le=1_000_000, description="Requests in flight over all its replicas; 0: no bound."
    )
    shared: bool = Field(
        default=False,
        description="Whether its engines take turns in computing: with k busy ones, everything "
        "takes k times as long. Otherwise each is as fast as if it were alone.",
    )
    host: str | None = Field(
        None,
        min_length=1,
        description="The device that is the host memory in which its models sleep at level 1.",
    )
    speed: float = Field(
        1.0, gt=0, lt=1_000, description="Its engines are so many times as fast as they say."
    )


class ScenarioLink(Section):
    """A disk, the host's memory, a bus: loads that take it at the same time share it."""

    id: Name = Field(description="Its name.")
    bytes_per_second: Size = Field(ge=1, description="What all loads together get.")


class FaultSection(Section):
    """What goes wrong, as shares from 0 to 1 of attempts, loads or told events."""

    crash: float = Field(0, ge=0, le=1, description="Attempts during which the engine crashes.")
    hang: float = Field(0, ge=0, le=1, description="Attempts during which it stops for ever.")
    slow: float = Field(0, ge=0, le=1, description="Attempts from which on it is slower.")
    error: float = Field(0, ge=0, le=1, description="Attempts answered with an error.")
    failed_load: float = Field(0, ge=0, le=1, description="Loads that fail.")
    slow_load: float = Field(0, ge=0, le=1, description="Loads that take ten times as long.")
    foreign_memory: float = Field(
        0, ge=0, le=1, description="Loads after which more memory is taken than was estimated."
    )
    taken_memory: float = Field(
        0, ge=0, le=1, description="Loads after which others take memory of the device, for 20 s."
    )
    lost: float = Field(0, ge=0, le=1, description="Events of engines that are never told.")
    late: float = Field(0, ge=0, le=1, description="Events told up to two seconds late.")
    duplicate: float = Field(0, ge=0, le=1, description="Events told twice.")


class DoubtSection(Section):
    """How often the first model of a `confident` alias is doubted, as shares from 0 to 1."""

    unsure: float = Field(
        0, ge=0, le=1, description="Answers that are doubted by their first tokens."
    )
    broken: float = Field(0, ge=0, le=1, description="Answers that are doubted at their end.")

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.unsure + self.broken > 1:
            raise ValueError("unsure and broken are shares of the same answers: at most 1 together")
        return self


class PolicySet(Section):
    """Policies to compare; a slot that is not named keeps the scheduler section's."""

    admission: Admission | None = Field(None, description="Who may run, waits, or is refused.")
    ordering: Ordering | None = Field(None, description="Who is next.")
    residency: Residency | None = Field(None, description="Which models give way.")
    routing: Routing | None = Field(None, description="Which replica serves.")
    scaling: Scaling | None = Field(None, description="How many replicas models have.")


class ScenarioFile(Section):
    """A scenario."""

    name: Name = Field(description="Short name, for tables and file names.")
    about: str = Field("", max_length=2000, description="What it shows, for people.")
    source: str = Field("", max_length=500, description="Where its numbers come from.")
    duration_seconds: float | None = Field(
        None, gt=0, le=1e8, description="Arrivals end after this span, seconds."
    )
    requests: int | None = Field(
        None, ge=1, le=20_000_000, description="Arrivals in all, instead of a span."
    )
    exact_mix: bool = Field(
        default=False, description="Count kinds exactly and shuffle, instead of drawing each."
    )
    warm_up_seconds: float = Field(
        0, ge=0, le=1e8, description="Requests that arrive before this do not count, seconds."
    )
    seeds: int = Field(5, ge=1, le=10_000, description="Repetitions with seeds 0, 1, 2 …")
    tasks: dict[str, TaskSection] = Field(
        default_factory=dict, description="Targets that differ from the default tasks'; new tasks."
    )
    clients: Annotated[tuple[ClientsSection, ...], NOT_EMPTY] = Field(description="What is asked.")
    models: Annotated[tuple[ScenarioModel, ...], NOT_EMPTY] = Field(description="What is served.")
    aliases: tuple[AliasSection, ...] = Field(
        (), description="Names that stand for several models, of which one is chosen."
    )
    doubts: DoubtSection = Field(
        default_factory=DoubtSection, description="Answers that aliases of kind confident doubt."
    )
    devices: Annotated[tuple[ScenarioDevice, ...], NOT_EMPTY] = Field(description="On what.")
    links: tuple[ScenarioLink, ...] = Field((), description="What concurrent loads share.")
    scheduler: SchedulerSection = Field(
        default_factory=SchedulerSection,
        description="Bounds and policies, as in the configuration.",
    )
    policies: dict[str, PolicySet] = Field(
        default_factory=dict, description="Sets of policies to compare, by name."
    )
    faults: FaultSection = Field(default_factory=FaultSection, description="What goes wrong.")

    @model_validator(mode="after")
    def _span(self) -> Self:
        has_trace = any(group.arrivals.kind == "trace" for group in self.clients)
        if self.duration_seconds is None and self.requests is None and not has_trace:
            raise ValueError("give duration_seconds or requests, so that the load ends")
        return self
