"""Reads the configuration anew while the server serves: only the models that changed are touched.

Owns the order: read, compare, build what comes and judge it all, and only then let it be so, in one
turn of the event loop; what is wrong leaves everything as it was. Built by `serving`, called on
SIGHUP and by `/admin/reload`.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from slalom.assembly.batches import places_of
from slalom.assembly.model_costs import ModelCosts
from slalom.assembly.parts import Parts, gateway_params, launchers_of
from slalom.assembly.step_costs import CostStore
from slalom.config.difference import Difference, Fate, difference
from slalom.config.engine_sections import ModelSection
from slalom.config.footprint import model_specs
from slalom.config.schema import Config
from slalom.core.actions import AskRefused
from slalom.core.events import ConfigChanged
from slalom.core.journal import Entry
from slalom.core.reloading import ADJUSTABLE
from slalom.core.request import ModelSpec
from slalom.engines.protocol import Capabilities
from slalom.errors import ConfigError, SlalomError
from slalom.gateway.auth import check_exposure
from slalom.gateway.params import GatewayParams
from slalom.runtime.supervisor import Launchers
from slalom.units import seconds_to_ns

_log = logging.getLogger(__name__)

#: Models whose launchers are built anew: those that launch otherwise, or promise other lengths.
_BUILT = (Fate.ADDED, Fate.REPLACED)


@dataclass(frozen=True, slots=True)
class _Read:
    """A configuration that was read and built, and has no effect yet."""

    found: Difference
    params: GatewayParams
    launchers: Launchers
    can: dict[str, Capabilities]
    #: Of the models that are added, replaced or adjusted, as far as is known of them.
    specs: dict[str, ModelSpec]
    costs: ModelCosts
    steps: CostStore | None


class Reloading:
    """Goes by the configuration as it is now.

    Args:
        parts: The running server.
        reread: Reads the configuration; raises what is wrong with it.
    """

    def __init__(self, parts: Parts, reread: Callable[[], Config]) -> None:
        self._parts = parts
        self._reread = reread
        #: What is in force.
        self.config = parts.config
        self._numbers = count(1)
        #: One at a time: the second one compares with what the first one has left.
        self._turn = asyncio.Lock()

    def __repr__(self) -> str:
        return f"Reloading(models={len(self.config.models)})"

    async def __call__(self, dry_run: bool) -> dict[str, Any]:  # noqa: FBT001 - its one option
        """Read anew, and go by it.

        Args:
            dry_run: Only say what that would do.

        Returns:
            What was done to each model, what else took effect, and what needs a restart.

        Raises:
            ConfigError: Something is wrong with it; nothing was changed.
            ModelError: A model's file is missing or damaged; nothing was changed.
        """
        async with self._turn:
            try:
                read = await asyncio.to_thread(self._read)
                change = self._change(read)
                self._parts.scheduler.judge(change)
                self._parts.gateway.judge(read.params)
            except SlalomError as problem:
                raise ConfigError(
                    f"nothing was changed: {problem}", code="reload_refused"
                ) from problem
            notes = () if dry_run else self._apply(read, change)
            return _document(read.found, change.reload_id, notes, dry_run=dry_run)

    async def on_signal(self) -> None:
        """The same for a signal, to which nobody listens for an answer."""
        try:
            await self(dry_run=False)
        except SlalomError as problem:
            _log.error("the configuration was not reloaded: %s", problem)

    def _read(self) -> _Read:
        """Read and build; takes a disk's time, and changes nothing."""
        found = difference(self.config, self._reread())
        config = found.effective
        server = config.server
        check_exposure(server.host, has_keys=bool(config.keys), insecure=server.insecure)
        launchers: dict[str | tuple[str, str], Any] = {}
        can: dict[str, Capabilities] = {}
        for model in self._launched(found):
            made, can[model.id] = launchers_of(config, model)
            launchers |= made
        names = found.named(*_BUILT, Fate.ADJUSTED)
        changed = [model for model in config.models if model.id in names]
        some = config.model_copy(update={"models": tuple(changed)})
        costs = ModelCosts(some)
        specs = costs.tell(model_specs(some))
        steps = CostStore(changed) if self._parts.costs is not None else None
        if steps is not None:
            specs = steps.tell(specs)
        told = {spec.id: spec for spec in specs}
        return _Read(found, gateway_params(config), launchers, can, told, costs, steps)

    def _launched(self, found: Difference) -> Sequence[ModelSection]:
        """Models whose next load is another one."""
        before = {model.id: model for model in self.config.models}
        limit, was = found.effective.server, self.config.server
        built = found.named(*_BUILT)

        def tokens(model: ModelSection | None, most: int) -> int:
            return (model.max_tokens_default if model is not None else None) or most

        return [
            model
            for model in found.effective.models
            if model.id in built
            or tokens(model, limit.default_max_tokens)
            != tokens(before.get(model.id), was.default_max_tokens)
        ]

    def _change(self, read: _Read) -> ConfigChanged:
        """What the scheduler is told."""
        found, specs = read.found, read.specs
        known = {name: one.spec for name, one in self._parts.scheduler.state.models.items()}
        adjusted = []
        for name in found.named(Fate.ADJUSTED):
            wanted = {field: getattr(specs[name], field) for field in _WISHES}
            if (spec := replace(known[name], **wanted)) != known[name]:
                adjusted.append(spec)
        return ConfigChanged(
            added=tuple(specs[name] for name in found.named(Fate.ADDED)),
            replaced=tuple(specs[name] for name in found.named(Fate.REPLACED)),
            adjusted=tuple(adjusted),
            removed=found.named(Fate.REMOVED),
            drain_ns=seconds_to_ns(found.effective.server.drain_seconds),
            reload_id=f"reload-{next(self._numbers)}",
        )

    def _apply(self, read: _Read, change: ConfigChanged) -> tuple[str, ...]:
        """Let it be so; what the scheduler could not do of it. Nothing awaits in here."""
        parts, found = self._parts, read.found
        refused: list[AskRefused] = []

        def note(entry: Entry) -> None:
            refused.extend(one for one in entry.actions if isinstance(one, AskRefused))

        parts.gateway.reload(read.params, renewed=found.named(Fate.REPLACED, Fate.REMOVED))
        if parts.recorder is not None:
            parts.recorder.costs.take_over(read.costs)
        if parts.costs is not None and read.steps is not None:
            parts.costs.take_over(read.steps)
        specs = (*change.added, *change.replaced, *change.adjusted)
        if parts.ledgers is not None:
            parts.ledgers.specs = _over(parts.ledgers.specs, specs)
        parts.runtime.on_step.append(note)
        parts.runtime.reload(change, read.launchers, read.can)
        parts.runtime.on_step.remove(note)
        if parts.idle is not None:
            models = parts.scheduler.state.models.values()
            parts.idle.models = places_of(one.spec for one in models if one.retires_ns < 0)
        self.config = found.effective
        logging.getLogger("slalom").setLevel(self.config.log.level.upper())
        _tell(found)
        return tuple(f"{one.model}: {one.detail}" for one in refused if one.model)


