"""What `slalom models ls` says of a model's cost: its file, estimated and measured memory, times.

Owns the choice and the words of those columns. The figures are the metadata store's on this
machine, so they belong to the configured models and not to a server elsewhere.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from slalom.cli.model_profile_command import described
from slalom.cli.output import print_facts, print_json
from slalom.units import format_bytes, format_duration

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


def inspect_folder(path: Path, context: int | None, places: int | None, *, json: bool) -> None:
    """Print what a folder of safetensors says about its model, and the memory it needs at least.

    Raises:
        ModelError: Something in it is missing or damaged.
    """
    from slalom.models.safetensors import estimate_folder, read_folder

    model = read_folder(path)
    estimate = estimate_folder(model, context or 0, places or 1)
    memory = {part: getattr(estimate, part) for part in ("weights", "kv", "runtime", "total")}
    if json:
        fields = {name: getattr(model, name) for name in _FOLDER_FIELDS}
        print_json({"path": str(path), "metadata": fields, "memory_bytes": memory})
        return
    facts = {
        "folder": f"{path} ({len(model.files)} files, {format_bytes(model.file_bytes)})",
        "architecture": f"{model.architecture}, {model.layer_count} layers",
        "parameters": f"{model.parameter_count / 1e6:,.1f} M",
        "vocabulary": f"{model.vocabulary_size:,} tokens",
        "context": f"{model.context_length:,} tokens at most",
        "memory": f"{format_bytes(estimate.total)} at least: weights "
        f"{format_bytes(estimate.weights)}, KV cache {format_bytes(estimate.kv)}, runtime "
        f"{format_bytes(estimate.runtime)}",
    }
    print_facts((Text(name, style="bold"), Text(text)) for name, text in facts.items())


_FOLDER_FIELDS = (
    "architecture",
    "parameter_count",
    "tensor_bytes",
    "file_bytes",
    "layer_count",
    "kv_elements_per_token",
    "context_length",
    "vocabulary_size",
)
