"""How long each engine takes, from a few requests one at a time: enough for the twin's ranking.

Owns the requests and the arithmetic. `slalom calibrate` finds more, but takes longer than there is
for six models. Called by `compare`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from slalom.bench.load_client import LoadClient
from slalom.bench.residency_live.setting import CONTEXT_TOKENS, PLACES
from slalom.bench.scenario_requests import Speech, planned
from slalom.bench.scenario_text import Texts
from slalom.core.request import Sla
from slalom.errors import EngineError
from slalom.metrics.records import Fate
from slalom.twin.engine_specs import LlamaCppEngine
from slalom.twin.step_time import StepProfile
from slalom.workload.load import LoadItem

#: Prompts and answers, tokens.
SHORT, LONG = 24, 96
ANSWER = 9
#: Of each kind; the quickest counts, since others can only make it slower.
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Times:
    """Of whole answers to requests that had the engine to themselves, ns."""

    #: A short prompt and one token; a long prompt and one token; a short prompt and a whole answer.
    short_ns: int
    long_ns: int
    answer_ns: int


async def times_of(url: str, model: str, texts: Texts, speech: Speech) -> Times:
    """Ask a model that is loaded.

    Raises:
        EngineError: It did not answer.
    """
    kinds: Mapping[str, tuple[int, int]] = {
        "short": (SHORT, 1),
        "long": (LONG, 1),
        "answer": (SHORT, ANSWER),
    }
    found: dict[str, list[int]] = {}
    for number in range(_ROUNDS):
        for kind, (prompt_tokens, tokens) in kinds.items():
            # Another text each time: a prompt that was read before is not read again.
            name = f"time-{model}-{kind}-{number}"
            item = LoadItem(
                name, 0, "generation", model, prompt_tokens, tokens, tokens, tokens, Sla()
            )
            (record,) = await LoadClient(url).open_loop(planned([item], texts, speech))
            if record.fate is not Fate.DONE:
                raise EngineError(f"model {model} gave no answer: {record.reason}")
            found.setdefault(kind, []).append(record.ended_ns - record.sent_ns)
    return Times(min(found["short"]), min(found["long"]), min(found["answer"]))


def engine_of(model: str, times: Times) -> LlamaCppEngine:
    """The twin's engine with these times."""
    token_ns = max((times.long_ns - times.short_ns) / (LONG - SHORT), 1.0)
    step_ns = max((times.answer_ns - times.short_ns) / (ANSWER - 1), 1.0)
    rest_ns = max(times.short_ns - step_ns - token_ns * (SHORT - 1), 0.0)
    return LlamaCppEngine(
        StepProfile(
            model,
            source="timed",
            dense_flat_ns=step_ns,
            dense_ns_per_token=token_ns,
            ingest_ns=rest_ns,
        ),
        slots=PLACES,
        prefix_caching=False,
        context_tokens=CONTEXT_TOKENS,
        kv_unified=False,
    )