#: What an adjusted model takes of its new section; all else stays as it was learned.
_WISHES = sorted(ADJUSTABLE - {"load_ns", "wake_ns", "deep_wake_ns", "step_cost"})


def _over(before: Sequence[ModelSpec], specs: Sequence[ModelSpec]) -> tuple[ModelSpec, ...]:
    """All that was ever known, as it is now: what was removed is still there for a while."""
    return tuple({spec.id: spec for spec in (*before, *specs)}.values())


def _tell(found: Difference) -> None:
    touched = [one for one in found.models if one.fate is not Fate.UNTOUCHED]
    _log.info(
        "configuration reloaded: %d models untouched, %s; applied: %s",
        len(found.models) - len(touched),
        ", ".join(f"{one.model} {one.fate}" for one in touched) or "none changed",
        ", ".join(found.applied) or "nothing else",
    )
    if found.needs_restart:
        _log.warning("only a restart changes these: %s", ", ".join(found.needs_restart))


def _document(
    found: Difference, reload_id: str, notes: Sequence[str], *, dry_run: bool
) -> dict[str, Any]:
    return {
        "object": "reload",
        "id": reload_id,
        "dry_run": dry_run,
        "models": [
            {"model": one.model, "done": one.fate.value, "options": list(one.options)}
            for one in found.models
        ],
        "applied": list(found.applied),
        "needs_restart": list(found.needs_restart),
        "notes": list(notes),
    }
