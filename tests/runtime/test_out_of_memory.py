"""A load that dies of memory is tried once more, then fails with who holds what."""

import pytest

from slalom.core.actions import LoadReplica
from slalom.core.events import FailureKind
from slalom.runtime.sink import Served
from slalom.testing import FakeLauncher, FakeLoad, VirtualClock, run_virtual
from tests.runtime.world import World


def _ask(failure: FailureKind, explain: object) -> tuple[Served, World]:
    async def main(clock: VirtualClock) -> tuple[Served, World]:
        world = World(clock, {"a": FakeLauncher(load=FakeLoad(failure=failure))})
        world.runtime.explain_memory_by(explain)  # type: ignore[arg-type]
        try:
            return await world.ask("r"), world
        finally:
            await world.runtime.close()

    return run_virtual(main)


@pytest.mark.parametrize(
    ("failure", "asked"),
    [(FailureKind.OUT_OF_MEMORY, ["a", "a"]), (FailureKind.START_FAILED, [])],
)
def test_the_error_ends_with_who_holds_the_memory(failure: FailureKind, asked: list[str]) -> None:
    seen: list[str] = []

    async def explain(model_id: str) -> str:
        seen.append(model_id)
        return "b has it all"

    served, world = _ask(failure, explain)
    assert served.end is not None
    assert served.end.reason == failure
    assert served.end.detail.endswith("; b has it all") == bool(asked)
    assert seen == asked
    loads = [a for entry in world.entries for a in entry.actions if isinstance(a, LoadReplica)]
    assert len(loads) == 2


def test_an_explanation_that_fails_hides_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def explain(model_id: str) -> str:
        raise ZeroDivisionError

    served, _ = _ask(FailureKind.OUT_OF_MEMORY, explain)
    assert served.end is not None
    assert served.end.reason == FailureKind.OUT_OF_MEMORY
    assert served.end.detail
