"""What `slalom models ls` says of a model's cost: its file, estimated and measured memory, times.

Owns the choice and the words of those columns. The figures are the metadata store's on this
machine, so they belong to the configured models and not to a server elsewhere.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from slalom.cli.model_profile_command import described
from slalom.units import format_duration

if TYPE_CHECKING:
    from slalom.config.engine_sections import ModelSection
    from slalom.config.schema import Config
    from slalom.models.measurements import Known, Quantity

#: Columns that stand at the right.
NUMBERS = ("file", "estimated", "measured")
#: Columns in the table; in JSON `measured_figures` has everything. `booked` is what a server that
#: starts now would book.
COLUMNS = (*NUMBERS, "load", "first token", "as of")


def facts_of(config: "Config") -> dict[str, dict[str, Any]]:
    """Columns of each configured model; a model whose file is not here has what can be known."""
    return {model.id: _facts(config, model) for model in config.models}


def _facts(config: "Config", model: "ModelSection") -> dict[str, Any]:
    from slalom.assembly.model_costs import ModelCosts
    from slalom.config.footprint import model_specs
    from slalom.errors import SlalomError
    from slalom.models.measurements import Quantity, last_measured_s, memory_bytes

    known: Known = {}
    file_bytes: int | None = None
    estimated: int | None = None
    booked: int | None = None
    alone = config.model_copy(update={"models": (model,)})
    try:
        costs = ModelCosts(alone)
        known = costs.known(model.id)
        if model.id in costs.models:
            file_bytes = sum(path.stat().st_size for path in costs.models[model.id].files) or None
        (spec,) = model_specs(alone)
        (told,) = costs.tell((spec,))
        estimated, booked = spec.bytes_needed, told.bytes_needed
    except (SlalomError, OSError):
        pass  # said by whoever wants to load it; here the other models are to be shown
    seen_s = last_measured_s(known)
    return {
        "file": file_bytes,
        "estimated": estimated,
        "booked": booked,
        "measured": memory_bytes(known) or None,
        "load": _times(known, Quantity.LOAD, Quantity.WAKE),
        "first token": _times(known, Quantity.FIRST_TOKEN),
        "as of": _moment(seen_s) if seen_s else None,
        "measured_figures": described(known),
    }


def _times(known: "Known", *quantities: "Quantity") -> dict[str, int]:
    """Mean by tier, ns."""
    return {
        tier.value: round(seen.mean)
        for (quantity, tier), seen in sorted(known.items())
        if quantity in quantities
    }


def shown_times(times: Mapping[str, int]) -> str:
    """Times by tier in one cell."""
    return ", ".join(
        f"{tier.replace('_', ' ')} {format_duration(ns)}" for tier, ns in times.items()
    )


def _moment(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
