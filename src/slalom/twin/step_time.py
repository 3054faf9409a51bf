"""How long one step of an engine takes: a profile of a few physical coefficients.

A step reads the weights once (flat, until enough tokens are batched to be bound by arithmetic),
reads the context of every sequence that writes, and lets each prompt token look at all before it.
Owns the law, its units and its JSON form. Owns no engine: who is in a step is decided by the
batching rules. Read by the engine models, written by the fits of tables and by `slalom calibrate`.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from slalom.errors import ConfigError

#: Engines count time in these, so that sums over many steps are exact whatever the coefficients.
TICKS_PER_NS = 1_000_000


@dataclass(frozen=True)
class StepProfile:
    """Coefficients of one model on one device in one engine; times in ns, not negative."""

    name: str
    #: Where the numbers come from.
    source: str = ""
    #: Python, scheduling and launches, each step.
    host_ns: float = 0.0
    #: All layers but attention: flat up to so many tokens in the step, then so much for each more.
    dense_flat_tokens: int = 1
    dense_flat_ns: float = 0.0
    dense_ns_per_token: float = 0.0
    #: Attention of sequences that write: if there are any, for each, for each token of context.
    decode_flat_ns: float = 0.0
    decode_seq_ns: float = 0.0
    decode_kv_ns_per_token: float = 0.0
    #: Attention of prompts: for each pair of a prompt token and a token it looks at.
    prefill_attention_ns_per_token_ctx: float = 0.0
    #: From a request's coming to the engine's knowing of it, once a request.
    ingest_ns: float = 0.0
    #: Parsing and placing a request, in the step that begins to read it, once a request.
    join_ns: float = 0.0
    #: Bytes of weights, and of the KV cache for each token; 0 where unknown.
    weights_bytes: int = 0
    kv_bytes_per_token: int = 0
    #: Median and largest relative error of the fit; 0 where nothing was fitted.
    fit_error: float = 0.0
    fit_error_max: float = 0.0

    def at_speed(self, speed: float) -> "StepProfile":
        """The same on a device so many times as fast."""
        times = [field.name for field in dataclasses.fields(self) if "_ns" in field.name]
        return dataclasses.replace(self, **{name: getattr(self, name) / speed for name in times})

    def __post_init__(self) -> None:
        """Refuse what is no law.

        Raises:
            ConfigError: A coefficient is negative or not a number, or a step could take no time.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, (int, float)) and not (math.isfinite(value) and value >= 0):
                raise ConfigError(
                    f"step profile {self.name}: {field.name} is {value}; it must be a number from 0"
                )
        if self.host_ns + self.dense_flat_ns <= 0:
            raise ConfigError(
                f"step profile {self.name}: a step would take no time; give host_ns or "
                "dense_flat_ns a positive number"
            )

    def step_ns(
        self, decode_seqs: int, kv_tokens: int, prefill_tokens: int = 0, prefill_ctx: float = 0
    ) -> int:
        """Time of one step, ns.

        Args:
            decode_seqs: Sequences that write one token each.
            kv_tokens: Their context, summed, tokens.
            prefill_tokens: Prompt tokens read in this step, over all sequences.
            prefill_ctx: Tokens looked at, summed over those prompt tokens: a chunk of c tokens
                after p others looks at c x (p + c/2).
        """
        ticks = self.step_ticks(decode_seqs, kv_tokens, prefill_tokens, round(2 * prefill_ctx))
        return round(ticks / TICKS_PER_NS)

    def step_ticks(
        self,
        decode_seqs: int,
        kv_tokens: int,
        prefill_tokens: int = 0,
        prefill_ctx_doubled: int = 0,
        micro_batch: int = 0,
        *,
        joins: int = 0,
        pieces: Sequence[int] = (),
    ) -> int:
        """Exact time of one step in ticks; an integer, linear in `kv_tokens`.

        Args:
            decode_seqs: As for `step_ns`.
            kv_tokens: As for `step_ns`.
            prefill_tokens: As for `step_ns`.
            prefill_ctx_doubled: Twice the `prefill_ctx` of `step_ns`, which makes it whole.
            micro_batch: The dense part runs in pieces of at most so many tokens; 0 for one piece.
            joins: Requests of which it is the first step.
            pieces: The sizes of the pieces, tokens, where `micro_batch` alone does not say them.
        """
        laws = self._laws
        tokens = decode_seqs + prefill_tokens
        ticks = laws.host + joins * laws.join
        if pieces:
            ticks += sum(map(laws.dense, pieces))
        elif micro_batch and tokens > micro_batch:
            whole, rest = divmod(tokens, micro_batch)
            ticks += whole * laws.dense(micro_batch) + (laws.dense(rest) if rest else 0)
        else:
            ticks += laws.dense(tokens)
        if decode_seqs:
            ticks += laws.decode_flat + decode_seqs * laws.decode_seq + kv_tokens * laws.kv
        if prefill_ctx_doubled:
            ticks += prefill_ctx_doubled * laws.pair // 2
        return ticks

    @property
    def kv_ticks(self) -> int:
        """What one more token of context adds to a step, in ticks."""
        return self._laws.kv

    @property
    def ingest_ticks(self) -> int:
        """Ingestion in ticks."""
        return self._laws.ingest

    @cached_property
    def _laws(self) -> "_Laws":
        return _Laws(
            host=_ticks(self.host_ns),
            flat_tokens=self.dense_flat_tokens,
            flat=_ticks(self.dense_flat_ns),
            token=_ticks(self.dense_ns_per_token),
            decode_flat=_ticks(self.decode_flat_ns),
            decode_seq=_ticks(self.decode_seq_ns),
            kv=_ticks(self.decode_kv_ns_per_token),
            pair=_ticks(self.prefill_attention_ns_per_token_ctx),
            ingest=_ticks(self.ingest_ns),
            join=_ticks(self.join_ns),
        )

    def decode_ns(self, batch: int, context_tokens: int) -> int:
        """Time between two tokens of each of `batch` sequences, ns."""
        return self.step_ns(batch, batch * context_tokens)

    def prefill_ns(self, prompt_tokens: int) -> int:
        """Time of reading one prompt in one step, with nothing beside it, ns."""
        return self.step_ns(0, 0, prompt_tokens, prompt_tokens**2 / 2)

    def to_json(self) -> dict[str, Any]:
        """The coefficients by name."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any], where: str = "step profile") -> "StepProfile":
        """A profile of what `to_json` gave.

        Raises:
            ConfigError: A key is unknown, the name is missing, or a value is of the wrong type.
        """
        known = {field.name: field for field in dataclasses.fields(cls)}
        for key, value in document.items():
            if key not in known:
                raise ConfigError(f"{where}: unknown key {key!r}; known: {', '.join(known)}")
            text = key in {"name", "source"}
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if isinstance(value, str) != text or not (text or number):
                kind = "text" if text else "a number"
                raise ConfigError(f"{where}: {key} must be {kind}, not {value!r}")
        if "name" not in document:
            raise ConfigError(f"{where}: it has no name; add the key 'name'")
        return cls(**document)


@dataclass(frozen=True, slots=True)
class _Laws:
    """The coefficients in ticks."""

    host: int
    flat_tokens: int
    flat: int
    token: int
    decode_flat: int
    decode_seq: int
    kv: int
    pair: int
    ingest: int
    join: int

    def dense(self, tokens: int) -> int:
        return self.flat + self.token * max(tokens - self.flat_tokens, 0)


def _ticks(ns: float) -> int:
    return round(ns * TICKS_PER_NS)


def save_profile(profile: StepProfile, path: Path) -> None:
    """Write a profile to a JSON file of its own."""
    path.write_text(json.dumps(profile.to_json(), indent=2) + "\n", encoding="utf-8")


def load_profile(path: Path) -> StepProfile:
    """Read a profile from a JSON file.

    Raises:
        ConfigError: The file cannot be read, is no JSON object, or is no profile.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: cannot be read as a step profile ({error}); `slalom calibrate` writes one"
        ) from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: a step profile is a JSON object of coefficients")
    return StepProfile.from_json(document, str(path))
