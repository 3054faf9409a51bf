"""What the engines of the twin can do at best: a curve for each model, work for each request.

Owns the reading of engine specs as lower bounds of time: every number here is one that no run of
that engine can beat. Called by `bound_jobs` and `bound_upper`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from slalom.twin.bound_curve import RateCurve, curve_of_steps
from slalom.twin.engine_model import Law
from slalom.twin.engine_specs import LlamaCppEngine, UslEngine, VllmEngine
from slalom.twin.scenario import Arrival, TwinModel
from slalom.twin.step_time import TICKS_PER_NS, StepProfile
from slalom.units import SECOND


@dataclass(frozen=True, slots=True)
class Work:
    """What one request costs its engine at least."""

    #: From its dispatch to the engine's beginning, s.
    ingest_s: float
    #: Time of its own that its prompt takes, and time the whole replica spends on it, s.
    prefill_s: float
    shared_s: float
    #: Tokens to write after that.
    tokens: int


class BestEngine:
    """The engine of one model at its best.

    Args:
        model: The model.
        arrivals: The requests for it: the shortest prompt matters for the speed.
    """

    def __init__(self, model: TwinModel, arrivals: Iterable[Arrival]) -> None:
        self.model = model
        spec = model.engine
        self._law: Law | None = None
        self._profile: StepProfile | None = None
        if spec is None or isinstance(spec, UslEngine):
            self._law = law = model.step if spec is None else spec.law
            self.curve: RateCurve = curve_of_steps(law.step_ns, model.spec.places, gifts=True)
            return
        self._profile = profile = spec.profile
        self._spec = spec
        group = list(arrivals)
        context = max(min((one.request.prompt_tokens for one in group), default=1), 1)
        each_ns = profile.decode_seq_ns + profile.decode_kv_ns_per_token * context
        most = spec.slots if isinstance(spec, LlamaCppEngine) else spec.seqs_max
        places = min(model.spec.places, most)
        if _may_preempt(spec, group, places):
            # Whoever starts over writes its next token at the end of reading: at dense cost only.
            profile = replace(profile, decode_flat_ns=0.0, decode_seq_ns=0.0)
            context, each_ns = 0, 0.0
        self.curve = curve_of_steps(
            lambda n: profile.step_ticks(n, n * context) / TICKS_PER_NS,
            places,
            first_tokens=0,
            token_ns=_dense_ns(profile) + each_ns,
        )

    @property
    def writes_all(self) -> bool:
        """Whether an attempt writes its first token after reading, instead of with it."""
        return self._law is not None

    def work(self, arrival: Arrival) -> Work:
        """What a request for this model takes."""
        prompt, output = arrival.request.prompt_tokens, max(arrival.output_tokens, 1)
        profile = self._profile
        if self._law is not None or profile is None:
            each_ns = 0 if self._law is None else self._law.prefill_ns_per_token
            return Work(0.0, prompt * each_ns / SECOND, 0.0, output)
        prompt = max(prompt, 1)
        kept = 0
        if self._spec.prefix_caching and arrival.session:
            kept = min(arrival.shared_tokens, prompt - 1)
        if isinstance(self._spec, VllmEngine) and self._spec.kv_blocks:
            # The engine ends an answer that fills all its blocks.
            output = min(output, max(_kv_tokens(self._spec) - prompt, 0) + 1)
        pairs_ns = profile.prefill_attention_ns_per_token_ctx * (prompt**2 - kept**2) / 2
        dense_ns = _dense_ns(profile) * (prompt - kept)
        own_ns = profile.host_ns + max(profile.dense_flat_ns, dense_ns) + pairs_ns
        return Work(
            ingest_s=profile.ingest_ns / SECOND,
            prefill_s=own_ns / SECOND,
            shared_s=(dense_ns + pairs_ns) / SECOND,
            tokens=output - 1,
        )


def _kv_tokens(spec: VllmEngine) -> int:
    return spec.kv_blocks * spec.block_tokens


def _may_preempt(spec: VllmEngine | LlamaCppEngine, group: list[Arrival], places: int) -> bool:
    """Whether as many requests as can run may need more blocks than there are."""
    if isinstance(spec, LlamaCppEngine) or not spec.kv_blocks:
        return False
    sizes = (one.request.prompt_tokens + one.output_tokens for one in group)
    longest = max(sizes, default=0) + spec.block_tokens
    return longest * places > _kv_tokens(spec)


def _dense_ns(profile: StepProfile) -> float:
    """The least that a token can add to steps, however they are filled, ns."""
    flat_each_ns = profile.dense_flat_ns / max(profile.dense_flat_tokens, 1)
    return min(profile.dense_ns_per_token, flat_each_ns)
