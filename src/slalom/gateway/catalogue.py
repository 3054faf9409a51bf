"""Names of models: ids, aliases, `model:task`, and task names that stand for a model.

Owns the answer to "what did the client mean by `model`". Pure; built once from the parameters.
Called for every inference request and by `/v1/models`.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from slalom.errors import ConfigError, RequestError
from slalom.gateway.params import ServedAlias, ServedModel


@dataclass(frozen=True, slots=True)
class Named:
    """What a `model` field means."""

    model: ServedModel
    #: The task the name declares, or None.
    task: str | None = None
    #: Where the name stands for several models, of which `model` is the first.
    alias: ServedAlias | None = None


class Catalogue:
    """The models that can be asked for, by every name they have.

    Args:
        models: The served models.
        task_names: Names of the known tasks.
        aliases: Names that stand for several of the models.
        removed: Names that models had before a reload took them away.

    Raises:
        ConfigError: A name belongs to two models.
    """

    def __init__(
        self,
        models: Iterable[ServedModel],
        task_names: Iterable[str],
        aliases: Iterable[ServedAlias] = (),
        removed: Collection[str] = (),
    ) -> None:
        self._removed = removed
        self.models = tuple(models)
        self.aliases = tuple(aliases)
        self._task_names = frozenset(task_names)
        self._by_name: dict[str, Named] = {}
        for model in self.models:
            self._add(model.id, Named(model))
        for model in self.models:
            for alias in model.aliases:
                declared = alias if alias in self._task_names else None
                self._add(alias, Named(model, declared))
        by_id = {model.id: model for model in self.models}
        for shared in self.aliases:
            first = by_id[shared.alternatives.models[0]]
            declared = shared.id if shared.id in self._task_names else None
            self._add(shared.id, Named(first, declared, shared))
        for model in self.models:
            for task in model.tasks:
                if task not in self._by_name:
                    self._add(task, Named(model, task))
        if len(self.models) == 1:
            for task in sorted(self._task_names - self._by_name.keys()):
                self._by_name[task] = Named(self.models[0], task)

    def _add(self, name: str, named: Named) -> None:
        other = self._by_name.get(name)
        if other is not None and other.model.id != named.model.id:
            raise ConfigError(
                f"the model name {name!r} belongs to {other.model.id!r} and to "
                f"{named.model.id!r}: take it from one of them"
            )
        self._by_name[name] = named

    def names(self) -> Collection[str]:
        """Every name that means a model."""
        return self._by_name.keys()

    def find(self, name: str) -> Named:
        """The model a client means, and the task its name declares.

        A full name wins; otherwise the part after the last colon may name a task.

        Raises:
            RequestError: `code` model_not_found; the message lists the known ids.
        """
        named = self._by_name.get(name)
        if named is not None:
            return named
        front, colon, task = name.rpartition(":")
        if colon and task in self._task_names:
            named = self._by_name.get(front)
            if named is not None:
                return Named(named.model, task, named.alias)
        if name in self._removed or (colon and front in self._removed):
            raise RequestError(
                f"The model {name[:200]!r} was removed by a reload of the configuration. "
                "GET /v1/models lists those that are left.",
                code="model_not_found",
                param="model",
            )
        known = ", ".join(model.id for model in self.models) or "none"
        raise RequestError(
            f"The model {name[:200]!r} is not served here. Known models: {known}. "
            "GET /v1/models lists them with their aliases.",
            code="model_not_found",
            param="model",
        )
