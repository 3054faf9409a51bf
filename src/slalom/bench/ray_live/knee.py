"""How much this machine answers at most: four engines that are never idle, two of each model.

Owns that look and the arithmetic from two models' rates to the mix's. No server is involved, so
that no way of serving decides about the load that it will meet. Called by the command.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slalom.bench.bare_engine import bare_engine
from slalom.bench.load_client import LoadClient
from slalom.bench.ray_live.load import plenty, shares
from slalom.bench.ray_live.setting import DIRECT, PLACES, REPLICAS, Setting
from slalom.bench.scenario_compare import running
from slalom.bench.scenario_probe import token_size
from slalom.bench.scenario_requests import Speech, planned
from slalom.bench.scenario_text import Texts
from slalom.bench.sla_live.setting import HEADERS
from slalom.errors import SlalomError
from slalom.metrics.records import Fate
from slalom.units import SECOND
from slalom.workload.tasks import TaskSpec

#: A look in which some engine gave no whole answer is repeated for so many times as long.
_PATIENCE = (1, 4, 16)
#: Of a look, the share in which the first answers are under way: nothing is counted of it.
_RAMP = 0.3


@dataclass(frozen=True, slots=True)
class Knee:
    """What the look found."""

    #: Whole answers per second of each model's requests while both models compute.
    beside_per_s: Mapping[str, float]
    speech: Speech

    @property
    def most_per_s(self) -> float:
        """Requests of the mix per second.

        Each model has half of the machine in the look, so that alone it would answer twice as
        many; a request of the mix takes the mean of what those of the models take.
        """
        return 1 / sum(share / (2 * self.beside_per_s[name]) for name, share in shares().items())


async def look(
    setting: Setting, tasks: Mapping[str, TaskSpec], texts: Texts, seconds: float, *, seed: int
) -> Knee:
    """Bring all engines up and keep them busy.

    Raises:
        SlalomError: An engine did not start, or gave no whole answer.
    """
    async with contextlib.AsyncExitStack() as stack:
        urls: dict[str, list[str]] = {}
        for name in setting.files:
            target = bare_engine(DIRECT, name, setting.options(name))
            urls[name] = [await stack.enter_async_context(running(target)) for _ in range(REPLICAS)]
        sizes = {
            name: await token_size(own[0], name, texts, chat=False, headers=HEADERS)
            for name, own in urls.items()
        }
        speech = Speech(sizes=sizes, headers=HEADERS)
        for patience in _PATIENCE:
            found = await _rates(urls, tasks, texts, speech, seconds * patience, seed=seed)
            if all(found.values()):
                return Knee(found, speech)
    raise SlalomError("the engines gave no whole answers: is the machine that busy?")


async def _rates(
    urls: Mapping[str, list[str]],
    tasks: Mapping[str, TaskSpec],
    texts: Texts,
    speech: Speech,
    seconds: float,
    *,
    seed: int,
) -> dict[str, float]:
    async def rate(url: str, model: str, number: int) -> float:
        items = plenty(tasks, model, seconds, seed=seed + number, name=f"full-{number}")
        requests = planned(items, texts, speech)
        records = await LoadClient(url).closed_loop(requests, width=PLACES, duration_s=seconds)
        return steady_per_s(
            [one.ended_ns for one in records if one.fate is Fate.DONE], round(seconds * SECOND)
        )

    asked = [(model, url) for model, own in urls.items() for url in own]
    rates = await asyncio.gather(*(rate(url, model, n) for n, (model, url) in enumerate(asked)))
    found = dict.fromkeys(urls, 0.0)
    for (model, _), per_s in zip(asked, rates, strict=True):
        found[model] += per_s
    return found


def steady_per_s(ends_ns: Sequence[int], span_ns: int) -> float:
    """Answers per second, without the beginning: while all requests are new few can end.

    Args:
        ends_ns: When answers ended, from the beginning of the look.
        span_ns: How long the look was.
    """
    begun_ns = round(_RAMP * span_ns)
    counted = sum(begun_ns < end_ns <= span_ns for end_ns in ends_ns)
    return counted * SECOND / (span_ns - begun_ns)
