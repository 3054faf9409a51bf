"""The outside checker's own books: what it has seen of requests, attempts and replicas.

Owns plain records and questions to them. Knows nothing of the scheduler's state: everything
here was concluded from events and actions. Called by `checker`.
"""

from dataclasses import dataclass, field
from enum import Enum, auto

from slalom.core.actions import Outcome
from slalom.core.events import ModelAsked
from slalom.core.params import SchedulerParams
from slalom.core.request import DeviceSpec, ModelSpec, Request

#: (request id, attempt number) and (replica id, epoch).
Fence = tuple[str, int]


@dataclass(slots=True)
class SeenRequest:
    """A request that has arrived and not ended."""

    request: Request
    #: Since when it waits; of no meaning while it runs.
    waits_since_ns: int
    attempts: int = 0
    #: Number of the last attempt.
    number: int = 0
    #: The attempt it runs in; None while it waits.
    current: Fence | None = None
    first_dispatch_ns: int = -1
    dispatch_ns: int = -1
    first_token_ns: int = -1
    #: The outcome that this entry must bring, because of its events.
    must: Outcome | None = None
    #: Tokens of the whole answer, once it is there.
    output_tokens: int = 0
    #: How often it was paused, and the tokens it had then.
    pauses: int = 0
    produced_tokens: int = 0
    #: What its first dispatch, or that of the model that took over, said was to be expected.
    expected: tuple[int, int, float] | None = None
    #: Clamp of its last dispatch.
    clamped_tokens: int = 0
    #: Whether it was said which of its models serves it, and those that failed to load for it.
    chosen: bool = False
    failed_models: set[str] = field(default_factory=set)
    #: What was found wrong with its answer, until it is said who takes over; whether anybody has.
    moves: str = ""
    moved: bool = False

    @property
    def waits(self) -> bool:
        """Whether it may be dispatched."""
        return self.current is None and self.must is None

    @property
    def tries(self) -> int:
        """Dispatches that count against the bound."""
        return self.attempts - self.pauses - self.moved


@dataclass(slots=True)
class SeenAttempt:
    """An attempt that holds a place."""

    fence: Fence
    replica: "SeenReplica"
    #: When it was last heard of.
    heard_ns: int
    #: When it produced its first token; -1 before.
    first_ns: int = -1
    aborted: bool = False
    #: It was told to stop so that its request goes on later.
    pausing: bool = False
    #: What was found wrong with its answer, as long as nobody has said what becomes of it.
    doubted: str = ""
    #: It was told to stop because of that.
    moving: bool = False


class Rest(Enum):
    """Whether a replica that has been ready sleeps."""

    AWAKE = auto()
    #: Told to sleep.
    DOZING = auto()
    ASLEEP = auto()
    #: Told to wake.
    WAKING = auto()


@dataclass(slots=True)
class SeenReplica:
    """A life of a replica that holds memory."""

    key: Fence
    model: ModelSpec
    booked_bytes: int
    since_ns: int
    #: Where it is.
    device: str
    #: -1 while it loads.
    ready_ns: int = -1
    #: When its unload was last asked for; -1 if it was not.
    asked_ns: int = -1
    #: It has failed, so this entry must ask for its unload.
    failed: bool = False
    rest: Rest = Rest.AWAKE
    rest_since_ns: int = -1
    #: Number of its last sleep or wake.
    turn: int = 0
    #: What it takes of its device's host memory.
    host_bytes: int = 0
    #: When it was last measured.
    measured_ns: int = -1
    #: How far its load was last told to be, and since when.
    fraction: float = 0.0
    advanced_ns: int = -1

    def load_due_ns(self, params: SchedulerParams) -> int:
        """When its load must be given up, for its length or for standing still."""
        due_ns = self.since_ns + params.load_timeout_ns
        still = params.load_stall_ns and 0.0 < self.fraction < 1.0
        return min(due_ns, self.advanced_ns + params.load_stall_ns) if still else due_ns

    running: dict[Fence, SeenAttempt] = field(default_factory=dict)
    #: Loaded before anybody asked for it.
    ahead: bool = False
    #: A reload gave its model another engine.
    outdated: bool = False

    @property
    def leaving(self) -> bool:
        """Whether it was asked to go."""
        return self.asked_ns >= 0

    @property
    def usable(self) -> bool:
        """Whether it may take a dispatch."""
        awake = self.ready_ns >= 0 and self.rest is Rest.AWAKE
        return awake and not self.leaving and not self.failed and not self.outdated

    @property
    def rests(self) -> bool:
        """Whether it was put to sleep and not woken since."""
        return self.rest in {Rest.DOZING, Rest.ASLEEP}

    @property
    def is_asleep(self) -> bool:
        """Whether it could be woken."""
        return self.rest is Rest.ASLEEP and not self.leaving and not self.failed

    @property
    def coming_up(self) -> bool:
        """Whether it loads or wakes."""
        return self.ready_ns < 0 or self.rest is Rest.WAKING


