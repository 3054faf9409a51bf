"""How lines are answered: the seam between the runner and whoever serves requests.

Owns the `Answering` protocol and what goes over it. Implemented by the gateway, and by a small one
in memory for tests.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LineCall:
    """One line to be answered."""

    #: Key that owns the batch.
    owner: str
    endpoint: str
    body: bytes
    #: Time left until the batch's window ends, seconds.
    left_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a call."""

    status: int
    request_id: str
    body: bytes
    #: Whether the same call may succeed later.
    retryable: bool = False
    #: Advice when to come again, seconds.
    retry_after_s: float = 0.0


class Answering(Protocol):
    """Answers lines, and says how many there is room for."""

    async def answer(self, call: LineCall) -> Answer:
        """Serve a line as a client's request; cancel the task to give it up."""
        ...

    def model_of(self, name: str) -> str:
        """The id of the model that a name stands for.

        Raises:
            RequestError: There is none.
        """
        ...

    def rooms(self, ours: Mapping[str, int]) -> Mapping[str, int]:
        """How many lines may be started now, by model.

        Args:
            ours: Lines under way, for every model of interest.

        Returns:
            For each of these models: how many more; below 0, how many are to give way.
        """
        ...

    def accepting(self) -> bool:
        """Whether requests are taken at all."""
        ...
