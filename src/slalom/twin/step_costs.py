"""What a planner may know of an engine beforehand: the twin's laws in the few terms of a step cost.

Owns the translation and its error. Terms that a step cost has are taken over as they are; where
the law bends (batches beyond the flat part, prompts read in pieces) the best fit over the engine's
range stands for it. Called when scenarios become models, and for profiles of real engines.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from slalom.core.request import StepCost
from slalom.twin.engine_model import StepLaw
from slalom.twin.engine_specs import EngineSpec, LlamaCppEngine, UslEngine
from slalom.twin.step_time import StepProfile
from slalom.units import SECOND

#: Contexts of a sequence at which a fit is judged, tokens.
_CONTEXTS = (64, 512, 2_048)


@dataclass(frozen=True, slots=True)
class FittedCost:
    """A step cost, and by how much it is off as shares of the law's step times."""

    cost: StepCost
    #: Root of the mean square, and the largest.
    error: float
    error_max: float


@dataclass(frozen=True, slots=True)
class _Range:
    """The law of a stepping engine, and where it is used."""

    profile: StepProfile
    places: int
    budget_tokens: int
    micro_batch: int = 0

    def step_ns(self, sequences: int, context_tokens: int, prompt_tokens: int) -> int:
        pairs = prompt_tokens**2 / 2
        if not self.micro_batch:
            return self.profile.step_ns(sequences, context_tokens, prompt_tokens, pairs)
        ticks = self.profile.step_ticks(
            sequences, context_tokens, prompt_tokens, prompt_tokens**2, self.micro_batch
        )
        return round(ticks / 1_000_000)

    def batches(self) -> tuple[int, ...]:
        return _up_to(self.places)

    def prompts(self) -> tuple[int, ...]:
        return _up_to(max(self.budget_tokens - self.places, 1), least=16)


def step_cost_of(engine: EngineSpec | StepLaw, *, places: int) -> StepCost:
    """The step cost of an engine of the twin.

    Args:
        engine: Its spec, or the law of a simple one.
        places: Sequences it runs at a time.
    """
    return fitted_cost(engine, places=places).cost


def fitted_cost(engine: EngineSpec | StepLaw, *, places: int) -> FittedCost:
    """As `step_cost_of`, with what it leaves unexplained."""
    if isinstance(engine, StepLaw):
        return FittedCost(_of_simple(engine), 0.0, 0.0)
    if isinstance(engine, UslEngine):
        law = engine.law
        alone_ns = SECOND / law.a
        cost = StepCost(
            step_ns=alone_ns,
            sequence_ns=law.s * alone_ns,
            sequence_sq_ns=law.k * alone_ns,
            prompt_ns=float(law.prefill_ns_per_token),
        )
        return FittedCost(cost, 0.0, 0.0)
    if isinstance(engine, LlamaCppEngine):
        slots = min(engine.slots, places)
        return _fit(_Range(engine.profile, slots, engine.batch_tokens, engine.micro_batch_tokens))
    return _fit(_Range(engine.profile, min(engine.seqs_max, places), engine.budget_tokens))


def cost_of_profile(
    profile: StepProfile, *, places: int, budget_tokens: int, micro_batch: int = 0
) -> FittedCost:
    """The step cost of a calibrated engine.

    Args:
        profile: Its step times.
        places: Sequences it runs at a time.
        budget_tokens: Most tokens in one step.
        micro_batch: It computes them in pieces of at most so many; 0 for one piece.
    """
    return _fit(_Range(profile, places, budget_tokens, micro_batch))


def _of_simple(law: StepLaw) -> StepCost:
    return StepCost(
        step_ns=float(law.token_ns - law.neighbour_ns),
        sequence_ns=float(law.neighbour_ns),
        prompt_ns=float(law.prefill_ns_per_token),
    )


def _fit(law: _Range) -> FittedCost:
    profile = law.profile
    step_ns = profile.host_ns + profile.dense_flat_ns + profile.decode_flat_ns
    if profile.dense_flat_tokens == 1:
        # No step is without a token, and all cost the same: the first is no exception.
        step_ns = max(step_ns - profile.dense_ns_per_token, 1.0)
    sequence_ns, square_ns = _sequences(law, step_ns)
    found = [
        _with_errors(
            law,
            StepCost(
                step_ns=step_ns,
                sequence_ns=sequence_ns,
                context_ns=profile.decode_kv_ns_per_token,
                prompt_ns=prompt_ns,
                request_ns=profile.ingest_ns + profile.join_ns,
                sequence_sq_ns=square_ns,
                prompt_pair_ns=profile.prefill_attention_ns_per_token_ctx,
                free_tokens=free_tokens,
            ),
        )
        for free_tokens, prompt_ns in _prompts(law, step_ns)
    ]
    return min(found, key=lambda one: one.error)


def _sequences(law: _Range, step_ns: float) -> tuple[float, float]:
    """Slope and curve of what sequences add to a step."""
    profile = law.profile
    if law.places <= profile.dense_flat_tokens or not profile.dense_ns_per_token:
        return profile.decode_seq_ns, 0.0
    if profile.dense_flat_tokens <= 1:
        return profile.decode_seq_ns + profile.dense_ns_per_token, 0.0
    batches = np.array(law.batches(), dtype=float)
    beyond = np.maximum(batches - profile.dense_flat_tokens, 0.0) * profile.dense_ns_per_token
    weights = 1 / (step_ns + beyond)
    columns = np.stack([batches, batches**2]) * weights
    slope, curve = np.linalg.lstsq(columns.T, beyond * weights, rcond=None)[0]
    if slope < 0:
        slope = 0.0
        curve = float(columns[1] @ (beyond * weights)) / float(columns[1] @ columns[1])
    return profile.decode_seq_ns + float(slope), float(curve)


def _prompts(law: _Range, step_ns: float) -> Iterator[tuple[float, float]]:
    """Pairs of free tokens and the slope of what prompt tokens beyond them add to a step."""
    profile = law.profile
    flat_tokens = float(profile.dense_flat_tokens if profile.dense_flat_tokens > 1 else 0)
    yield flat_tokens, profile.dense_ns_per_token
    if not law.micro_batch or law.micro_batch >= law.budget_tokens:
        return
    prompts = np.array(law.prompts(), dtype=float)
    pairs_ns = profile.prefill_attention_ns_per_token_ctx * prompts**2 / 2
    seen = np.array([law.step_ns(0, 0, int(tokens)) for tokens in prompts]) - pairs_ns
    weights = 1 / (seen + pairs_ns)
    for free_tokens in (0.0, flat_tokens / 2, flat_tokens, float(law.micro_batch)):
        column = np.maximum(prompts - free_tokens, 0.0) * weights
        wanted = (seen - step_ns + profile.decode_flat_ns) * weights
        yield free_tokens, max(float(column @ wanted) / float(column @ column), 0.0)


def _with_errors(law: _Range, cost: StepCost) -> FittedCost:
    errors = []
    for sequences in law.batches():
        for context in _CONTEXTS:
            for prompt_tokens in (0, *law.prompts()):
                seen = law.step_ns(sequences, sequences * context, prompt_tokens)
                said = cost.of(sequences, sequences * context, prompt_tokens, prompt_tokens**2 / 2)
                errors.append(abs(said / seen - 1))
    return FittedCost(cost, float(np.sqrt(np.mean(np.square(errors)))), max(errors))


def _up_to(most: int, least: int = 1) -> tuple[int, ...]:
    """Powers of two from `least`, and `most`."""
    powers = []
    while least < most:
        powers.append(least)
        least *= 2
    return (*powers, most)
