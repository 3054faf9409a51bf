"""What only the command launcher does: macros, ports, stop commands and foreign programs."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from slalom.core.events import FailureKind
from slalom.engines.command import CommandLauncher, CommandOptions
from slalom.engines.process import EngineProcess
from slalom.engines.protocol import Capabilities
from slalom.errors import ConfigError, EngineError
from slalom.testing.engine_talk import ask, begin_long, until
from tests.engines.subjects import SERVER

PYTHON = sys.executable


def nothing(_fraction: float) -> None:
    """Nobody wants to know the progress."""


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("", "empty"),
        ("engine --port 8000", "PORT"),
        ("engine --port ${PORT} --gpu ${GPU}", "GPU"),
        ("engine '--port ${PORT}", "cmd"),
    ],
)
def test_mistakes_are_found_when_the_configuration_is_read(command: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        CommandOptions(command)


def test_secrets_in_the_environment_are_not_shown() -> None:
    options = CommandOptions("engine ${PORT}", env={"TOKEN": "hush"})
    launcher = CommandLauncher(options, model_name="m")
    assert "hush" not in repr(options) + repr(launcher)


async def test_macros_reach_arguments_and_environment_as_one_word_each(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    note = (
        "import os,sys,runpy; open(sys.argv[1],'w').write('|'.join([*sys.argv[2:], "
        "os.environ['ENGINE_PORT']])); sys.argv=['x','--port',sys.argv[3]]; "
        "runpy.run_module('slalom.testing.fake_server', run_name='__main__')"
    )
    options = CommandOptions(
        f'{PYTHON} -c "{note}" {seen} ${{MODEL}} ${{PORT}} $HOME',
        model="/models/with space;rm -rf/x.gguf",
        env={"ENGINE_PORT": "p${PORT}"},
    )
    engine = await CommandLauncher(options, model_name="m").launch("r-1", nothing)
    port = engine.upstream.where.rpartition(":")[2]
    expected = f"/models/with space;rm -rf/x.gguf|{port}|$HOME|p{port}"
    assert seen.read_text() == expected
    await engine.stop(5.0)


async def test_a_command_that_listens_elsewhere_is_told_how_to_listen_here() -> None:
    options = CommandOptions([*SERVER], host="127.0.0.2")
    with pytest.raises(EngineError, match=r"listens on 127\.0\.0\.1.*--host \$\{HOST\}") as caught:
        await CommandLauncher(options, model_name="m").launch("r-1", nothing)
    assert caught.value.code == FailureKind.MODEL_UNUSABLE


async def test_a_command_that_listens_everywhere_is_reached_anywhere(tmp_path: Path) -> None:
    words = ["-m", "slalom.testing.echo_server", "--host", "0.0.0.0", "--port", "${PORT}"]
    options = CommandOptions([PYTHON, *words, "--log", str(tmp_path / "log")], host="127.0.0.2")
    engine = await CommandLauncher(options, model_name="m").launch("r-1", nothing)
    assert "127.0.0.2" in engine.upstream.where
    await engine.stop(0.0)


async def test_a_port_taken_in_between_is_tried_once_more(tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    code = (
        "import os, sys, pathlib\n"
        "tries = pathlib.Path(sys.argv[1])\n"
        "with tries.open('a') as file: file.write(sys.argv[2] + ' ')\n"
        "if len(tries.read_text().split()) == 1:\n"
        "    sys.exit('OSError: [Errno 98] Address already in use')\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'slalom.testing.fake_server',"
        " '--port', sys.argv[2]])\n"
    )
    options = CommandOptions([PYTHON, "-c", code, str(tries), "${PORT}"])
    engine = await CommandLauncher(options, model_name="m").launch("r-1", nothing)
    first, second = tries.read_text().split()
    assert first != second
    assert engine.upstream.where.endswith(second)
    await engine.stop(5.0)


async def test_stop_command_comes_before_signals(tmp_path: Path) -> None:
    mark = tmp_path / "stopped"
    stop = (
        "import os,pathlib,signal,sys; pathlib.Path(sys.argv[1]).write_text(sys.argv[2]); "
        "os.kill(int(sys.argv[3]), signal.SIGINT)"
    )
    options = CommandOptions(SERVER, stop_cmd=[PYTHON, "-c", stop, str(mark), "${PORT}", "${PID}"])
    engine = await CommandLauncher(options, model_name="m").launch("r-1", nothing)
    await asyncio.gather(engine.stop(30.0), engine.stop(30.0))
    assert engine.upstream.where.endswith(mark.read_text())
    assert engine.process is not None
    # As after Ctrl-C, the stop command's doing; or it was still ending when the signal came.
    assert engine.process.returncode in {130, -15}


async def test_a_stop_command_that_fails_is_followed_by_signals() -> None:
    for stop in (["/nowhere/stop"], [PYTHON, "-c", "raise SystemExit(1)"]):
        options = CommandOptions(SERVER, stop_cmd=stop)
        engine = await CommandLauncher(options, model_name="m").launch("r-1", nothing)
        await engine.stop(0.3)
        assert engine.process is not None
        assert engine.process.returncode is not None


async def test_progress_follows_memory_where_the_size_is_known() -> None:
    told: list[float] = []
    options = CommandOptions((*SERVER, "--load-s", "0.6"), bytes_expected=20_000_000)
    engine = await CommandLauncher(options, model_name="m").launch("r-1", told.append)
    assert told[0] == 0.0
    assert told[-1] == 1.0
    assert told == sorted(told)
    await engine.stop(5.0)


async def test_the_programs_own_name_of_the_model_and_vllms_gauges() -> None:
    options = CommandOptions((*SERVER, "--metrics", "vllm"), model_name="theirs")
    engine = await CommandLauncher(options, model_name="ours").launch("r-1", nothing)
    assert engine.model_name == "theirs"
    reply = await begin_long(engine)
    metrics = await engine.metrics()
    assert metrics is not None
    assert metrics.running == 1
    assert metrics.generated_tokens > 0
    await reply.close()
    await engine.stop(5.0)


async def test_sleeping_gives_way_to_errors_not_to_silence() -> None:
    options = CommandOptions(SERVER, capabilities=Capabilities(sleep_levels=(1, 7)))
    engine = await CommandLauncher(options, model_name="m").launch("r-1", nothing)
    with pytest.raises(EngineError, match="400"):
        await engine.sleep(7)
    await engine.sleep(1)
    assert (await ask(engine)).status == 503
    await engine.wake()
    with pytest.raises(EngineError, match="not asleep"):
        await engine.wake()
    await engine.stop(5.0)


async def test_a_program_that_is_gone_says_why_it_did_not_start() -> None:
    options = CommandOptions((*SERVER, "--fail-load", "failed to open GGUF file"))
    with pytest.raises(EngineError, match="failed to open GGUF") as caught:
        await CommandLauncher(options, model_name="m").launch("r-9", nothing)
    assert caught.value.code == FailureKind.MODEL_UNUSABLE
    assert not caught.value.retryable
    assert "r-9" in str(caught.value)


PARENT = """
import asyncio, sys
from slalom.engines.command import CommandLauncher, CommandOptions

async def main():
    options = CommandOptions(sys.argv[1:])
    engine = await CommandLauncher(options, model_name="m").launch("r-1", lambda fraction: None)
    print(engine.process.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells of a dead parent on Linux")
async def test_the_program_dies_with_the_gateway() -> None:
    said: asyncio.Queue[str] = asyncio.Queue()
    parent = await EngineProcess.start([PYTHON, "-c", PARENT, *SERVER], on_line=said.put_nowait)
    pid = int(await asyncio.wait_for(said.get(), 60.0))
    os.kill(parent.pid, signal.SIGKILL)

    async def is_gone() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    await until(is_gone, "the program has ended with its parent")
    await parent.wait()
