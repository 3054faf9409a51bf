"""What clients are told of a model comes from its files and its engine's options."""

from slalom.assembly.model_facts import facts_of
from slalom.config.engine_sections import ModelSection
from slalom.gateway.params import ModelFacts


def section(**engine: object) -> ModelSection:
    return ModelSection.model_validate({"id": "m", "engine": engine})


def test_a_gguf_tells_what_it_is() -> None:
    engine = {"kind": "llama-cpp", "source": "bundled:slalom-small", "context_tokens": 512}
    facts = facts_of(section(**engine, places=3), on_gpu=True)
    assert facts.architecture == "qwen2"
    assert facts.quantisation == "Q8_0"
    assert facts.parameter_count > 1_000_000
    assert facts.file_bytes > facts.parameter_count
    assert facts.modified_s > 0
    assert (facts.context_tokens, facts.trained_context_tokens) == (512, 32_768)
    assert (facts.places, facts.chats, facts.on_gpu) == (3, True, True)


def test_a_command_tells_its_context_and_a_remote_engine_nothing() -> None:
    cmd = "serve --max-model-len 4096 --port ${PORT}"
    facts = facts_of(section(kind="command", cmd=cmd, places=2), on_gpu=False)
    assert facts == ModelFacts(context_tokens=4096, places=2)
    remote = section(kind="remote", base_url="http://127.0.0.1:1", places=5)
    assert facts_of(remote, on_gpu=False) == ModelFacts(places=5)


def test_a_missing_file_is_for_the_launcher_to_tell() -> None:
    engine = {"kind": "llama-cpp", "source": "nowhere.gguf", "places": 4}
    assert facts_of(section(**engine), on_gpu=False) == ModelFacts(places=4)
