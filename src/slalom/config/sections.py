"""The sections of the configuration other than `models`: server, keys, devices, tasks, logs.

Owns their options, defaults and bounds. Every option has a sentence: `config example`, the JSON
schema and the reference page are made from these. Used through `schema.Config`.
"""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from slalom.config.fields import AUTO, AutoCount, AutoSize, Section, Size
from slalom.config.ray_section import Resources
from slalom.workload.tasks import FALLBACK_TASK

_SHA256 = re.compile(r"[0-9a-f]{64}")


class ServerSection(Section):
    """The HTTP server."""

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address to listen on. Off loopback the server needs keys, or insecure.",
    )
    port: int = Field(8642, ge=0, le=65_535, description="TCP port; 0 takes a free one.")
    insecure: bool = Field(
        default=False,
        description="Serve off loopback without keys. Anyone who can connect can ask.",
    )
    max_body_mib: int = Field(32, ge=1, le=4096, description="Largest request body, MiB.")
    max_header_kib: int = Field(64, ge=4, le=1024, description="Largest request head, KiB.")
    max_connections: int = Field(
        4096, ge=1, le=1_000_000, description="Most connections open at a time."
    )
    max_inflight: int = Field(
        16_384, ge=1, le=1_000_000, description="Most requests waiting and running; more get a 503."
    )
    max_answer_mib: int = Field(
        64,
        ge=1,
        le=4096,
        description="Largest answer that is collected for a client that does not stream, MiB.",
    )
    responses_mib: int = Field(
        64,
        ge=0,
        le=65_536,
        description="Responses kept for one key (/v1/responses with store), MiB; 0 keeps none.",
    )
    responses_hours: float = Field(
        6, gt=0, le=8760, description="How long one is kept after its last use, hours."
    )
    body_timeout_seconds: float = Field(
        60, gt=0, le=3600, description="Longest time to receive a request body, seconds."
    )
    header_timeout_seconds: float = Field(
        30, gt=0, le=3600, description="Longest time to receive a request head, seconds."
    )
    keep_alive_seconds: float = Field(
        75, gt=0, le=3600, description="How long an idle connection stays open, seconds."
    )
    records_max: int = Field(
        1000, ge=0, le=100_000, description="Ended requests kept for /admin/requests."
    )
    feedback_max: int = Field(
        0,
        ge=0,
        le=100_000,
        description="Reports of Tabby's clients kept for /admin/feedback: which suggestions were "
        "seen, accepted or dismissed, never their text; 0 keeps none.",
    )
    supersede: Literal["auto", "declared", "off"] = Field(
        "auto",
        description="Whether a client's newer completion replaces its older one of the same "
        "document: declared needs a session in the request; auto also recognises typing.",
    )
    wait_comment_after_ms: int = Field(
        750,
        ge=0,
        le=600_000,
        description="A streaming client that waits this long gets its head and SSE comments, so "
        "that it does not time out, milliseconds.",
    )
    wait_comment_every_ms: int = Field(
        5000, ge=100, le=600_000, description="Time between such comments, milliseconds."
    )
    drain_seconds: float = Field(
        30,
        ge=0,
        le=86_400,
        description="After SIGTERM, how long running requests may take to finish, seconds.",
    )
    starving_seconds: float = Field(
        120,
        gt=0,
        le=86_400,
        description="/ready fails while the oldest request of any task waits longer, seconds.",
    )
    default_task: str = Field(
        FALLBACK_TASK,
        description="Task of a request that nothing declares, recognises or knows better.",
    )
    default_max_tokens: int = Field(
        512,
        ge=1,
        le=1 << 20,
        description="Answer limit where neither request nor model names one, tokens.",
    )
    tools_max_tokens: int = Field(
        8192,
        ge=1,
        le=1 << 20,
        description="The same for requests with tools: an agent's answer may be a whole file.",
    )


