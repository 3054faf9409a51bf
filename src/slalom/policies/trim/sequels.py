"""Which tasks' answers are gone on from: there, a refusal costs more than the request itself.

Owns the share of answers that a later prompt contains and continues, by task. An agent whose step
is refused makes none of the steps that would have followed. Called by `planner`.
"""

from collections import OrderedDict

from slalom.core.request import Request

#: Answers that may still be gone on from, and tasks that are known.
_ANSWERS_MAX = 8_192
_TASKS_MAX = 256
#: Answers after which an old one counts 1/e, and how many it takes to judge.
_MEMORY = 100.0
_JUDGED_FROM = 8.0
#: From this share on a refused request takes another one with it, on average.
_OFTEN = 0.5


class Sequels:
    """What follows answers."""

    __slots__ = ("_prompts", "_tasks")

    def __init__(self) -> None:
        #: Prefix of an answered request -> its task and prompt tokens.
        self._prompts: OrderedDict[str, tuple[str, int]] = OrderedDict()
        #: task -> answers, and those that were gone on from.
        self._tasks: dict[str, list[float]] = {}

    def __repr__(self) -> str:
        return f"Sequels(tasks={len(self._tasks)}, answers={len(self._prompts)})"

    def asked(self, request: Request) -> None:
        """A request has come: does it go on from an answer?"""
        if not request.prefix_tokens:
            return
        task, prompt_tokens = self._prompts.pop(
            request.prefix_from or request.prefix, (request.task, request.prefix_tokens)
        )
        if request.prefix_tokens > prompt_tokens and task in self._tasks:
            self._tasks[task][1] += 1.0

    def answered(self, request: Request) -> None:
        """A request has got its whole answer."""
        if not request.prefix:
            return
        self._prompts[request.prefix] = (request.task, request.prompt_tokens)
        self._prompts.move_to_end(request.prefix)
        if len(self._prompts) > _ANSWERS_MAX:
            self._prompts.popitem(last=False)
        counts = self._tasks.get(request.task)
        if counts is None:
            if len(self._tasks) >= _TASKS_MAX:
                del self._tasks[next(iter(self._tasks))]
            counts = self._tasks[request.task] = [0.0, 0.0]
        keep = 1.0 - 1.0 / _MEMORY
        counts[0] = counts[0] * keep + 1.0
        counts[1] *= keep

    def expected(self, request: Request) -> bool:
        """Whether more is to follow an answer to a request than not."""
        counts = self._tasks.get(request.task)
        if counts is None or not request.prefix or counts[0] < _JUDGED_FROM:
            return False
        return counts[1] >= _OFTEN * counts[0]
