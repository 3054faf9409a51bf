"""How many tokens an answer has still to get: what answers like it had, given what is there.

Owns distributions of lengths, and of the ratio of answer to prompt, for finer and coarser groups
of requests, and the choice among them and what the request itself came with: whichever was less
wrong of late. Sees lengths of whole answers; of those that still grow only that they have outgrown
what their request came with. Called by `predictor`.
"""

from collections import OrderedDict
from enum import IntEnum

from slalom.core.request import Request
from slalom.policies.prediction.histogram import Histogram
from slalom.policies.prediction.stretch import LONGER_SHARE, Stretch

#: A histogram says something from so many answers on.
_ANSWERS_MIN = 8.0
#: A source is trusted after so many guesses.
_GUESSES_MIN = 4
#: Groups that are remembered; the one longest unused is forgotten.
_GROUPS_MAX = 512
#: Memory of the errors by which a source is chosen, answers.
_ERROR_MEMORY = 30
#: What the request came with must be better by this share than what others had: it cannot tell
#: how much is still to come of an answer that is under way.
_TOLD_GAIN_MIN = 0.15
#: A ratio is counted in these, so that its bins are as fine as those of lengths.
_RATIO_UNITS = 256.0

#: Questions whose answers are kept until something changes.
_ASKED_MAX = 64

_Group = tuple[str | int, ...]
#: All that an answer depends on: task, model, tokens of prompt, limit, told length and answer so
#: far, and the share.
_Question = tuple[str, str, int, int, int, int, float]


class Source(IntEnum):
    """Where a guess comes from."""

    #: The request itself.
    TOLD = 0
    #: Answers of the same task and model, …
    TASK = 1
    #: … which were allowed about as many tokens, …
    LIMIT = 2
    #: … and had prompts of about the same length.
    PROMPT = 3
    #: The ratio of answer to prompt of the same task and model.
    RATIO = 4


_SOURCES = tuple(Source)
#: Those that learn from answers.
_LEARNED = _SOURCES[1:]


class _Task:
    """The sources of one task and model: errors and choice."""

    __slots__ = ("errors", "guesses", "order", "stretch")

    def __init__(self) -> None:
        #: Mean absolute errors of late, tokens; guesses so far.
        self.errors = [0.0] * len(_SOURCES)
        self.guesses = [0] * len(_SOURCES)
        #: The sources to ask, best first.
        self.order: tuple[Source, ...] = (Source.TOLD,)
        #: What answers are of what their requests came with.
        self.stretch = Stretch()

    def judge(self, source: Source, error: float) -> None:
        self.guesses[source] += 1
        memory = min(self.guesses[source], _ERROR_MEMORY)
        self.errors[source] += (error - self.errors[source]) / memory

    def choose(self) -> None:
        """Put the sources that are trusted in order."""
        errors, guesses = self.errors, self.guesses
        told = errors[Source.TOLD]
        best = [
            source
            for source in _LEARNED
            if guesses[source] >= _GUESSES_MIN and told >= errors[source] * (1.0 - _TOLD_GAIN_MIN)
        ]
        best.sort(key=errors.__getitem__)
        self.order = (*best, Source.TOLD)


