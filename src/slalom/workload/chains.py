"""Chains of calls as people describe them: named steps, what follows which, one deadline.

Owns the graph: whether it makes sense, how long its longest way is, and what is still to come
after a step. Pure and shared: the configuration's templates, the gateway's own chains and the
twin's loads are made of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from slalom.core.chain import STEPS_MAX, Later, rough_rest_ns
from slalom.units import ms_to_ns
from slalom.workload.tasks import TaskSpec


@dataclass(frozen=True, slots=True)
class StepSpec:
    """One call of a chain."""

    name: str
    #: Id of the model that is going to be asked.
    model: str
    task: str
    #: Of its prompt; 0 for the prompt and the answer of the step before it.
    prompt_tokens: int = 0
    #: Expected length of its answer, tokens; 0 for what its task expects.
    output_tokens: int = 0
    #: Between the answer before it and this call, ms.
    gap_ms: float = 0.0
    #: Steps of which one follows; None for the next in the list, empty for the end.
    then: tuple[str, ...] | None = None


class ChainSpec:
    """A chain described; build it with `ChainSpec.of` where the description may be wrong.

    Args:
        name: Of the template; empty for a chain described by its client.
        steps: In order; the first begins the chain.
        deadline_ms: From the first call to the last answer; 0 for none.
    """

    __slots__ = ("_rests", "_then", "deadline_ms", "name", "steps")

    def __init__(self, name: str, steps: Sequence[StepSpec], deadline_ms: float = 0.0) -> None:
        self.name = name
        self.steps: Mapping[str, StepSpec] = MappingProxyType({one.name: one for one in steps})
        self.deadline_ms = deadline_ms
        self._then = _following(steps)
        #: Step -> the steps of the longest way behind it.
        self._rests: dict[str, tuple[StepSpec, ...]] = {}
        for one in steps:
            self._rest(one.name)

    def __repr__(self) -> str:
        return f"ChainSpec({self.name}, steps={len(self.steps)})"

    @property
    def first(self) -> str:
        """The step with which it begins."""
        return next(iter(self.steps))

    @property
    def length(self) -> int:
        """Calls on the longest way."""
        return 1 + len(self._rests[self.first])

    def after(self, step: str) -> tuple[StepSpec, ...]:
        """The steps of the longest way behind a step."""
        return self._rests[step]

    def next_of(self, step: str) -> tuple[str, ...]:
        """Steps of which one follows."""
        return self._then[step]

    def _rest(self, name: str) -> tuple[StepSpec, ...]:
        if name not in self._rests:
            ways = [(self.steps[one], *self._rest(one)) for one in self._then[name]]
            self._rests[name] = max(ways, key=_length, default=())
        return self._rests[name]


def problem_of(steps: Sequence[StepSpec]) -> str:
    """What is wrong with a chain's steps, in words; empty if nothing is."""
    if not 1 <= len(steps) <= STEPS_MAX:
        return f"a chain has 1 to {STEPS_MAX} steps, not {len(steps)}"
    names = [one.name for one in steps]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        return f"two steps are called {twice!r}: give each its own name"
    following = _following(steps)
    for name, then in following.items():
        unknown = next((one for one in then if one not in following), None)
        if unknown is not None:
            return f"step {name!r} is followed by {unknown!r}, which is no step of this chain"
    circle = _circle(following)
    if circle:
        return (
            f"its steps go round in a circle ({' -> '.join(circle)}): write a loop out, as often "
            "as it may be run"
        )
    reached, ways = set(), [names[0]]
    while ways:
        at = ways.pop()
        reached.add(at)
        ways += [one for one in following[at] if one not in reached]
    lost = next((name for name in names if name not in reached), None)
    return "" if lost is None else f"no step leads to {lost!r}: name it in 'then' of another"


def later_of(
    steps: Sequence[StepSpec], tasks: Mapping[str, TaskSpec], prompt_tokens: int, answer_tokens: int
) -> tuple[Later, ...]:
    """Steps as the scheduler is told of them.

    Args:
        steps: What follows a call.
        tasks: By name; what a step leaves open comes from its task.
        prompt_tokens: Of that call.
        answer_tokens: Expected of it.
    """
    found = []
    for one in steps:
        prompt_tokens = one.prompt_tokens or prompt_tokens + answer_tokens
        task = tasks.get(one.task)
        answer_tokens = one.output_tokens or (task.predicted_for(prompt_tokens) if task else 0)
        gap_ns = ms_to_ns(one.gap_ms)
        found.append(Later(one.model, one.task, prompt_tokens, answer_tokens, gap_ns=gap_ns))
    return tuple(found)


def repeated(later: Later, times: int) -> tuple[Later, ...]:
    """So many calls like one, each with what was said before in its prompt."""
    grown = (
        replace(later, prompt_tokens=later.prompt_tokens + number * later.predicted_tokens)
        for number in range(1, times + 1)
    )
    return tuple(grown)


def _following(steps: Sequence[StepSpec]) -> dict[str, tuple[str, ...]]:
    found = {}
    for place, one in enumerate(steps):
        default = (steps[place + 1].name,) if place + 1 < len(steps) else ()
        found[one.name] = default if one.then is None else one.then
    return found


def _circle(following: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Steps that lead to themselves, in order; empty if none does."""
    done: set[str] = set()
    for start in following:
        way: list[str] = []
        branches = [iter((start,))]
        while branches:
            one = next(branches[-1], None)
            if one is None:
                branches.pop()
                if way:
                    done.add(way.pop())
            elif one in way:
                return [*way[way.index(one) :], one]
            elif one not in done:
                way.append(one)
                branches.append(iter(following[one]))
    return []


def _length(way: Sequence[StepSpec]) -> tuple[int, int]:
    """The longest way is that which takes longest, by rough figures."""
    rough = [
        Later(
            one.model, one.task, one.prompt_tokens, one.output_tokens, gap_ns=ms_to_ns(one.gap_ms)
        )
        for one in way
    ]
    return rough_rest_ns(rough), len(way)
