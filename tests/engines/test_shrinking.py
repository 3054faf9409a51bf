"""A load that dies of memory is tried once more with less; what dies of something else is not."""

from dataclasses import dataclass, field

import pytest

from slalom.core.events import FailureKind
from slalom.engines.llama_cpp import LlamaCppLauncher, LlamaCppOptions
from slalom.engines.protocol import Engine, Launcher, OnProgress
from slalom.engines.shrinking import ShrinkingLauncher
from slalom.errors import EngineError
from slalom.testing.engine_talk import ask
from slalom.testing.fake_launcher import FakeLauncher, FakeLoad
from slalom.units import MIB
from tests.engines.subjects import MODEL

MINI = MODEL.with_name("slalom-mini.gguf")


@dataclass
class _Large:
    """Fails as told, and may have something smaller."""

    failure: FailureKind | None
    less: Launcher | None = None
    launches: int = 0
    inner: FakeLauncher = field(default_factory=FakeLauncher)

    def smaller(self) -> tuple[Launcher, str] | None:
        return None if self.less is None else (self.less, "half a cache")

    async def launch(self, replica_id: str, on_progress: OnProgress) -> Engine:
        self.launches += 1
        self.inner.load = FakeLoad(failure=self.failure)
        return await self.inner.launch(replica_id, on_progress)


async def _launch(launcher: _Large) -> Engine:
    return await ShrinkingLauncher(launcher).launch("r#0", lambda _fraction: None)


async def test_it_shrinks_only_where_memory_was_the_reason() -> None:
    less = FakeLauncher()
    engine = await _launch(_Large(FailureKind.OUT_OF_MEMORY, less))
    assert less.launches == ["r#0"]
    await engine.stop(0.0)
    with pytest.raises(EngineError) as told:
        await _launch(_Large(FailureKind.START_FAILED, less))
    assert told.value.code == FailureKind.START_FAILED
    await (await _launch(_Large(None, less))).stop(0.0)
    assert len(less.launches) == 1


async def test_what_cannot_shrink_fails_as_before() -> None:
    launcher = _Large(FailureKind.OUT_OF_MEMORY)
    with pytest.raises(EngineError) as told:
        await _launch(launcher)
    assert (told.value.code, launcher.launches) == (FailureKind.OUT_OF_MEMORY, 1)


async def test_a_second_failure_says_what_was_tried() -> None:
    less = FakeLauncher(load=FakeLoad(failure=FailureKind.OUT_OF_MEMORY))
    with pytest.raises(EngineError, match="also with half a cache") as told:
        await _launch(_Large(FailureKind.OUT_OF_MEMORY, less))
    assert told.value.code == FailureKind.OUT_OF_MEMORY


def test_llama_cpp_gives_up_all_of_its_cache_but_one_place() -> None:
    options = LlamaCppOptions(MINI, context_tokens=1000, places=4)
    found = LlamaCppLauncher(options, model_name="m").smaller()
    assert found is not None
    less, said = found
    assert (less.options.kv_tokens, less.options.places) == (1000, 4)
    assert "1000 tokens" in said
    assert less.smaller() is None


@pytest.mark.live
async def test_llama_cpp_comes_up_smaller_where_the_whole_cache_does_not_fit() -> None:
    options = LlamaCppOptions(
        MINI, context_tokens=512, places=2, kv_tokens=2_000_000, memory_limit_bytes=800 * MIB
    )
    launcher = ShrinkingLauncher(LlamaCppLauncher(options, model_name="m"))
    engine = await launcher.launch("r#0", lambda _fraction: None)
    try:
        assert (await ask(engine, max_tokens=2)).status == 200
    finally:
        await engine.stop(5.0)
