"""What `slalom models profile` measures, on an engine whose costs are known."""

import mmap
from pathlib import Path

import pytest

from slalom.bench.model_profile import ModelProfile, ProfileParams, profile_model
from slalom.engines.protocol import Capabilities
from slalom.models.measurements import Quantity, Tier
from slalom.models.page_cache import drop, resident_share
from slalom.testing.fake_launcher import FakeLauncher, FakeLoad
from slalom.testing.fake_script import FakeScript, FakeTimings
from slalom.testing.virtual_loop import VirtualClock, run_virtual
from slalom.units import MIB, MS

_SCRIPT = FakeScript(
    timings=FakeTimings(prefill_ns_per_token=MS, sleep_ns=40 * MS, wake_ns=70 * MS),
    memory_bytes=64 * MIB,
    capabilities=Capabilities(sleep_levels=(1, 2)),
)


def _profile(files: list[Path], params: ProfileParams) -> ModelProfile:
    launcher = FakeLauncher(_SCRIPT, FakeLoad(300 * MS))

    async def main(clock: VirtualClock) -> ModelProfile:
        return await profile_model("m", launcher, files, params, clock=clock)

    return run_virtual(main, start_ns=MS)


def _values(found: ModelProfile) -> dict[tuple[Quantity, Tier], list[int]]:
    values: dict[tuple[Quantity, Tier], list[int]] = {}
    for one in found.figures:
        values.setdefault((one.quantity, one.tier), []).append(one.value)
    return values


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(16 * mmap.PAGESIZE))
    drop([path])
    if resident_share([path]):
        pytest.skip("this file system keeps its pages")
    return path


def test_every_tier_is_loaded_from_as_often_as_asked(file: Path) -> None:
    found = _values(_profile([file], ProfileParams(repeats=3)))
    for tier in (Tier.DISK, Tier.PAGE_CACHE):
        assert found[Quantity.LOAD, tier] == [300 * MS] * 3
        assert len(found[Quantity.FIRST_TOKEN, tier]) == 3
    assert found[Quantity.MEMORY, Tier.RESIDENT] == [64 * MIB] * 6
    assert found[Quantity.MEMORY_FULL, Tier.RESIDENT] == [64 * MIB]


def test_a_model_without_known_files_is_loaded_from_wherever_it_is() -> None:
    found = _values(_profile([], ProfileParams(repeats=2, fill_s=0.0)))
    assert found[Quantity.LOAD, Tier.MIXED] == [300 * MS] * 2
    assert (Quantity.MEMORY_FULL, Tier.RESIDENT) not in found


def test_a_model_that_sleeps_is_woken(file: Path) -> None:
    params = ProfileParams(repeats=2, sleep_level=1, sleep_tier=Tier.HOST)
    found = _values(_profile([file], params))
    assert found[Quantity.WAKE, Tier.HOST] == [70 * MS] * 2
    assert len(found[Quantity.FIRST_TOKEN, Tier.HOST]) == 2


def test_filling_that_takes_too_long_is_told_and_is_no_measure_of_all(file: Path) -> None:
    params = ProfileParams(repeats=1, context_tokens=4_000, places=2, fill_s=0.001)
    profile = _profile([file], params)
    assert (Quantity.MEMORY_FULL, Tier.RESIDENT) not in _values(profile)
    assert any("every place full" in remark for remark in profile.remarks)


def test_a_file_that_stays_in_the_page_cache_is_told(file: Path) -> None:
    with file.open("r+b") as held, mmap.mmap(held.fileno(), 0) as mapped:
        assert sum(mapped[:: mmap.PAGESIZE]) == 0
        profile = _profile([file], ProfileParams(repeats=2))
    assert [remark for remark in profile.remarks if "stays in the page cache" in remark]
    assert len(profile.remarks) == 1
    assert (Quantity.LOAD, Tier.DISK) not in _values(profile)
