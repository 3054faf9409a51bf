"""The options of a server on a Ray cluster: `slalom serve --on ray`.

Owns what Ray is asked for: names, resources, bounds of what ingresses hold. Nothing here means
anything to a server on one machine. Used through `schema.Config`, `ModelSection` and
`DeviceSection`.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from slalom.config.fields import Section

#: Ray's resources by their names, such as ``{TPU: 4}``.
Resources = dict[str, Annotated[float, Field(gt=0, le=1_000_000)]]


class RayModelSection(Section):
    """What one replica of a model asks Ray for."""

    cpus: float = Field(1, ge=0, le=4096, description="CPUs that Ray counts for a replica.")
    gpus: float = Field(
        0,
        ge=0,
        le=64,
        description="GPUs of one node that a replica gets, for tensor parallelism more than one; "
        "Ray chooses which and tells the engine in CUDA_VISIBLE_DEVICES.",
    )
    nodes: int = Field(
        1,
        ge=1,
        le=64,
        description="Nodes that a replica spans, each with these cpus and gpus in one placement "
        "group; its engine starts on the first and must fetch the others itself (vLLM does).",
    )
    resources: Resources = Field(
        default_factory=dict, description="Further resources of Ray that each node must have."
    )

    @model_validator(mode="after")
    def _can_be_placed(self) -> Self:
        if self.gpus > 1 and not self.gpus.is_integer():
            raise ValueError(f"gpus is {self.gpus:g}: of more than one GPU Ray gives whole ones")
        if self.nodes > 1 and not (self.cpus or self.gpus or self.resources):
            raise ValueError(
                f"nodes is {self.nodes}, but nothing is asked of each: write cpus or gpus"
            )
        return self


class RaySection(Section):
    """A server on a Ray cluster (slalom serve --on ray)."""

    address: str = Field(
        "auto",
        min_length=1,
        description="Where the cluster is: HOST:PORT, auto for RAY_ADDRESS or a cluster that runs "
        "on this machine, local to start one here that ends with the server.",
    )
    name: str = Field(
        "slalom",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="Ray namespace of the server's actors; several servers on a cluster need "
        "several.",
    )
    ingress_replicas: int = Field(
        2, ge=1, le=256, description="Ingresses that take clients, spread over the nodes."
    )
    ingress_cpus: float = Field(0, ge=0, le=64, description="CPUs that Ray counts for an ingress.")
    ingress_resources: Resources = Field(
        default_factory=dict,
        description="Further resources of Ray that an ingress takes of its node; one of which each "
        "node has one makes one ingress of each node.",
    )
    core_cpus: float = Field(0, ge=0, le=64, description="CPUs that Ray counts for the core.")
    core_resources: Resources = Field(
        default_factory=dict,
        description="Further resources of Ray that the core's node must have.",
    )
    hold_seconds: float = Field(
        30,
        ge=0,
        le=3600,
        description="How long an ingress holds requests whose answer has not begun while the core "
        "is away, seconds.",
    )
    hold_requests: int = Field(
        1024, ge=0, le=1_000_000, description="Most requests that one ingress holds so."
    )
    place_seconds: float = Field(
        60,
        ge=1,
        le=86_400,
        description="How long Ray may take to find a place for an engine, seconds; more where "
        "nodes are added when they are needed.",
    )
    engine_lease_seconds: float = Field(
        120,
        ge=5,
        le=86_400,
        description="An engine of which no core asked anything for so long ends by itself, "
        "seconds.",
    )
    detach: bool = Field(
        default=False,
        description="Leave the server running on the cluster when the command that started it "
        "ends.",
    )
