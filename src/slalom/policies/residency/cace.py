"""`cace`: context-aware eviction, by a score of five factors.

Owns the reconstruction of CACE's eviction score. Its factors are named by the paper, the formula
and the weights are not public: both are ours. Called by the core through the registry.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from slalom.core.actions import Candidate
from slalom.core.keeping import Keeper
from slalom.core.planning import Observation
from slalom.core.policy import ReplicaView
from slalom.core.request import DeviceSpec, ModelSpec
from slalom.policies.residency.scoring import Parts, ScoringKeeper, by_part, normed
from slalom.policies.residency.usage import Traffic
from slalom.units import SECOND, seconds_to_ns

#: An expected output of so many tokens halves that factor.
_LENGTH_TOKENS = 128.0
_WEIGHT = {"ge": 0, "le": 100}


@dataclass(frozen=True, slots=True)
class Cace:
    """`cace`: the lowest sum of load time, latency sensitivity, output length, use and demand.

    After CACE (arXiv 2506.18796), which names the factors: load time;
    how sensitive the model's tasks are to latency; their expected output length (long answers
    outweigh a reload); uses in a sliding window; future demand. keep = w1 load time + w2
    sensitivity + w3 1/(1 + tokens/128) + w4 uses + w5 (waiting + expected in the window), each
    factor as a share of the largest among the candidates. The weights are ours; 0 removes a factor.
    """

    #: Weight of the time that a load takes.
    load_time: float = field(default=1.0, metadata=_WEIGHT)
    #: Weight of how urgent its tasks are: 1 for those due within 200 ms, less for later ones.
    sensitivity: float = field(default=1.0, metadata=_WEIGHT)
    #: Weight of its answers' being short.
    output_length: float = field(default=0.5, metadata=_WEIGHT)
    #: Weight of its uses in the window.
    uses: float = field(default=1.0, metadata=_WEIGHT)
    #: Weight of what waits for it and is expected in a window.
    demand: float = field(default=1.0, metadata=_WEIGHT)
    #: Length of the sliding window, s.
    window_s: float = field(default=300.0, metadata={"gt": 0, "le": 86_400})

    def begin(self, models: Sequence[ModelSpec], devices: Sequence[DeviceSpec]) -> Keeper:
        """A keeper that has seen nothing yet."""
        return ScoringKeeper(_Factors(self))


class _Factors:
    def __init__(self, options: Cace) -> None:
        self._options = options
        self._window_ns = seconds_to_ns(options.window_s)
        self._traffic = Traffic(self._window_ns, self._window_ns)

    def models_changed(self, models: Sequence[ModelSpec]) -> None:
        self._traffic.models_changed(models)

    def observe(self, seen: Observation, now_ns: int) -> None:
        self._traffic.observe(seen, now_ns)

    def score(self, candidates: Sequence[ReplicaView], now_ns: int) -> Sequence[Parts]:
        options = self._options
        usages = [self._traffic.of(one.model_id) for one in candidates]
        lengths = [1.0 / (1.0 + one.output_tokens / _LENGTH_TOKENS) for one in usages]
        demand = [
            one.waiting_count + usage.rate_per_ns(now_ns) * self._window_ns
            for one, usage in zip(candidates, usages, strict=True)
        ]
        columns = {
            "load time": (options.load_time, normed([one.load_ns / SECOND for one in candidates])),
            "sensitivity": (options.sensitivity, normed([one.sensitivity for one in usages])),
            "output length": (options.output_length, normed(lengths)),
            "uses": (options.uses, normed([one.window.slide(now_ns) for one in usages])),
            "demand": (options.demand, normed(demand)),
        }
        weighed = [[weight * value for value in row] for weight, row in columns.values()]
        return by_part(list(columns), weighed)

    def went(self, victims: Sequence[Candidate]) -> None:
        """Nothing to remember."""
