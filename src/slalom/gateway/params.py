"""What the gateway needs to know, as plain frozen data.

Owns the shape only: the assembly fills it from the configuration, tests and benchmarks write it
by hand. Secrets appear as SHA-256 digests and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from slalom.core.request import Alternatives, Choice
from slalom.gateway.length_care import SingleLine
from slalom.gateway.supersession import Mode
from slalom.units import KIB, MIB, MS, SECOND
from slalom.workload.chains import ChainSpec
from slalom.workload.tasks import DEFAULT_TASKS, FALLBACK_TASK, TaskSpec


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model beside its name; 0 and empty where nothing tells."""

    #: For example ``qwen2``.
    architecture: str = ""
    #: ``gguf`` or ``safetensors``.
    file_format: str = ""
    #: For example ``Q4_K_M``.
    quantisation: str = ""
    parameter_count: int = 0
    embedding_width: int = 0
    #: Weights on disk, bytes.
    file_bytes: int = 0
    #: When its file was last written, Unix time, seconds.
    modified_s: int = 0
    #: Longest prompt and answer together of one request here, and what the model was made for;
    #: tokens.
    context_tokens: int = 0
    trained_context_tokens: int = 0
    #: Requests that one replica takes at a time.
    places: int = 0
    #: Whether chats can be told to it; only a model that surely has no template says no.
    chats: bool = True
    #: Whether it may think before it answers.
    thinks: bool = False
    #: Whether it knows fill-in-the-middle.
    fills: bool = False
    #: Whether its memory is a GPU's.
    on_gpu: bool = False


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as clients know it."""

    id: str
    #: Other names for it; an alias that is a task's name also declares that task.
    aliases: tuple[str, ...] = ()
    #: Answer limit for requests that name none, tokens; None takes the gateway's.
    max_tokens_default: int | None = None
    #: Task of requests that nothing declares or recognises, e.g. of a reasoning model.
    default_task: str | None = None
    #: Task names that, asked for as a model, mean this model and declare that task.
    tasks: tuple[str, ...] = ()
    facts: ModelFacts = ModelFacts()


@dataclass(frozen=True, slots=True)
class GateParams:
    """What is asked of an answer from which another model could take over."""

    #: Least mean log-probability of the first tokens, and how many these are.
    min_logprob: float = -0.7
    first_tokens: int = 3
    #: Whether a completion must make a program of the text around it.
    parse: bool = True
    #: Programming language where a request does not say it; empty for none.
    language: str = ""


@dataclass(frozen=True, slots=True)
class ServedAlias:
    """A name that stands for several models, of which one is chosen for each request."""

    id: str
    alternatives: Alternatives
    #: Tasks that another than the first may serve; empty for all.
    tasks: tuple[str, ...] = ()
    #: What is asked of an answer from which another could take over.
    gates: GateParams = GateParams()

    @property
    def looks(self) -> bool:
        """Whether answers are looked at before clients get them."""
        return self.alternatives.choice is Choice.CONFIDENT


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One API key."""

    #: Shown in logs and records; never the secret.
    name: str
    #: SHA-256 digest of the secret, 32 bytes.
    sha256: bytes
    admin: bool = False
    #: Task of its requests that declare none.
    task: str | None = None
    #: The most urgent task it may have; None takes `task`, and without both there is no bound.
    ceiling: str | None = None
    #: What its requests are worth, times the weight of their tasks.
    weight: float = 1.0
    #: Share of its requests of each task that should be on time; 0 for that of the task.
    floor: float = 0.0
    #: Whether its completions end with their first line, where the request does not say.
    single_line: SingleLine = "off"

    def __repr__(self) -> str:
        return f"<KeyEntry {self.name} admin={self.admin}>"


@dataclass(frozen=True, slots=True)
class TaskRule:
    """Recognises a task where none is declared: every given condition must hold."""

    task: str
    path: str | None = None
    #: Body fields that must be there and not empty.
    has: tuple[str, ...] = ()
    #: Model id or alias as the client wrote it, or the id it stands for.
    model: str | None = None
    #: A header's name, or ``name: value``.
    header: str | None = None
    #: Whether a chat already holds an answer of the assistant.
    history: bool | None = None


@dataclass(frozen=True, slots=True)
class GatewayParams:
    """Everything the gateway is told at its start."""

    models: tuple[ServedModel, ...]
    aliases: tuple[ServedAlias, ...] = ()
    keys: tuple[KeyEntry, ...] = ()
    tasks: Mapping[str, TaskSpec] = field(default_factory=lambda: DEFAULT_TASKS)
    rules: tuple[TaskRule, ...] = ()
    #: Task where neither header, body, key, rules nor model say anything.
    default_task: str = FALLBACK_TASK
    #: Answer limit where neither request nor model names one, tokens.
    default_max_tokens: int = 512
    #: The same for requests with tools, tokens: an agent's answer may be a whole file.
    tools_max_tokens: int = 8192
    #: Largest request body, bytes.
    body_bytes_max: int = 32 * MIB
    #: Bodies of all requests inside together, bytes; over it new ones get 503.
    bodies_bytes_max: int = 1024 * MIB
    #: Longest time to receive a request body, seconds.
    body_timeout_s: float = 60.0
    #: Largest request head (request line and headers), bytes.
    header_bytes_max: int = 64 * KIB
    #: Longest time to receive a request head, seconds.
    header_timeout_s: float = 30.0
    #: How long an idle kept-alive connection stays open, seconds.
    keep_alive_s: float = 75.0
    connections_max: int = 4096
    #: Requests inside the gateway (waiting and running); over it new ones get 503.
    inflight_max: int = 16_384
    #: Largest answer that is held back until complete (requests without streaming), bytes.
    answer_bytes_max: int = 64 * MIB
    #: Responses kept for one key (`/v1/responses` with `store`), bytes.
    responses_bytes_max: int = 64 * MIB
    #: How long one is kept after its last use, seconds.
    responses_age_s: float = 6 * 3600.0
    #: A streaming client that waits this long gets its head and SSE comments, ns.
    wait_comment_after_ns: int = 750 * MS
    #: Time between such comments, ns.
    wait_comment_every_ns: int = 5 * SECOND
    #: `/ready` fails while the oldest request waits longer than this, ns.
    starving_ns: int = 120 * SECOND
    #: Ended requests kept for `/admin/requests/{id}`.
    records_max: int = 1000
    #: Reports of what became of suggestions kept for `/admin/feedback`; 0 keeps none.
    feedback_max: int = 0
    #: Which completions replace older ones of the same document.
    supersede: Mode = "auto"
    #: Suggestions kept for clients that type them, bytes; 0 keeps none.
    completion_cache_bytes: int = 8 * MIB
    #: Chains of calls that clients may name.
    chains: Mapping[str, ChainSpec] = field(default_factory=dict)
    #: Chains that are remembered, and how long one is that nobody asks for, ns.
    chains_max: int = 4_096
    chain_idle_ns: int = 300 * SECOND
