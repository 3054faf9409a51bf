"""The chains that clients have opened or begun: whose they are, how far they are, what follows.

Owns one bounded book, and the joining of what a call says with what is known of its chain. What
is planned by it is the scheduler's affair, which has a memory of its own. Called by `preparation`
and `inference` for calls, and by `chain_routes`.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from slalom.core.chain import STEPS_MAX, Later, Link
from slalom.core.request import Request
from slalom.errors import OverloadedError, RequestError
from slalom.gateway.chain_words import ChainWords
from slalom.units import SECOND, ms_to_ns
from slalom.workload.chains import ChainSpec, later_of, repeated
from slalom.workload.tasks import TaskSpec

#: Beginning of the ids that the server gives.
ID_HEAD = "chain_"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call stands in the graph of its chain; empty where there is none."""

    #: Name of the step, and of the template that the graph is of.
    step: str = ""
    template: str = ""


#: Of a call that is in no chain.
NO_PLACE = Place()


class OpenChain:
    """One chain as its client knows it."""

    __slots__ = (
        "abandoned",
        "deadline_ns",
        "done",
        "done_step",
        "heard_ns",
        "id",
        "is_opened",
        "key",
        "live",
        "opened_ns",
        "spec",
        "steps",
    )

    def __init__(self, key: str, chain_id: str, now_ns: int) -> None:
        self.key = key
        self.id = chain_id
        self.opened_ns = self.heard_ns = now_ns
        #: The graph of its steps, where that is known.
        self.spec: ChainSpec | None = None
        #: When the last answer is due; -1 for no deadline.
        self.deadline_ns = -1
        #: Calls in all, 0 where nobody knows; and those that have their answer.
        self.steps = 0
        self.done = 0
        #: Name of the last step that has its answer, where steps have names.
        self.done_step = ""
        #: Its requests under way -> their step's name.
        self.live: dict[str, str] = {}
        self.abandoned = False
        #: Whether its client opened it before any call.
        self.is_opened = False

    def __repr__(self) -> str:
        return f"OpenChain({self.id}, {self.done}/{self.steps})"

    @property
    def is_over(self) -> bool:
        """Whether no further call of it makes sense."""
        return self.abandoned or 0 < self.steps <= self.done

    def status(self, now_ns: int, idle_ns: int) -> str:
        """In a word, for its client."""
        if self.abandoned:
            return "abandoned"
        if self.is_over:
            return "done"
        if 0 <= self.deadline_ns < now_ns:
            return "late"
        return "idle" if not self.live and now_ns - self.heard_ns >= idle_ns else "open"

    def next_step(self) -> str:
        """Name of the step that is expected next; empty where steps have no names, or at the end.

        Of several that may follow, that on the longest way.
        """
        if self.spec is None or self.is_over:
            return ""
        if not self.done_step:
            return self.spec.first if not self.done else ""
        rest = self.spec.after(self.done_step)
        return rest[0].name if rest else ""