class Books:
    """Everything seen and not over."""

    def __init__(self, models: tuple[ModelSpec, ...], devices: tuple[DeviceSpec, ...]) -> None:
        self.models = {model.id: model for model in models}
        self.devices = {device.id: device for device in devices}
        #: Model -> engines of it that were found in this step and are not answered.
        self.found: dict[str, int] = {}
        #: What people want of models: pins (by which ask), loads (which ask, when), and when they
        #: were last told to leave.
        self.pinned = {model.id: "" for model in models if model.pinned}
        self.asked: dict[str, tuple[str, int]] = {}
        self.asked_before: dict[str, tuple[str, int] | None] = {}
        self.sent_away_ns: dict[str, int] = {}
        #: Every ask that was not refused, and of those to unpin whether that changed anything.
        self.asks: dict[str, ModelAsked] = {}
        self.unpinned: dict[str, bool] = {}
        #: Whether any request said how long its model is kept.
        self.keeps = False
        self.requests: dict[str, SeenRequest] = {}
        #: (key, model, name) -> the last that arrived of those that replace each other.
        self.newest: dict[tuple[str, str, str], str] = {}
        self.attempts: dict[Fence, SeenAttempt] = {}
        #: Attempts given up for their silence in this entry; an abort may still name them.
        self.silenced: set[Fence] = set()
        self.replicas: dict[Fence, SeenReplica] = {}
        #: Largest measurement of each model.
        self.learned_bytes: dict[str, int] = {}
        #: When a load of a model last failed.
        self.load_failed_ns: dict[str, int] = {}
        #: What others hold, by device.
        self.foreign_bytes: dict[str, int] = {}
        self.foreign_ns: dict[str, int] = {}
        #: Replicas that were decided on, by model.
        self.sized: dict[str, int] = {}
        #: Models that reloads took away, and when what is left of them is ended; models that are
        #: to have fewer replicas than before.
        self.retiring_ns: dict[str, int] = {}
        self.shrunk: set[str] = set()
        #: When a device was last seen over its budget.
        self.overrun_ns: dict[str, int] = {}

    def __repr__(self) -> str:
        return (
            f"Books(requests={len(self.requests)}, attempts={len(self.attempts)}, "
            f"replicas={len(self.replicas)})"
        )

    def waiting(self, model_id: str) -> list[SeenRequest]:
        """Requests that may be dispatched on a model."""
        return [r for r in self.requests.values() if r.waits and r.request.model == model_id]

    def in_use(self, model_id: str) -> bool:
        """Whether anything that lives, or still runs, belongs to a model."""
        lives = any(seen.request.model == model_id for seen in self.requests.values())
        return lives or any(seen.replica.model.id == model_id for seen in self.attempts.values())

    def wanted(self, model: ModelSpec) -> bool:
        """Whether a model is to be up, for whatever reason."""
        if model.id in self.retiring_ns:
            return bool(self.waiting(model.id))
        by_people = model.id in self.pinned or model.id in self.asked or model.preload
        return by_people or bool(self.waiting(model.id)) or self.sized.get(model.id, 0) > 0

    def of_model(self, model_id: str) -> list[SeenReplica]:
        """Every life of a model's replicas that holds memory."""
        return [r for r in self.replicas.values() if r.model.id == model_id]

    def booked_bytes(self, device_id: str) -> int:
        """The outside ledger of a device, with what sleeps in it."""
        own = sum(r.booked_bytes for r in self.replicas.values() if r.device == device_id)
        return own + sum(
            r.host_bytes for r in self.replicas.values() if self.devices[r.device].host == device_id
        )

    def running(self, device_id: str) -> int:
        """Attempts on a device."""
        return sum(len(r.running) for r in self.replicas.values() if r.device == device_id)

    def replaced_by(self, request: Request) -> SeenRequest | None:
        """The live request whose place a newcomer takes; it is the newest from now on."""
        if not request.supersedes:
            return None
        name = (request.key, request.asked, request.supersedes)
        older = self.requests.get(self.newest.get(name, ""))
        self.newest[name] = request.id
        if older is None or older.must is not None:
            return None
        old = older.request
        return older if (old.key, old.asked, old.supersedes) == name else None

    def bytes_to_book(self, model: ModelSpec) -> int:
        """What a new replica of a model takes."""
        return max(model.bytes_needed, self.learned_bytes.get(model.id, 0))

    def kept_bytes(self, model: ModelSpec) -> int:
        """What a sleeping replica of a model keeps on its device, if there is one."""
        asleep = [one.booked_bytes for one in self.of_model(model.id) if one.is_asleep]
        return max(asleep, default=0)

    def idles(self, device: DeviceSpec) -> bool:
        """Whether models wait to be brought up although there is room for all that do."""
        unmet = [
            model
            for model in self.models.values()
            if device.id in model.homes
            and self.waiting(model.id)
            and all(one.leaving or one.rests or one.outdated for one in self.of_model(model.id))
            # What takes no memory comes back once its process has gone, not before.
            and (self.bytes_to_book(model) or not self.of_model(model.id))
            # What sleeps elsewhere is woken there.
            and not any(one.rests and one.device != device.id for one in self.of_model(model.id))
        ]
        if any(one.rest is Rest.DOZING for m in unmet for one in self.of_model(m.id)):
            return False  # it must be asleep before it can be woken
        resting = any(model.id in self.load_failed_ns for model in unmet)
        others = any(device.id in self.models[name].homes for name in (*self.pinned, *self.asked))
        apart = any(model.apart for model in unmet)
        if not unmet or resting or others or apart:
            return False
        needed = sum(self.bytes_to_book(model) - self.kept_bytes(model) for model in unmet)
        return self.booked_bytes(device.id) + needed <= self.budget_bytes(device.id)

    def foreign(self, device_id: str, byte_count: int, as_of_ns: int, now_ns: int) -> None:
        """Others hold this much of a device's budget; an older figure means nothing."""
        if device_id not in self.devices or as_of_ns < self.foreign_ns.get(device_id, -1):
            return
        self.foreign_bytes[device_id] = byte_count
        self.foreign_ns[device_id] = as_of_ns
        if self.is_overrun(device_id):
            self.overrun_ns[device_id] = now_ns

    def measure(self, replica: SeenReplica, byte_count: int, as_of_ns: int, now_ns: int) -> None:
        """A replica was measured: it takes at least that. An older figure means nothing."""
        if byte_count <= 0 or as_of_ns < replica.measured_ns:
            return
        replica.measured_ns = as_of_ns
        if replica.turn and replica.rest is not Rest.AWAKE:
            return
        replica.booked_bytes = max(replica.booked_bytes, byte_count)
        model = replica.model
        self.learned_bytes[model.id] = max(self.learned_bytes.get(model.id, 0), byte_count)
        if self.is_overrun(replica.device):
            self.overrun_ns[replica.device] = now_ns

    def was_overrun(self, device_id: str, since_ns: int) -> bool:
        """Whether a device is overrun, or became so since then.

        What others took while a replica was loading is asked back once it can go.
        """
        if self.foreign_bytes.get(device_id) and self.is_overrun(device_id):
            return True
        return self.overrun_ns.get(device_id, -1) >= since_ns

    def is_overrun(self, device_id: str) -> bool:
        """Whether models and others hold more than a device's budget."""
        return self.booked_bytes(device_id) > self.budget_bytes(device_id)

    def budget_bytes(self, device_id: str) -> int:
        """A device's budget without what others hold of it."""
        return self.devices[device_id].budget_bytes - self.foreign_bytes.get(device_id, 0)

    def open(self, request: SeenRequest, number: int, replica: SeenReplica, now_ns: int) -> None:
        """A waiting request was dispatched."""
        request.attempts += 1
        request.number = number
        fence = (request.request.id, number)
        request.current = fence
        request.dispatch_ns = now_ns
        if request.first_dispatch_ns < 0:
            request.first_dispatch_ns = now_ns
        attempt = SeenAttempt(fence, replica, now_ns)
        self.attempts[fence] = attempt
        replica.running[fence] = attempt

    def close(self, attempt: SeenAttempt) -> SeenRequest | None:
        """An attempt's place is free; its request, if it ran in this attempt and still must end."""
        del self.attempts[attempt.fence]
        del attempt.replica.running[attempt.fence]
        request = self.requests.get(attempt.fence[0])
        if request is None or request.current != attempt.fence or request.must is not None:
            return None
        return request
