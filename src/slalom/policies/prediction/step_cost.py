"""How long the steps of a model's engine take, learned from what its attempts tell.

Owns the fit of one model: non-negative least squares over spans, with a memory for each kind of
step (how many sequences, with a prompt or without), so that plenty of one kind drowns no other.
When known kinds suddenly take another time, all are taken to have changed by the same factor: a
slow-down shows in what runs now, and holds for what does not. Called by `predictor`.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from math import exp, inf, log
from operator import mul

from slalom.core.planning import ActiveView
from slalom.core.request import ModelSpec
from slalom.policies.prediction.cost_terms import (
    BESIDE,
    DECODING,
    DEFAULT_COST,
    STEP_MIN_NS,
    TERMS,
    bend_of,
    cost_of,
    terms_of,
    typical_terms,
)
from slalom.policies.prediction.heads import Heads
from slalom.policies.prediction.kinds import DISCOUNTS_MAX, Kind, believe_the_newer, noise_of
from slalom.policies.prediction.least_squares import Sums, join, product, solve
from slalom.policies.prediction.replica_path import (
    FIRST_WEIGHT,
    SPAN_NS,
    Lived,
    Reading,
    ReplicaPath,
    Run,
    Span,
)
from slalom.units import MS

#: What a span is about; the last is an answer that came as a whole.
_PLAIN, _WITH_PROMPT, _FIRST, _WHOLE = range(4)
#: Weight of the newer spans of a kind after which an old one counts 1/e: half a minute.
_MEMORY = 60.0
#: No kind of step counts more than this.
_KIND_MAX = 20.0
#: How much the shape of a prior counts against spans: what a calibration says of a term, what a
#: mere default does or nothing at all.
_RIDGE_TOLD, _RIDGE_DEFAULT = 0.2, 0.02
#: Spans that stray much say less of it: by how much the pull grows with their mean square.
_RIDGE_NOISE = 50.0
#: How much a prior's scale counts.
_SCALE_RIDGE = 0.1
#: A fit is made at most so often, but for the first ones; more rarely while it is good.
_FIT_EVERY_NS = 250 * MS
_GOOD_FIT_EVERY_NS = 1_000 * MS
_GOOD = 0.03
_FIRST_FITS = 20
#: A span that is off by more than this, and by more than the kind's usual noise, loses weight.
_OUTLIER, _OUTLIER_SPREADS = 0.1, 3.0
#: A span of a known kind is odd if it is off by so much (a logarithm) against the kind's past.
_ODD, _ODD_SPREADS = 0.15, 4.0
#: Of the latest spans, by weight and at least so many, such a share must be odd in the same way
#: before all kinds are taken for changed.
_LATEST_WEIGHT, _LATEST_MIN, _LATEST_ODD = 2.0, 5, 0.75
#: Weight from which on a kind is known.
_KNOWN_WEIGHT = 2.0
#: What spans from before a change count after it.
_AFTER_CHANGE = 0.25
#: Memory of the noise of a kind, and of the error that is shown.
_SPREAD_MEMORY, _SHOWN = 10.0, 10.0
#: What was read before shows in the time to a first token if reading it takes so many steps; a
#: share that far from a half is taken for all or nothing.
_SHOWS_STEPS, _SHOWS_CLEARLY = 2.0, 0.2
#: Observed and expected times are compared within this factor.
_FACTOR_MAX = 8.0


class StepTimes:
    """The fit of one model.

    Args:
        spec: The model; its step cost is the prior, if it has one.
        learns: Whether spans change anything.
        heads: What its replicas have read before, where another fit of the model keeps that.
    """

    def __init__(self, spec: ModelSpec, *, learns: bool = True, heads: Heads | None = None) -> None:
        self.learns = learns
        #: Whether its replicas have devices of their own: they do not run beside each other.
        self._is_spread = len(spec.homes) > 1
        prior = spec.step_cost or DEFAULT_COST
        self._free_tokens = prior.free_tokens
        self._bend = bend_of(prior, spec.places)
        terms = terms_of(prior, self._bend)
        typical = typical_terms(prior, self._bend)
        self._scales = [term or other for term, other in zip(terms, typical, strict=True)]
        self._prior = [1.0 if term else 0.0 for term in terms]
        self._ridge = [_RIDGE_DEFAULT] * TERMS
        if spec.step_cost:
            # What a calibration found of decoding it also found where that is nothing.
            self._ridge = [
                _RIDGE_TOLD if term or at < DECODING else _RIDGE_DEFAULT
                for at, term in enumerate(terms)
            ]
        self._fit = list(self._prior)
        self._terms = terms
        self._kinds: dict[tuple[int, int], Kind] = {}
        self._paths: dict[str, ReplicaPath] = {}
        #: What its replicas have read before.
        self.heads = heads or Heads()
        #: How far the latest spans of known kinds strayed if they were odd, else 0; weights.
        self._latest: deque[tuple[float, float]] = deque()
        self._latest_weight = 0.0
        self._fits = 0
        self._fit_ns = -1
        self._is_stale = False
        #: Attempts that began before this were expected by a fit that knew nothing yet, or by one
        #: of before a change; what came of that says nothing of the present one.
        self._sure_ns = 0.0 if not learns else inf
        self._changes_settled = 0
        #: The present answer; with what each attempt beside adds to a step.
        self.cost = prior
        self.beside_ns = 0.0
        #: Mean relative error of what was expected of spans lately, and of first tokens; -1 before
        #: there were any.
        self.error = -1.0
        self.first_error = -1.0
        #: Spans seen, by weight.
        self.seen = 0.0
        #: Times that all kinds of step were found changed.
        self.changes = 0

    # -- what happens ---------------------------------------------------------------------

    def start(
        self,
        attempt: ActiveView,
        beside: int,
        now_ns: int,
        *,
        expected_tokens: float = 0.0,
        teaches: bool = True,
    ) -> list[Lived]:
        """An attempt was dispatched; what ended before is settled now.

        Args:
            attempt: Which.
            beside: Attempts that run beside its replica.
            now_ns: Now.
            expected_tokens: That it is thought to write.
            teaches: Whether anything is learned of it itself.
        """
        path = self._path(attempt.replica_id)
        others = self._beside(path, beside)
        known = self.heads.begin(attempt)
        return self._read(
            path.start(
                attempt,
                others,
                self.cost,
                now_ns,
                expected_tokens=expected_tokens,
                known=known,
                teaches=teaches,
            )
        )

    def told(self, attempt: ActiveView, beside: int, now_ns: int) -> list[Lived]:
        """An attempt has produced tokens."""
        self.heads.told(attempt)
        path = self._path(attempt.replica_id)
        return self._read(path.told(attempt, self._beside(path, beside), self.cost, now_ns))

    def over(self, attempt: ActiveView, beside: int, now_ns: int, *, finished: bool) -> list[Lived]:
        """An attempt has given its place back."""
        self.heads.over(attempt, finished=finished)
        path = self._path(attempt.replica_id)
        others = self._beside(path, beside)
        return self._read(path.over(attempt, others, self.cost, now_ns, finished=finished))

    def _path(self, replica_id: str) -> ReplicaPath:
        path = self._paths.get(replica_id)
        if path is None:
            most = self._bend if self.cost.sequence_sq_ns < 0 else inf
            path = self._paths[replica_id] = ReplicaPath(most, self._free_tokens)
        return path

    def _beside(self, path: ReplicaPath, beside: int) -> int:
        if len(self._paths) == 1 or self._is_spread:
            return beside
        return beside + sum(len(other) for other in self._paths.values() if other is not path)

    def _read(self, readings: list[Reading]) -> list[Lived]:
        if not readings:
            return []
        lived = []
        for reading in readings:
            run = reading.run
            if reading.span is not None:
                span = reading.span
                if span.is_first and run.known.tokens and run.reads_alone:
                    span = self._found(run, span)
                run.expected_ns += self._learn(span, reading.at_ns)
                if span.is_first:
                    run.expected_first_ns = run.expected_ns
                self._settle(reading.at_ns)
            if reading.is_end and run.started_ns >= self._sure_ns:
                lived.append(Lived(run, reading.at_ns - run.started_ns))
        if self.learns and self._is_stale:
            now_ns = readings[-1].at_ns
            every_ns = _GOOD_FIT_EVERY_NS if self.error < _GOOD else _FIT_EVERY_NS
            if self._fits < _FIRST_FITS or now_ns >= self._fit_ns + every_ns:
                self._refit(now_ns)
        return lived

    def _settle(self, now_ns: int) -> None:
        """Note since when the fit is one to be judged."""
        if not self.learns or self.seen < _KNOWN_WEIGHT:
            return
        if self._sure_ns == inf or self._changes_settled < self.changes:
            self._sure_ns = now_ns
            self._changes_settled = self.changes

    def _found(self, run: Run, span: Span) -> Span:
        """The span of a first token, with what was really read if that shows in its time."""
        known, prompt = run.known, run.prompt_tokens
        whole_ns = self.cost.reading_ns(prompt, span.sequences)
        least_ns = self.cost.reading_ns(prompt, span.sequences, known.tokens)
        step_ns = self.cost.of(span.sequences + 1.0, span.context_tokens, 0.0)
        if whole_ns - least_ns < _SHOWS_STEPS * step_ns:
            return span
        expected_ns = self.cost.reading_ns(prompt, span.sequences, known.expected)
        read_ns = span.took_ns - self._first_ns(span) + expected_ns
        share = min(max((whole_ns - read_ns) / (whole_ns - least_ns), 0.0), 1.0)
        self.heads.guessed(known, share)
        if abs(share - 0.5) < _SHOWS_CLEARLY:
            return replace(span, weight=0.0)
        there = known.tokens if share > 0.5 else 0.0
        more = known.expected - there
        pairs = (known.expected * known.expected - there * there) * 0.5
        return replace(
            span,
            prompt_tokens=max(span.prompt_tokens + more, 0.0),
            prompt_pairs=max(span.prompt_pairs + pairs, 0.0),
            weight=FIRST_WEIGHT,
        )

    # -- the fit --------------------------------------------------------------------------

    def _learn(self, span: Span, now_ns: int) -> float:
        """Take a span in; what it should have taken."""
        row, known_ns, what = self._row(span), 0.0, _PLAIN
        if span.is_first and span.steps > 1:
            row, what = (*row[:7], 1.0, 0.0), _WHOLE
        elif span.is_first:
            row, known_ns = self._first_row(row, span)
            what = _FIRST
        elif span.prompt_tokens > 0.0:
            what = _WITH_PROMPT
        expected_ns = max(known_ns + _dot(row, self._terms), STEP_MIN_NS)
        if span.weight <= 0.0:
            return expected_ns
        took_ns = float(span.took_ns)
        self.seen += span.weight
        self._keep_error(span, min(abs(took_ns / expected_ns - 1.0), 1.0))
        if not self.learns:
            return expected_ns
        scale = min(max(expected_ns, took_ns / _FACTOR_MAX), took_ns * _FACTOR_MAX)
        key = (int(span.sequences + 0.5).bit_length(), what)
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = Kind()
        kind.seen_ns = now_ns
        share = self._trust(kind, log(took_ns / scale), span)
        normed = [value * size / scale for value, size in zip(row, self._scales, strict=True)]
        kind.sums.add(normed, (took_ns - known_ns) / scale, share * span.weight, _MEMORY)
        self._is_stale = True
        return expected_ns

    def _first_row(self, row: tuple[float, ...], span: Span) -> tuple[tuple[float, ...], float]:
        """First tokens tell of prompts and waits; what a step takes is seen better later."""
        known_ns = _dot(row[:4], self._terms) + row[BESIDE] * self._terms[BESIDE]
        waited = min(span.thought_steps, 1.0) * known_ns
        return (0.0, 0.0, 0.0, 0.0, row[4], row[5], 0.0, 1.0, waited), known_ns

    def _first_ns(self, span: Span) -> float:
        """What a first token should have taken."""
        row, known_ns = self._first_row(self._row(span), span)
        return known_ns + _dot(row, self._terms)

    def _row(self, span: Span) -> tuple[float, ...]:
        steps = span.steps
        bent = span.sequences_sq / self._bend
        return (
            steps,
            steps * (2.0 * span.sequences - bent),
            steps * bent,
            steps * span.context_tokens,
            span.prompt_tokens,
            span.prompt_pairs,
            steps * span.beside,
            0.0,
            0.0,
        )

    def _keep_error(self, span: Span, share: float) -> None:
        if span.is_first:
            memory = 1.0 / _SHOWN if self.first_error >= 0.0 else 1.0
            self.first_error += (share - self.first_error) * memory
        else:
            # Short spans say little: what disturbs a machine hits them or misses them.
            memory = min(span.took_ns / SPAN_NS, 1.0) / _SHOWN if self.error >= 0.0 else 1.0
            self.error += (share - self.error) * memory

    def _trust(self, kind: Kind, off: float, span: Span) -> float:
        """Share of a span's weight that counts; notices when everything has changed."""
        stray = off - kind.rule
        bound = max(_OUTLIER, _OUTLIER_SPREADS * kind.spread)
        if not span.is_first and kind.sums.weight >= _KNOWN_WEIGHT:
            odd = abs(stray) > max(_ODD, _ODD_SPREADS * kind.spread)
            self._note(stray if odd else 0.0, span.weight)
            if odd and self._has_changed():
                return 1.0
        spread = min(abs(stray), 2.0 * bound)
        kind.spread += (spread - kind.spread) * span.weight / _SPREAD_MEMORY
        return min(1.0, bound / abs(stray)) if stray else 1.0

    def _note(self, stray: float, weight: float) -> None:
        latest = self._latest
        latest.append((stray, weight))
        self._latest_weight += weight
        while len(latest) > _LATEST_MIN and self._latest_weight - latest[0][1] >= _LATEST_WEIGHT:
            self._latest_weight -= latest.popleft()[1]

    def _has_changed(self) -> bool:
        """Take all that is known for so much longer, if the latest spans say so."""
        if len(self._latest) < _LATEST_MIN or self._latest_weight < _LATEST_WEIGHT:
            return False
        slower = sum(weight for stray, weight in self._latest if stray > 0.0)
        faster = sum(weight for stray, weight in self._latest if stray < 0.0)
        if max(slower, faster) < _LATEST_ODD * self._latest_weight:
            return False
        odd = sorted(stray for stray, _ in self._latest if stray * (slower - faster) > 0.0)
        factor = exp(odd[len(odd) // 2])
        self.changes += 1
        for kind in self._kinds.values():
            kind.sums.scale(factor, _AFTER_CHANGE)
        self._latest.clear()
        self._latest_weight = 0.0
        self._fit_ns = -_GOOD_FIT_EVERY_NS
        return True

    def _refit(self, now_ns: int) -> None:
        steps = [kind for (_, what), kind in self._kinds.items() if what != _FIRST]
        first = [kind for (_, what), kind in self._kinds.items() if what == _FIRST]
        self._solve(steps, first)
        for _ in range(DISCOUNTS_MAX):
            if not believe_the_newer(steps, now_ns):
                break
            self._solve(steps, first)
        self._fits += 1
        self._fit_ns = now_ns
        self._is_stale = False
        self._publish()

    def _solve(self, steps: Sequence[Kind], first: Sequence[Kind]) -> None:
        """Fit what is known of steps, and of first tokens."""
        sums = join([Sums(TERMS), *(kind.sums for kind in steps)], _KIND_MAX)
        along = _dot(self._prior, sums.vector)
        square = product(sums, self._prior, self._prior)
        scale = (along + _SCALE_RIDGE) / (square + _SCALE_RIDGE)
        toward = [scale * value for value in self._prior]
        toward[-1] = self._prior[-1]  # a share, no time
        sums = join([sums, join([Sums(TERMS), *(kind.sums for kind in first)], _KIND_MAX)], inf)
        noise = noise_of(steps)
        ridge = [pull * (1.0 + noise * _RIDGE_NOISE) for pull in self._ridge]
        self._fit = solve(sums, ridge, toward)
        self._terms = [value * size for value, size in zip(self._fit, self._scales, strict=True)]
        for kind in steps:
            told = product(kind.sums, self._fit, self._fit)
            seen = _dot(self._fit, kind.sums.vector)
            kind.rule = log(seen / told) if seen > 0.0 and told > 0.0 else 0.0

    def _publish(self) -> None:
        self.beside_ns = self._terms[BESIDE]
        self.cost = cost_of(self._terms, self._bend, self._free_tokens)


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    return float(sum(map(mul, left, right)))
