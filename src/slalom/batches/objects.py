"""Files, batches and results as they are kept: plain data, and the states of a batch.

Owns their fields; a new field needs a default, since older documents lie in databases. Times are
Unix seconds. How clients see them is the gateway's business.
"""

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from slalom.errors import SlalomError


class StorageError(SlalomError):
    """Something cannot be stored; the message says what to do."""

    code = "storage_full"


class Status(StrEnum):
    """Where a batch is in its life; the names are those of OpenAI's API."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


#: Nothing happens to a batch in these any more.
ENDED = frozenset((Status.COMPLETED, Status.FAILED, Status.EXPIRED, Status.CANCELLED))


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file; its content lies beside the database under its id."""

    id: str
    #: Name of the key that owns it; empty where the server has no keys.
    owner: str
    purpose: str
    filename: str
    size_bytes: int
    created_s: int
    #: When it is deleted.
    expires_s: int


class LineFault(msgspec.Struct, frozen=True, kw_only=True):
    """Why a batch cannot begin."""

    code: str
    message: str
    #: Number of the line, from 1; None for the file as a whole.
    line: int | None = None
    param: str | None = None


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens, as the engines counted them."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    def plus(self, other: "Usage") -> "Usage":
        """The sum."""
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
        )


NO_USAGE = Usage()


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch, as last committed."""

    id: str
    owner: str
    endpoint: str
    input_file: str
    window: str
    #: Ids that its two files get; there are rows of them once it has ended.
    output_file: str
    error_file: str
    created_s: int
    #: End of its window.
    expires_s: int
    status: Status = Status.VALIDATING
    metadata: dict[str, str] | None = None
    #: How long its two files are kept, seconds.
    keep_s: int = 0
    #: The one model that all lines ask for; empty if there are several.
    model: str = ""
    total: int = 0
    #: Lines in the output file and in the error file.
    completed: int = 0
    failed: int = 0
    #: Committed sizes of the two files; what lies behind was never counted.
    output_bytes: int = 0
    error_bytes: int = 0
    usage: Usage = NO_USAGE
    faults: tuple[LineFault, ...] = ()
    in_progress_s: int | None = None
    finalizing_s: int | None = None
    completed_s: int | None = None
    failed_s: int | None = None
    expired_s: int | None = None
    cancelling_s: int | None = None
    cancelled_s: int | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing happens to it any more."""
        return self.status in ENDED


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one line."""

    batch_id: str
    #: Number of the line in its file, from 1.
    line: int
    #: Whether it goes to the output file; else to the error file.
    good: bool
    #: The line to write, with its end.
    text: bytes
    usage: Usage = NO_USAGE


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is asked for."""

    #: Id of the item before the first one asked for; empty for the start.
    after: str
    #: Most items.
    limit: int
    newest_first: bool = True