class Lengths:
    """What is known of the lengths of answers.

    Args:
        learns: Whether answers change anything.
    """

    def __init__(self, *, learns: bool = True) -> None:
        self._learns = learns
        self._groups: OrderedDict[_Group, Histogram] = OrderedDict()
        self._tasks: OrderedDict[_Group, _Task] = OrderedDict()
        #: The same for all tasks of a model: one that is wordier than thought is so in most tasks.
        self._stretches: OrderedDict[str, Stretch] = OrderedDict()
        #: Grows whenever the answers that still grow have changed what is expected of others.
        self.version = 0
        #: What was asked since anything changed, and the answers: a request is asked about several
        #: times while it comes and starts.
        self._asked: dict[_Question, tuple[Source, float]] = {}

    def __repr__(self) -> str:
        return f"Lengths(tasks={len(self._tasks)}, groups={len(self._groups)})"

    def add(self, request: Request, tokens: int) -> None:
        """Note how long a whole answer was, tokens."""
        if not self._learns or tokens <= 0:
            return
        task = self._task(request)
        self._outgrow(request, task, tokens, whole=True)
        # As it came: one that was corrected is no better for it.
        told = _rest(request, 0, float(request.predicted_tokens or request.max_tokens))
        task.judge(Source.TOLD, abs(told - tokens))
        keys = [(source, _key(source, request)) for source in _LEARNED]
        for source, key in keys:
            guess = _by_others(self._groups.get(key), source, request, 0, -1.0)
            if guess is not None:
                task.judge(source, abs(guess - tokens))
        task.choose()
        for source, key in keys:
            if source is not Source.RATIO:
                self._group(key).add(float(tokens))
            elif request.prompt_tokens:
                self._group(key).add(tokens / request.prompt_tokens * _RATIO_UNITS)

    def grown(self, request: Request, tokens: int) -> None:
        """Note that an answer has got so many tokens and has not ended, or was broken off there."""
        if self._learns and tokens > 0:
            self._outgrow(request, self._task(request), tokens, whole=False)

    def source(self, request: Request) -> Source:
        """Where a guess for this request comes from."""
        return self._ask(request, 0, -1.0)[0]

    def remaining(self, request: Request, produced_tokens: int) -> float:
        """Tokens still to come on average; from 1 to what the request allows.

        Args:
            request: The request.
            produced_tokens: What its answer has got.
        """
        return self._ask(request, produced_tokens, -1.0)[1]

    def quantile(self, request: Request, produced_tokens: int, share: float) -> float:
        """Tokens still to come that a share of such answers does not exceed."""
        source, found = self._ask(request, produced_tokens, share)
        if source is not Source.TOLD:
            return found
        task = self._tasks.get((request.task, request.model))
        error = task.errors[Source.TOLD] if task else 0.0
        stretch = self._stretch(request, task)
        if stretch is not None:
            error = stretch.deviation * request.predicted_tokens
        # A mean absolute error is 0.7 to 0.8 of a standard deviation.
        return _within(request, produced_tokens, found + (share - 0.5) * 3.0 * error)

    # -- inside ---------------------------------------------------------------------------

    def _ask(self, request: Request, produced_tokens: int, share: float) -> tuple[Source, float]:
        """The best source that has an answer, and that."""
        key = (
            request.task,
            request.model,
            request.prompt_tokens,
            request.max_tokens,
            request.predicted_tokens,
            produced_tokens,
            share,
        )
        found = self._asked.get(key)
        if found is None:
            if len(self._asked) >= _ASKED_MAX:
                self._asked.clear()
            found = self._asked[key] = self._find(request, produced_tokens, share)
        return found

    def _find(self, request: Request, produced_tokens: int, share: float) -> tuple[Source, float]:
        task = self._tasks.get((request.task, request.model))
        for source in task.order if task else ():
            guess = self._guess(source, request, produced_tokens, share)
            if guess is not None:
                return source, guess
        return Source.TOLD, self._by_told(request, produced_tokens, task)

    def _by_told(self, request: Request, produced_tokens: int, task: _Task | None) -> float:
        """Tokens still to come by what the request came with, and by how far others were off."""
        if not request.predicted_tokens:
            return _rest(request, produced_tokens, float(request.max_tokens))
        stretch = self._stretch(request, task)
        if stretch is None:
            return _rest(request, produced_tokens, float(request.predicted_tokens))
        whole_tokens = request.predicted_tokens * stretch.factor
        return _rest(request, produced_tokens, whole_tokens)

    def _stretch(self, request: Request, task: _Task | None) -> Stretch | None:
        """How far what requests came with was off: of the same task, or of the model."""
        if task is not None and task.stretch:
            return task.stretch
        return self._stretches.get(request.model)

    def _outgrow(self, request: Request, task: _Task, tokens: int, *, whole: bool) -> None:
        """Compare an answer with what its request came with."""
        self._asked.clear()
        if not request.predicted_tokens:
            return
        model = self._stretches.get(request.model)
        if model is None:
            model = self._stretches[request.model] = Stretch()
            if len(self._stretches) > _GROUPS_MAX:
                self._stretches.popitem(last=False)
        share = tokens / request.predicted_tokens
        name, own = request.id, task.stretch
        is_news = model.note(name, share, whole=whole)
        if not (own.note(name, share, whole=whole) or is_news) or task.order[0] is not Source.TOLD:
            return
        learn = [own]
        if model.learn(1.0):
            self.version += 1
            learn = [one.stretch for key, one in self._tasks.items() if key[1] == request.model]
        for one in learn:
            self.version += one.learn(model.mean)

    def _guess(
        self, source: Source, request: Request, produced_tokens: int, share: float
    ) -> float | None:
        """Tokens still to come by one source, a quantile if `share` is not negative."""
        if source is Source.TOLD:
            task = self._tasks.get((request.task, request.model))
            return self._by_told(request, produced_tokens, task)
        histogram = self._groups.get(_key(source, request))
        return _by_others(histogram, source, request, produced_tokens, share)

    def _task(self, request: Request) -> _Task:
        key = (request.task, request.model)
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = _Task()
            if len(self._tasks) > _GROUPS_MAX:
                self._tasks.popitem(last=False)
        else:
            self._tasks.move_to_end(key)
        return task

    def _group(self, key: _Group) -> Histogram:
        histogram = self._groups.get(key)
        if histogram is None:
            histogram = self._groups[key] = Histogram()
            if len(self._groups) > _GROUPS_MAX:
                self._groups.popitem(last=False)
        else:
            self._groups.move_to_end(key)
        return histogram


def _by_others(
    histogram: Histogram | None,
    source: Source,
    request: Request,
    produced_tokens: int,
    share: float,
) -> float | None:
    """Tokens still to come by what others had, a quantile if `share` is not negative."""
    if histogram is None or histogram.total < _ANSWERS_MIN:
        return None
    unit = 1.0
    if source is Source.RATIO:
        if not request.prompt_tokens:
            return None
        unit = request.prompt_tokens / _RATIO_UNITS
    if not produced_tokens and share < 0.0:
        return _rest(request, 0, histogram.mean() * unit)
    produced = produced_tokens / unit
    above, mean = histogram.beyond(produced)
    if not above:
        return _rest(request, produced_tokens, 0.0)
    whole = mean if share < 0.0 else histogram.quantile(share, produced)
    return _rest(request, produced_tokens, whole * unit)


def _key(source: Source, request: Request) -> _Group:
    if source is Source.LIMIT:
        return (source, request.task, request.model, request.max_tokens.bit_length())
    if source is Source.PROMPT:
        limit, prompt = request.max_tokens.bit_length(), request.prompt_tokens.bit_length()
        return (source, request.task, request.model, limit, prompt)
    return (source, request.task, request.model)


def _rest(request: Request, produced_tokens: int, whole_tokens: float) -> float:
    """What is still to come of an answer that is thought to be so long."""
    rest = whole_tokens - produced_tokens
    if rest <= 0.0:
        rest = produced_tokens * LONGER_SHARE
    return _within(request, produced_tokens, rest)


def _within(request: Request, produced_tokens: int, rest_tokens: float) -> float:
    return max(min(rest_tokens, float(request.max_tokens - produced_tokens)), 1.0)
