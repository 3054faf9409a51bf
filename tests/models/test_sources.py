"""Model sources: how they are spelled, where they lead, what is said when they lead nowhere."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import close_session, constants

from slalom.errors import ModelError
from slalom.models.hugging_face import choose_file, parse
from slalom.models.sources import pull, resolve
from tests.models.gguf_bytes import MINI, gguf
from tests.models.hub import hub, lay_out_cache

REPOSITORY = "someone/coder-GGUF"
#: Nobody listens on the discard port.
CLOSED = "http://127.0.0.1:9"


def use_hub(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "hub-cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    # No test asks the real hub, whatever the machine's settings are.
    use_hub(monkeypatch, CLOSED)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield folder
    close_session()


def failure(source: str, base: Path | None = None) -> ModelError:
    with pytest.raises(ModelError) as caught:
        resolve(source, base=base)
    return caught.value


def test_a_bundled_name() -> None:
    model = resolve("bundled:slalom-mini")
    assert model.path == MINI
    assert model.metadata.name == "slalom-mini"


def test_a_misspelled_bundled_name_gets_a_hint() -> None:
    error = failure("bundled:slalom-mino")
    assert error.code == "model_missing"
    assert "bundled:slalom-mini?" in str(error)


def test_a_relative_path_starts_at_the_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "m.gguf").write_bytes(gguf())
    assert resolve("here/m.gguf", base=tmp_path).path == tmp_path / "here" / "m.gguf"
    assert resolve(str(tmp_path / "here" / "m.gguf"), base=Path("/nowhere")).metadata.name == "tiny"
    monkeypatch.chdir(tmp_path)
    assert resolve("here/m.gguf").path == tmp_path / "here" / "m.gguf"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/here/m.gguf", base=Path("/nowhere")).metadata.name == "tiny"


def test_a_path_that_leads_nowhere(tmp_path: Path) -> None:
    missing = failure("m.gguf", tmp_path)
    assert missing.code == "model_missing"
    assert str(tmp_path / "m.gguf") in str(missing)
    assert "bundled:slalom-mini" in str(failure("slalom-mini", tmp_path))
    assert "name the GGUF file" in str(failure(".", tmp_path))
    assert "empty" in str(failure(" "))


def test_a_cached_hugging_face_model(cache: Path) -> None:
    lay_out_cache(cache, REPOSITORY, {"coder-Q4_K_M.gguf": gguf(), "coder-Q8_0.gguf": gguf()})
    assert resolve(f"hf:{REPOSITORY}").path.name == "coder-Q4_K_M.gguf"
    assert resolve(f"hf:{REPOSITORY}:q8_0").path.name == "coder-Q8_0.gguf"
    assert resolve(f"hf:{REPOSITORY}:coder-Q8_0.gguf").metadata.name == "tiny"
    assert resolve(f"hf:{REPOSITORY}@main").path.name == "coder-Q4_K_M.gguf"


def test_what_is_not_in_the_cache_is_to_be_pulled(cache: Path) -> None:
    absent = failure(f"hf:{REPOSITORY}")
    assert absent.code == "model_not_downloaded"
    assert f"slalom models pull hf:{REPOSITORY}" in str(absent)
    lay_out_cache(cache, REPOSITORY, {"coder-Q8_0.gguf": gguf()})
    other = failure(f"hf:{REPOSITORY}:Q4_K_M")
    assert other.code == "model_not_downloaded"
    assert "coder-Q8_0.gguf" in str(other)


def test_a_split_model_must_be_there_as_a_whole(cache: Path) -> None:
    lay_out_cache(cache, REPOSITORY, {"q4/c-Q4_0-00001-of-00002.gguf": gguf()})
    error = failure(f"hf:{REPOSITORY}")
    assert error.code == "model_not_downloaded"
    assert "c-Q4_0-00002-of-00002.gguf" in str(error)


@pytest.mark.parametrize("source", ["hf:", "hf:name", "hf:a/b/c", "hf:a/b:", "hf:a b/c"])
def test_a_misspelled_hugging_face_source(source: str) -> None:
    assert failure(source).code == "model_source_invalid"


@pytest.mark.parametrize(
    ("wanted", "names", "chosen"),
    [
        ("", ["README.md", "only.gguf"], "only.gguf"),
        ("", ["m-Q8_0.gguf", "m-Q4_K_M.gguf", "mmproj-Q4_K_M.gguf"], "m-Q4_K_M.gguf"),
        ("", ["m-f16.gguf", "m-q8_0.gguf"], "m-q8_0.gguf"),
        ("", ["m-IQ1_S.gguf", "m.BF16.gguf"], "m.BF16.gguf"),
        (":Q4_K_S", ["m-IQ4_K_S.gguf", "m-Q4_K_S.gguf"], "m-Q4_K_S.gguf"),
        (":F16", ["m-BF16.gguf", "m-F16.gguf"], "m-F16.gguf"),
        (":Q4_0", ["m-Q4_0.gguf", "m-Q4_0_4_4.gguf"], "m-Q4_0.gguf"),
        (":*ins*Q4_0*", ["m-Q4_0.gguf", "m-ins-Q4_0.gguf"], "m-ins-Q4_0.gguf"),
        (":b.gguf", ["x/a.gguf", "x/b.gguf"], "x/b.gguf"),
        (
            ":Q4_0",
            ["Q4_0/m-Q4_0-00001-of-00002.gguf", "Q4_0/m-Q4_0-00002-of-00002.gguf"],
            "Q4_0/m-Q4_0-00001-of-00002.gguf",
        ),
    ],
)
def test_the_file_that_is_meant(wanted: str, names: list[str], chosen: str) -> None:
    assert choose_file(parse(f"hf:a/b{wanted}"), names) == chosen


@pytest.mark.parametrize(
    ("wanted", "names", "code"),
    [
        ("", ["model.safetensors", "mmproj-F16.gguf"], "model_no_gguf"),
        ("", ["one-Q4_0.gguf", "two-Q4_0.gguf"], "model_ambiguous"),
        ("", ["one.gguf", "two.gguf"], "model_file_not_found"),
        (":Q5_0", ["one-Q4_0.gguf"], "model_file_not_found"),
    ],
)
def test_a_choice_that_cannot_be_made_lists_the_files(
    wanted: str, names: list[str], code: str
) -> None:
    with pytest.raises(ModelError) as caught:
        choose_file(parse(f"hf:a/b{wanted}"), names)
    assert caught.value.code == code
    if code != "model_no_gguf":
        assert all(name in str(caught.value) for name in names)


def test_pulling_what_is_here_needs_no_network(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf())
    assert pull("m.gguf", base=tmp_path).metadata.name == "tiny"
    assert pull("bundled:slalom-small").metadata.name == "slalom-small"


def test_pull_fetches_every_shard_once_and_reports_bytes(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "README.md": b"text",
        "m-Q8_0.gguf": gguf(),
        "m-Q4_0-00001-of-00002.gguf": gguf(),
        "m-Q4_0-00002-of-00002.gguf": gguf({"split.no": 1}),
    }
    total = sum(len(data) for name, data in files.items() if "Q4_0" in name)
    seen: list[tuple[int, int]] = []
    with hub(REPOSITORY, files) as (endpoint, asked):
        use_hub(monkeypatch, endpoint)
        first = pull(f"hf:{REPOSITORY}", on_progress=lambda *at: seen.append(at))
        assert first.path.is_relative_to(cache)
        assert first.path.name == "m-Q4_0-00001-of-00002.gguf"
        assert len(first.metadata.files) == 2
        assert seen[-1] == (total, total)
        fetched = [line for line in asked if line.startswith("GET") and "resolve" in line]
        assert len(fetched) == 2
        assert pull(f"hf:{REPOSITORY}").path == first.path
        assert len([line for line in asked if line in fetched]) == 2
    assert resolve(f"hf:{REPOSITORY}").path == first.path
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert pull(f"hf:{REPOSITORY}").path == first.path


def test_pull_says_why_it_cannot(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusal(source: str) -> ModelError:
        with pytest.raises(ModelError) as caught:
            pull(source)
        return caught.value

    with hub(REPOSITORY, {"model.safetensors": b"weights"}) as (endpoint, _asked):
        use_hub(monkeypatch, endpoint)
        assert refusal(f"hf:{REPOSITORY}").code == "model_no_gguf"
        assert refusal("hf:no/body").code == "model_source_unknown"
    use_hub(monkeypatch, CLOSED)
    closed = refusal(f"hf:{REPOSITORY}")
    assert closed.code == "model_hub_unreachable"
    assert "Check the network" in str(closed)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert refusal(f"hf:{REPOSITORY}").code == "model_not_downloaded"