class KeySection(Section):
    """One API key; its secret comes from exactly one of four places."""

    name: str = Field(
        min_length=1,
        max_length=100,
        description="Name of the key in logs and accounting; never the secret.",
    )
    key: SecretStr | None = Field(None, description="The secret itself; prefer the others.")
    key_env: str | None = Field(None, description="Environment variable that holds the secret.")
    key_file: Path | None = Field(None, description="File whose first line is the secret.")
    key_sha256: str | None = Field(
        None, description="SHA-256 of the secret, 64 hexadecimal digits."
    )
    admin: bool = Field(default=False, description="May use the /admin routes.")
    task: str | None = Field(
        None, description="Task of its requests where they declare none; null for the rules."
    )
    ceiling: str | None = Field(
        None,
        description="Most urgent task it may declare; null is its own task, or any without one.",
    )
    weight: float = Field(
        1,
        gt=0,
        le=1000,
        description="What its requests are worth, times the weight of their tasks.",
    )
    floor: float = Field(
        0,
        ge=0,
        le=1,
        description="Share of its requests of each task that should be on time, under "
        "plan-and-trim: while fewer are, they count for more; the larger of this and the task's.",
    )
    single_line: Literal["off", "auto", "on"] = Field(
        "off",
        description="Whether its completions end with their first line where the request does not "
        "say: auto looks at the text around the cursor.",
    )

    @field_validator("key_sha256")
    @classmethod
    def _digest(cls, value: str | None) -> str | None:
        if value is not None and not _SHA256.fullmatch(value.lower()):
            raise ValueError("write 64 hexadecimal digits (printf %s SECRET | sha256sum)")
        return value and value.lower()

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        given = [self.key, self.key_env, self.key_file, self.key_sha256]
        if sum(place is not None for place in given) != 1:
            raise ValueError("give exactly one of key, key_env, key_file, key_sha256")
        return self


class DeviceSection(Section):
    """A memory domain with a byte budget."""

    id: str = Field("host", min_length=1, description="Name of the device; host is main memory.")
    budget: AutoSize = Field(
        AUTO,
        description="Bytes that models may take together; auto is a share of the memory that is "
        "available at start (host, and devices that name their gpu).",
    )
    auto_share: float = Field(
        0.8, gt=0, le=1, description="Share of the available memory that auto takes."
    )
    gpu: int | None = Field(
        None,
        ge=0,
        le=1023,
        description="Index of the NVIDIA GPU that it is, as nvidia-smi counts; its memory is then "
        "measured. null for none.",
    )
    window: AutoCount = Field(
        0,
        description="Requests in flight over all replicas of the device, which share its "
        "compute; 0 for no bound, auto for one from the machine's cores.",
    )
    host: str | None = Field(
        None,
        min_length=1,
        description="Device that is the host memory in which its models sleep at level 1.",
    )
    ray_resources: Resources = Field(
        default_factory=dict,
        description="On Ray: resources that a node must have to run engines of this device; a "
        "resource that only one node has ties the device to that node.",
    )
    speed: float = Field(
        1.0,
        gt=0,
        lt=1_000,
        description="How many times as fast it is as the step times of its models say: devices of "
        "one fleet that differ. Step times are learned for each speed by itself.",
    )


class TaskSection(Section):
    """Targets of one task; what is not given comes from its defaults, null removes a target."""

    ttft_ms: float | None = Field(
        None, gt=0, le=86_400_000, description="Time to first token, milliseconds."
    )
    tpot_ms: float | None = Field(
        None,
        gt=0,
        le=86_400_000,
        description="Mean time per token after the first, milliseconds.",
    )
    e2e_ms: float | None = Field(
        None, gt=0, le=86_400_000, description="End-to-end time, milliseconds."
    )
    e2e_ms_per_prompt_token: float | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="Added to e2e_ms for each prompt token, milliseconds.",
    )
    predicted_tokens: int | None = Field(
        None, ge=0, le=1 << 20, description="Output length expected before any was seen, tokens."
    )
    predicted_per_prompt_token: float | None = Field(
        None,
        ge=0,
        le=1000,
        description="Added to predicted_tokens for each prompt token; 0 where only that is given.",
    )
    weight: float | None = Field(
        None,
        gt=0,
        le=1000,
        description="What one of its requests on time is worth beside others, under plan-and-trim, "
        "where not all can be; 1 for most tasks.",
    )
    floor: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of each key's requests of it that should be on time, under "
        "plan-and-trim: while fewer are, they count for more; 0 for none.",
    )
    when_late: Literal["policy", "refuse", "empty"] | None = Field(
        None,
        description="What becomes of a request whose target cannot be met, under a policy that "
        "plans: what the policy says, an error at once, or an empty answer at once.",
    )