class Chains:
    """The book.

    Args:
        templates: Chains that calls may name, by name.
        tasks: By name.
        chains_max: Chains that are remembered.
        idle_ns: A chain of which nothing was heard for so long may be forgotten.
    """

    def __init__(
        self,
        templates: Mapping[str, ChainSpec],
        tasks: Mapping[str, TaskSpec],
        chains_max: int,
        idle_ns: int,
    ) -> None:
        self.templates = templates
        self.tasks = tasks
        self.idle_ns = idle_ns
        self._chains_max = chains_max
        self._chains: OrderedDict[str, OpenChain] = OrderedDict()

    def __len__(self) -> int:
        return len(self._chains)

    def __repr__(self) -> str:
        return f"<Chains count={len(self)}>"

    def all(self) -> list[OpenChain]:
        """Every chain that is remembered, the one left alone for longest first."""
        return list(self._chains.values())

    def find(self, key: str, chain_id: str) -> OpenChain:
        """A key's chain.

        Raises:
            RequestError: There is none of that id, or it is another key's.
        """
        chain = self._chains.get(chain_id)
        if chain is None or chain.key != key:
            raise RequestError(
                f"There is no chain {chain_id[:128]!r}: it was never opened with this key, or is "
                "over for so long that it was forgotten.",
                code="chain_not_found",
                param="id",
            )
        return chain

    def open(self, chain: OpenChain) -> None:
        """Remember a chain; one that is over makes room, else the one left alone for longest.

        Raises:
            OverloadedError: All chains that are remembered are under way.
        """
        if len(self._chains) >= self._chains_max:
            self._make_room(chain.opened_ns)
        self._chains[chain.id] = chain

    def _make_room(self, now_ns: int) -> None:
        for status in (("done", "abandoned"), ("late", "idle")):
            for chain in self._chains.values():
                if not chain.live and chain.status(now_ns, self.idle_ns) in status:
                    del self._chains[chain.id]
                    return
        raise OverloadedError(
            f"There are already {self._chains_max} chains under way (scheduler.chains_max).",
            retry_after_s=self.idle_ns // SECOND,
            code="too_many_chains",
        )

    # -- calls ----------------------------------------------------------------------------

    def linked(self, request: Request, words: ChainWords) -> tuple[Request, Place]:
        """A call with its place in its chain; changes nothing.

        Raises:
            RequestError: What the call says does not go with the chain: its id is another
                client's, it is over, there is no such step or template.
        """
        chain = self._known(request.key, words)
        spec = self._spec(chain, words)
        step_name = _step_name(chain, spec, words)
        steps = words.steps or (chain.steps if chain else 0)
        step = words.step or (chain.done + 1 if chain else 1)
        rest: tuple[Later, ...] = ()
        predicted = request.predicted_tokens
        if spec is not None and step_name:
            after = spec.after(step_name)
            rest = later_of(after, self.tasks, request.prompt_tokens, predicted)
            steps = step + len(after)
        elif steps > step:
            like = Later(request.model, request.task, request.prompt_tokens, predicted)
            rest = repeated(like, steps - step)
        if steps and step > steps:
            raise RequestError(
                f"This is call {step} of chain {words.id!r}, which has {steps}: raise steps with "
                "its calls, or open another chain.",
                code="chain_step_after_end",
                param="step",
            )
        deadline_ns = chain.deadline_ns if chain else -1
        if deadline_ns < 0:
            deadline_ms = words.deadline_ms or (spec.deadline_ms if spec is not None else 0.0)
            deadline_ns = request.arrived_ns + ms_to_ns(deadline_ms) if deadline_ms else -1
        link = Link(words.id, min(step, STEPS_MAX), steps, deadline_ns, rest)
        return replace(request, link=link), Place(step_name, words.template)

    def _known(self, key: str, words: ChainWords) -> OpenChain | None:
        chain = self._chains.get(words.id)
        if chain is None:
            if words.id.startswith(ID_HEAD):
                self.find(key, words.id)
            return None
        if chain.key != key:
            raise RequestError(
                f"The chain id {words.id!r} is in use by another client: choose one that nobody "
                "else has, such as a UUID, or let POST /v1/chains choose.",
                code="chain_taken",
                param="id",
            )
        if chain.abandoned or (chain.is_over and words.steps <= chain.done):
            status = "was abandoned" if chain.abandoned else f"has had all its {chain.steps} calls"
            code = "chain_over" if chain.abandoned else "chain_step_after_end"
            raise RequestError(
                f"Chain {words.id!r} {status}: open another one.", code=code, param="id"
            )
        return chain

    def _spec(self, chain: OpenChain | None, words: ChainWords) -> ChainSpec | None:
        if chain is not None and chain.spec is not None:
            return chain.spec
        return self.template(words.template) if words.template else None

    def template(self, name: str) -> ChainSpec:
        """A configured chain.

        Raises:
            RequestError: There is none of that name.
        """
        found = self.templates.get(name)
        if found is None:
            known = ", ".join(self.templates) or "none is configured under 'chains'"
            raise RequestError(
                f"There is no chain template {name[:128]!r}; known: {known}.",
                code="chain_template_not_found",
                param="template",
            )
        return found

    def begin(self, request: Request, place: Place) -> None:
        """A call of a chain is about to be served; the chain is remembered from its first one.

        Raises:
            OverloadedError: There are too many chains.
        """
        link = request.link
        assert link is not None  # noqa: S101 - asked by the caller
        chain = self._chains.get(link.chain)
        if chain is None:
            chain = OpenChain(request.key, link.chain, request.arrived_ns)
            chain.spec = self.templates.get(place.template)
            self.open(chain)
        chain.steps = link.steps
        chain.deadline_ns = link.deadline_ns
        chain.heard_ns = request.arrived_ns
        chain.live[request.id] = place.step
        self._chains.move_to_end(chain.id)

    def left(self, request: Request, now_ns: int, *, done: bool) -> None:
        """A call is over for its client: the chain is one further, if it has its answer."""
        link = request.link
        assert link is not None  # noqa: S101 - asked by the caller
        chain = self._chains.get(link.chain)
        if chain is None or request.id not in chain.live:
            return
        step_name = chain.live.pop(request.id)
        chain.heard_ns = now_ns
        if done and link.step > chain.done:
            chain.done = link.step
            chain.done_step = step_name or chain.done_step
        if not chain.live and not chain.done and not chain.is_opened:
            del self._chains[chain.id]  # Nothing has come of it, and its client knows no more.


def _step_name(chain: OpenChain | None, spec: ChainSpec | None, words: ChainWords) -> str:
    """Which step of its graph a call is; empty where there is no graph."""
    if spec is None:
        if words.step_name:
            raise RequestError(
                f"Step {words.step_name!r} has a name, but the chain has no steps with names: give "
                "its number, name a template, or open the chain with POST /v1/chains.",
                code="chain_step_not_found",
                param="step",
            )
        return ""
    if words.step_name:
        if words.step_name not in spec.steps:
            raise RequestError(
                f"The chain has no step {words.step_name!r}; its steps: {', '.join(spec.steps)}.",
                code="chain_step_not_found",
                param="step",
            )
        return words.step_name
    if words.step:
        way = (spec.first, *(one.name for one in spec.after(spec.first)))
        if words.step > len(way):
            raise RequestError(
                f"This is call {words.step} of a chain that has {len(way)}: open another chain.",
                code="chain_step_after_end",
                param="step",
            )
        return way[words.step - 1]
    return (chain.next_step() if chain is not None else "") or spec.first
