"""The law of a step, its file, and the profiles that ship."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slalom.bench.step_times import FIGURES, errors, page
from slalom.errors import ConfigError
from slalom.twin.profiles import find_profile, shipped_profiles
from slalom.twin.step_time import StepProfile, load_profile, save_profile

PROFILE = StepProfile(
    "made up",
    source="a test",
    host_ns=100,
    dense_flat_tokens=10,
    dense_flat_ns=1_000,
    dense_ns_per_token=7,
    decode_flat_ns=50,
    decode_seq_ns=3,
    decode_kv_ns_per_token=0.5,
    prefill_attention_ns_per_token_ctx=0.25,
    weights_bytes=1_000,
)


def test_a_step_is_the_sum_of_its_parts() -> None:
    assert PROFILE.step_ns(4, 0) == 100 + 1_000 + 50 + 12
    assert PROFILE.step_ns(4, 200) == 100 + 1_000 + 50 + 12 + 100
    assert PROFILE.step_ns(0, 0, 30, 450) == 100 + 1_000 + 20 * 7 + 112  # 112.5, to even
    assert PROFILE.step_ns(4, 200, 8, 0) == 100 + 1_000 + 2 * 7 + 50 + 12 + 100
    ticks = PROFILE.step_ticks(0, 0, 30, 0, micro_batch=12)
    assert ticks == (100 + 3 * 1_000 + 2 * 2 * 7) * 1_000_000
    assert PROFILE.decode_ns(4, 50) == PROFILE.step_ns(4, 200)
    assert PROFILE.prefill_ns(30) == PROFILE.step_ns(0, 0, 30, 450)


@given(st.integers(0, 500), st.integers(0, 10**6), st.integers(0, 9_000))
def test_more_work_never_takes_less_time(decode: int, kv: int, prefill: int) -> None:
    profile = shipped_profiles()["h100/qwen2.5-coder-7b"]
    base = profile.step_ns(decode, kv, prefill, prefill**2 / 2)
    assert profile.step_ns(decode + 1, kv, prefill, prefill**2 / 2) >= base
    assert profile.step_ns(decode, kv + 100, prefill, prefill**2 / 2) >= base
    assert profile.step_ns(decode, kv, prefill + 1, (prefill + 1) ** 2 / 2) >= base


def test_a_chunk_costs_what_it_adds_to_the_attention_of_its_prompt() -> None:
    only_attention = replace(PROFILE, dense_ns_per_token=0)
    whole = only_attention.step_ns(0, 0, 1_000, 1_000**2 / 2)
    first = only_attention.step_ns(0, 0, 600, 600**2 / 2)
    second = only_attention.step_ns(0, 0, 400, 400 * (600 + 200))
    assert first + second == whole + 100 + 1_000


def test_a_profile_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    save_profile(PROFILE, path)
    assert load_profile(path) == PROFILE == find_profile("profile.json", tmp_path)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "cannot be read as a step profile"),
        ("[]", "is a JSON object"),
        ('{"nme": "a"}', "unknown key 'nme'"),
        ('{"host_ns": 1}', "it has no name"),
        ('{"name": "a", "host_ns": "1"}', "host_ns must be a number"),
        ('{"name": 1, "host_ns": 1}', "name must be text"),
        ('{"name": "a", "host_ns": -1}', "host_ns is -1"),
        ('{"name": "a", "host_ns": NaN}', "host_ns is nan"),
        ('{"name": "a"}', "a step would take no time"),
    ],
)
def test_a_file_that_is_no_profile_is_refused_with_a_reason(
    tmp_path: Path, text: str, what: str
) -> None:
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=what):
        load_profile(path)


def test_an_unknown_profile_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'h100/qwen2\.5-coder-7b'"):
        find_profile("h100/qwen-coder-7b")
    with pytest.raises(ConfigError, match=r"nowhere\.json"):
        find_profile("nowhere.json")


def test_fifteen_code_models_ship_for_four_devices() -> None:
    names = list(shipped_profiles())
    assert len({name.partition("/")[2] for name in names}) == 15
    assert {name.partition("/")[0] for name in names} == {"h100", "h200", "a100", "l40s"}
    for profile in shipped_profiles().values():
        assert profile.fit_error < 0.1
        assert "AIConfigurator" in profile.source
        assert profile.weights_bytes > 10**8
        assert profile.kv_bytes_per_token >= 10_000


def test_profiles_are_near_the_single_stream_and_low_load_figures() -> None:
    sizes = [abs(error) for error in errors()]
    assert len(sizes) == 33
    assert max(sizes) < 0.10
    assert sum(sizes) / len(sizes) < 0.04
    assert all(name.partition("/")[2] in page() for name in FIGURES)


def test_the_page_in_the_docs_is_the_one_the_profiles_give() -> None:
    committed = Path(__file__).parents[2] / "docs" / "benchmarks" / "twin-step-times.md"
    assert committed.read_text(encoding="utf-8") == page()
