"""`slalom bench compare`: one scenario against several servers in turn, as ratios with spread.

Owns targets (an address, or a command that is started for its run and stopped after), the order of
runs and the ratios. Which target begins changes with every seed, so that what drifts hits all.
Called by the `bench` commands.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from slalom.bench.load_client import Progress
from slalom.bench.scenario_run import Choices, play
from slalom.config.scenario_load import LoadedScenario
from slalom.engines.command import CommandLauncher, CommandOptions
from slalom.errors import ConfigError
from slalom.metrics.confidence import Estimate, estimate
from slalom.metrics.results import Results, RunResult

_STOP_S = 10.0
_URLS = ("http://", "https://")

#: Told (target, seed, progress) before each run.
OnRun = Callable[[str, int, Progress], None]


@dataclass(frozen=True, slots=True)
class Target:
    """A server to be measured."""

    name: str
    #: Its address without ``/v1``; empty where a command starts it.
    url: str = ""
    #: Command line; ``${PORT}`` is where it has to listen.
    command: str = ""
    health_path: str = "/health"

    @classmethod
    def read(cls, text: str, *, health_path: str = "/health") -> "Target":
        """A target from ``NAME=URL`` or ``NAME=COMMAND``; a URL alone names itself.

        Raises:
            ConfigError: It is neither.
        """
        if text.startswith(_URLS):
            return cls(text, url=_base(text))
        name, mark, value = text.partition("=")
        if not (name and mark and value.strip()):
            raise ConfigError(f"target {text!r} is not NAME=URL or NAME=COMMAND")
        if value.startswith(_URLS):
            return cls(name, url=_base(value))
        if "${PORT}" not in value:
            raise ConfigError(
                f"target {name!r}: the command has no ${{PORT}}, so nobody would know where it "
                "listens; put ${PORT} where the program takes its port"
            )
        return cls(name, command=value, health_path=health_path)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure of a target over the same figure of the first target, in pairs of equal seeds."""

    figure: str
    target: str
    ratio: Estimate
    #: Smallest and largest of the pairs.
    low: float
    high: float


@contextlib.asynccontextmanager
async def running(target: Target) -> AsyncIterator[str]:
    """The address of a target for the time of a block; a command runs only so long.

    Raises:
        EngineError: The command did not start or never answered.
    """
    if target.url:
        yield target.url
        return
    options = CommandOptions(cmd=target.command, model="", health_path=target.health_path)
    engine = await CommandLauncher(options, model_name=target.name).launch(
        target.name, lambda _fraction: None
    )
    try:
        yield engine.upstream.where
    finally:
        await engine.stop(_STOP_S)


async def compare(
    loaded: LoadedScenario,
    targets: Sequence[Target],
    seeds: Sequence[int],
    choices: Choices,
    *,
    on_run: OnRun = lambda _target, _seed, _progress: None,
) -> list[RunResult]:
    """Play the scenario against every target with every seed, interleaved.

    Raises:
        ConfigError: There is no text to cut prompts from, or two targets have one name.
        TargetError: A server does not answer.
        EngineError: A command did not start.
    """
    names = [target.name for target in targets]
    if len(set(names)) < len(names):
        raise ConfigError(f"two targets have the same name: {', '.join(names)}")
    runs = []
    for number, seed in enumerate(seeds):
        first = number % len(targets)
        for target in (*targets[first:], *targets[:first]):
            async with running(target) as url:
                progress = Progress()
                on_run(target.name, seed, progress)
                runs.append(
                    await play(
                        loaded,
                        url,
                        name=target.name,
                        seed=seed,
                        choices=choices,
                        progress=progress,
                    )
                )
    # In the order of the targets: the first one is what the others are compared with.
    return sorted(runs, key=lambda run: (names.index(run.policy), run.seed))


def ratios(results: Results, figures: Sequence[str]) -> list[Ratio]:
    """Each figure of every target over the first target's, seed by seed."""
    base, *others = results.policies
    by_seed = {(run.policy, run.seed): run.figures() for run in results.runs}
    found = []
    for figure in figures:
        for target in others:
            pairs = [
                (by_seed[target, seed].get(figure), by_seed[base, seed].get(figure))
                for policy, seed in by_seed
                if policy == base and (target, seed) in by_seed
            ]
            known = [own / first for own, first in pairs if own is not None and first]
            if known:
                found.append(Ratio(figure, target, estimate(known), min(known), max(known)))
    return found


def _base(url: str) -> str:
    return url.rstrip("/").removesuffix("/v1")
