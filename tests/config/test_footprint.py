"""Bytes that the ledger books for a model: as written, or estimated from its file."""

from typing import get_args

import pytest

from slalom.config import Config
from slalom.config.engine_sections import LlamaCppEngine
from slalom.config.footprint import KV_ELEMENT_BYTES, bytes_needed, llama_cpp_bytes, model_specs
from slalom.errors import ConfigError, ModelError
from slalom.models.sources import bundled, resolve
from slalom.units import GIB, MIB


def parse(**model: object) -> Config:
    return Config.model_validate({"models": [{"id": "m", **model}]})


def llama(**options: object) -> LlamaCppEngine:
    return LlamaCppEngine.model_validate({"source": "bundled:slalom-mini", **options})


def test_the_bundled_models_are_those_served_without_configuration() -> None:
    sources = [m.engine.source for m in Config().models if m.engine.kind == "llama-cpp"]
    assert sources == [model.source for model in bundled()]


def test_specs_of_the_default_models() -> None:
    for spec in model_specs(Config()):
        weights = resolve(f"bundled:{spec.id}").metadata.file_bytes
        assert weights < spec.bytes_needed < GIB
        assert (spec.device, spec.replicas, spec.pinned) == ("host", 1, False)
        assert spec.places == 4


def test_more_context_and_a_wider_cache_need_more() -> None:
    base = llama_cpp_bytes(llama())
    assert llama_cpp_bytes(llama(context_tokens=16_384)) > base
    assert llama_cpp_bytes(llama(places=8)) > base
    assert llama_cpp_bytes(llama(kv_tokens=8192)) < base
    assert (
        llama_cpp_bytes(llama(cache_type="q8_0")) < base < llama_cpp_bytes(llama(cache_type="f32"))
    )
    assert llama_cpp_bytes(llama(prompt_cache="64MiB")) == base + 64 * MIB


def test_every_cache_type_has_a_size() -> None:
    known = get_args(LlamaCppEngine.model_fields["cache_type"].annotation)
    assert set(known) == set(KV_ELEMENT_BYTES)


def test_a_written_size_wins() -> None:
    engine = {"kind": "llama-cpp", "source": "nowhere.gguf"}
    assert bytes_needed(parse(engine=engine, memory="3GiB").models[0]) == 3 * GIB
    with pytest.raises(ModelError):
        bytes_needed(parse(engine=engine).models[0])


def test_a_remote_engine_costs_nothing_and_a_command_must_say() -> None:
    remote = parse(engine={"kind": "remote", "base_url": "http://x.org"})
    assert bytes_needed(remote.models[0]) == 0
    with pytest.raises(ConfigError, match=r"'m' is a command.* write memory:"):
        bytes_needed(parse(engine={"kind": "command", "cmd": "x"}).models[0])
