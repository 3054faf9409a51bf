"""What only the llama.cpp launcher does, live on the smaller bundled model."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from slalom.core.events import FailureKind
from slalom.engines.http_engine import HttpEngine
from slalom.engines.llama_cpp import LlamaCppLauncher, LlamaCppOptions, capabilities_of
from slalom.engines.process import EngineProcess
from slalom.engines.upstream import Upstream
from slalom.errors import ConfigError, EngineError
from slalom.models.gguf_metadata import read_metadata
from slalom.testing.engine_talk import ask, begin_long, until
from tests.engines.subjects import MODEL

MINI = MODEL.with_name("slalom-mini.gguf")


@asynccontextmanager
async def live(**options: object) -> AsyncIterator[HttpEngine]:
    launcher = LlamaCppLauncher(
        LlamaCppOptions(MINI, **options),  # type: ignore[arg-type]
        model_name="public-name",
    )
    engine = await launcher.launch("r-1", lambda _fraction: None)
    try:
        yield engine
    finally:
        await engine.stop(5.0)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("context_tokens", 0),
        ("places", 0),
        ("threads", -1),
        ("kv_tokens", 0),
        ("cache_type", "f17"),
        ("flash_attention", "maybe"),
        ("pooling", "sum"),
    ],
)
def test_impossible_options_are_named(option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=option):
        LlamaCppOptions(MINI, **{option: value})  # type: ignore[arg-type]


async def test_answers_carry_the_public_name_and_the_context_is_per_request() -> None:
    async with live(places=2, context_tokens=256) as engine:
        answer = await ask(engine, max_tokens=2)
        assert answer.document is not None
        assert answer.document["model"] == "public-name"
        too_long = await ask(engine, prompt="x = 1\n" * 400, max_tokens=2)
        assert too_long.status == 400
        assert "256" in json.dumps(too_long.document)
        assert (await ask(engine, ignore_eos=True)).finish == "length"


async def test_nobody_goes_around_the_scheduler() -> None:
    async with live() as engine:
        stranger = Upstream(engine.upstream.where)
        status, _ = await stranger.fetch(
            "POST", "/v1/completions", timeout_s=30.0, body=b'{"prompt":"x","max_tokens":1}'
        )
        assert status == 401
        stranger.close()
        arguments = " ".join(psutil.Process(_pid(engine)).cmdline())
        assert "KEY" not in arguments
        assert "Bearer" not in repr(engine)


async def test_default_of_max_tokens_is_obeyed() -> None:
    async with live(tokens_max=5) as engine:
        answer = await ask(engine, ignore_eos=True)
        assert answer.usage is not None
        assert answer.usage["completion_tokens"] == 5


async def test_chat_template_can_be_replaced() -> None:
    long = "{% for m in messages %}" + "word " * 50 + "{{ m.content }}{% endfor %}"
    async with live() as engine, live(chat_template=long) as other:
        own = await ask(engine, "/v1/chat/completions", max_tokens=1)
        replaced = await ask(other, "/v1/chat/completions", max_tokens=1)
    assert own.usage is not None
    assert replaced.usage is not None
    assert replaced.usage["prompt_tokens"] > own.usage["prompt_tokens"] + 25


@pytest.mark.parametrize("places", [1, 3])
@pytest.mark.parametrize("unified", [True, False])
async def test_embeddings_and_text_come_from_one_engine(places: int, unified: bool) -> None:
    async with live(places=places, kv_unified=unified, embeddings=True) as engine:
        vector = await ask(engine, "/v1/embeddings", input="def f():")
        assert vector.status == 200
        assert (await ask(engine, max_tokens=3)).text


async def test_without_embeddings_the_engine_says_so() -> None:
    async with live() as engine:
        assert not engine.capabilities.embeddings
        assert (await ask(engine, "/v1/embeddings", input="x")).status == 501


async def test_unknown_expert_parameter_is_named() -> None:
    launcher = LlamaCppLauncher(LlamaCppOptions(MINI, extra={"speedd": 1}), model_name="m")
    with pytest.raises(EngineError, match="speedd") as caught:
        await launcher.launch("r-1", lambda _fraction: None)
    assert caught.value.code == FailureKind.START_FAILED


async def test_prompts_do_not_reach_what_people_are_told() -> None:
    async with live() as engine:
        process = engine.process
        assert process is not None
        await ask(engine, prompt="failed error secret-prompt", max_tokens=2)
        await ask(engine, prompt={"error": "secret-prompt"})
        os.kill(process.pid, signal.SIGKILL)
        assert "SIGKILL" in await asyncio.wait_for(engine.wait_closed(), 30.0)
        assert not any("secret" in line for line in process.tail())


PARENT = """
import asyncio, os, sys
from pathlib import Path
from slalom.engines.llama_cpp import LlamaCppLauncher, LlamaCppOptions, capabilities_of

async def main():
    launcher = LlamaCppLauncher(LlamaCppOptions(Path(sys.argv[1])), model_name="m")
    engine = await launcher.launch("r-1", lambda fraction: None)
    print(engine.process.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_engine_dies_with_the_gateway() -> None:
    said: asyncio.Queue[str] = asyncio.Queue()
    parent = await EngineProcess.start(
        [sys.executable, "-c", PARENT, str(MINI)], on_line=said.put_nowait
    )
    pid = int(await asyncio.wait_for(said.get(), 60.0))
    os.kill(parent.pid, signal.SIGKILL)

    async def is_gone() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    await until(is_gone, "the engine has ended with its parent")
    await parent.wait()


async def test_memory_comes_back() -> None:
    async with live(kv_tokens=200_000, context_tokens=50_000) as engine:
        reply = await begin_long(engine)
        assert await engine.memory_bytes() > MINI.stat().st_size
        await reply.close()
    assert await engine.memory_bytes() == 0


def _pid(engine: HttpEngine) -> int:
    assert engine.process is not None
    return engine.process.pid


def test_the_bundled_models_are_there() -> None:
    assert Path(MINI).is_file()
    assert MODEL.is_file()


def test_a_chat_can_go_on_unless_the_model_may_think() -> None:
    metadata = read_metadata(MINI)
    plain = LlamaCppOptions(model=MINI)
    assert capabilities_of(plain, metadata).continue_chat == ()
    assert capabilities_of(plain, replace(metadata, thinks=True)).continue_chat is None
    thinking = LlamaCppOptions(model=MINI, chat_template="{{ '<think>' }}")
    assert capabilities_of(thinking, metadata).continue_chat is None
