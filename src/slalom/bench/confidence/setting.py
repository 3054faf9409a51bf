"""The two models, the ways in which completions are asked for, and the server's configuration.

Owns the sizes of a run and the names of the ways. Starts nothing. Called by the command, by `live`
and by the page.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slalom.bench.confidence.deepened import deepened
from slalom.bench.engine_section import engine_section
from slalom.config.engine_sections import LlamaCppEngine
from slalom.config.footprint import llama_cpp_bytes
from slalom.models.sources import resolve

SMALL, LARGE = "small", "large"
#: The bundled models behind these names.
ORIGINALS = {SMALL: "slalom-mini", LARGE: "slalom-small"}
#: Longest completion, tokens; it ends with its line before that.
TOKENS_MAX = 32
CONTEXT_TOKENS, PLACES = 1_024, 2
#: What is asked of the first three tokens, as a mean of log-probabilities: the default, and two
#: that suit models as small as these.
THRESHOLDS = (-0.7, -2.2, -2.6)
#: Of which each gate alone and the answer in one piece are shown.
MIDDLE = THRESHOLDS[1]
#: No answer is below that: the first gate is open.
_OPEN = -100.0


@dataclass(frozen=True, slots=True)
class Way:
    """How a completion is asked for."""

    name: str
    #: A model's name, or the alias' of these gates.
    model: str
    min_logprob: float = _OPEN
    parse: bool = False
    #: Whether the client wants a stream, or the answer in one piece.
    streams: bool = True

    @property
    def alias(self) -> dict[str, Any] | None:
        """Of the configuration; None for a model by itself."""
        if self.model in ORIGINALS:
            return None
        return {
            "id": self.model,
            "targets": [SMALL, LARGE],
            "kind": "confident",
            "min_logprob": self.min_logprob,
            "parse": self.parse,
            "language": "python",
        }


ALL_LARGE = Way("all to the large one", LARGE)
ALL_SMALL = Way("all to the small one", SMALL)
FIRST_GATE = Way(f"first tokens alone, {MIDDLE:g}", "first", MIDDLE)
SECOND_GATE = Way("syntax alone", "second", parse=True)
BOTH = tuple(Way(f"both, {at:g}", f"both{at:g}", at, parse=True) for at in THRESHOLDS)
IN_ONE_PIECE = replace(BOTH[1], name=f"both, {MIDDLE:g}, not streamed", streams=False)
WAYS = (ALL_LARGE, ALL_SMALL, FIRST_GATE, SECOND_GATE, *BOTH, IN_ONE_PIECE)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    #: Completions of a repeat.
    completions: int
    repeats: int
    #: Layers of the large model for each of its original's.
    times: int
    #: In the twin: seeds, requests of a run, and shares of doubted answers.
    seeds: int
    requests: int
    shares: tuple[float, ...]
    ratios: tuple[float, ...] = (4.0, 10.0, 30.0)
    #: Runs of the twin at a time.
    processes: int = 2


FULL = Sizes(40, 3, 3, 5, 400, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0))
QUICK = Sizes(1, 1, 2, 1, 20, (0.0, 1.0), (4.0,), processes=1)


def files(folder: Path, times: int) -> dict[str, Path]:
    """The models' files, the large one made for it.

    Raises:
        ModelError: A bundled model cannot be read.
    """
    found = {name: resolve(f"bundled:{original}").path for name, original in ORIGINALS.items()}
    dear = folder / f"{LARGE}.gguf"
    deepened(found[LARGE], dear, times=times)
    return {**found, LARGE: dear}


def configuration(models: dict[str, Path]) -> dict[str, Any]:
    """Of the server: both models loaded, nothing asked of times, one alias for each way."""
    engines = {name: _engine(path) for name, path in models.items()}
    needed = sum(llama_cpp_bytes(LlamaCppEngine(**engine)) for engine in engines.values())
    limits = dict.fromkeys(("ttft_ms", "tpot_ms", "e2e_ms"))
    return {
        "tasks": {"completion": limits, "completion-multiline": limits},
        "devices": [{"id": "host", "budget": 2 * needed}],
        "models": [
            {"id": name, "pinned": True, "engine": engine} for name, engine in engines.items()
        ],
        "aliases": list(_aliases()),
    }


def _aliases() -> Iterator[dict[str, Any]]:
    known = {way.model: way.alias for way in WAYS}
    yield from (alias for alias in known.values() if alias is not None)


def _engine(path: Path) -> dict[str, Any]:
    return engine_section(path, context_tokens=CONTEXT_TOKENS, places=PLACES)