class RuleCondition(Section):
    """What a request must look like; every given line must hold."""

    path: str | None = Field(None, pattern="^/", description="Path of the request.")
    has: tuple[str, ...] = Field(
        (), description="Fields the body has, not empty: suffix, tools, or any other."
    )
    model: str | None = Field(None, description="Model asked for (id or alias).")
    header: str | None = Field(
        None, min_length=1, description="Header it carries: a name, or 'name: value'."
    )
    history: bool | None = Field(
        None, description="Whether a chat has an assistant's message in it already."
    )

    @field_validator("has", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _something(self) -> Self:
        given = (self.path, self.model, self.header, self.history)
        if not self.has and all(line is None for line in given):
            raise ValueError("an empty condition would match everything; give path, has, …")
        return self


class RuleSection(Section):
    """Recognises the task of a request that declares none; the first match decides."""

    when: RuleCondition = Field(description="What the request must look like.")
    task: str = Field(min_length=1, description="The task it is then.")


class CompletionCacheSection(Section):
    """Suggestions of late: the rest of one that is being typed needs no engine."""

    bytes: Size = Field(
        8 << 20,
        description="What it may take; 0 turns it off. It serves completions at temperature 0, "
        "and each key its own.",
    )


class JournalSection(Section):
    """The journal: every event and decision, the source of `slalom explain`."""

    dir: str = Field(
        AUTO,
        min_length=1,
        description="Folder of the journal; auto is slalom/journal in the user's state folder, "
        "none writes no journal.",
    )
    max_mib: int = Field(64, ge=1, le=1 << 20, description="Size at which a file is closed, MiB.")
    keep_files: int = Field(8, ge=1, le=10_000, description="Closed files kept; older ones go.")


class MeasurementsSection(Section):
    """What models were measured to cost: load and wake times, memory, first tokens."""

    file: str = Field(
        AUTO,
        min_length=1,
        description="SQLite file that remembers it across starts; auto is slalom/models.sqlite in "
        "the user's state folder, none remembers nothing and books what is estimated.",
    )
    memory: bool = Field(
        default=True,
        description="Whether a model whose memory is auto is booked with what was measured of it, "
        "once it was, instead of what its file lets expect.",
    )


class BatchesSection(Section):
    """Files and batches of requests, which are answered when there is room."""

    dir: str = Field(
        AUTO,
        min_length=1,
        description="Folder of files and batches; auto is slalom/batches in the user's state "
        "folder, none offers no batches.",
    )
    max_file_mib: int = Field(200, ge=1, le=1 << 20, description="Largest file taken, MiB.")
    max_lines: int = Field(50_000, ge=1, le=1_000_000, description="Most lines of one batch.")
    max_files_per_key: int = Field(
        1000, ge=1, le=1_000_000, description="Most files of one key, those of results included."
    )
    max_unfinished_per_key: int = Field(
        100, ge=1, le=10_000, description="Most batches of one key that have not ended."
    )
    max_total_mib: int = Field(
        10_240,
        ge=1,
        le=1 << 30,
        description="Most that all files take together, MiB; at this bound batches wait.",
    )
    min_free_mib: int = Field(
        256,
        ge=0,
        le=1 << 30,
        description="Space on the disk that is left free, MiB; at this bound batches wait.",
    )
    keep_days: int = Field(
        30, ge=1, le=3650, description="Files and ended batches are deleted after so many days."
    )
    spare_places: int = Field(
        1,
        ge=0,
        le=1024,
        description="Places of a model that batches leave free for the next request; of its last "
        "place they never do.",
    )
    beside_share: float = Field(
        0.125,
        ge=0,
        le=1,
        description="Share of a model's places that batches may hold while clients use its "
        "device, and for a second after; one place at least, 0 for none.",
    )


class LogSection(Section):
    """The log on stderr. It never holds prompts or generated text."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity that is written."
    )
    format: Literal["text", "json"] = Field(
        "text", description="text for people, json for one object a line."
    )
