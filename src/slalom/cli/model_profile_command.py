"""`slalom models profile`: what models cost, measured one by one, and what `ls` says of it.

Owns options, progress and layout; the experiments are `slalom.bench.model_profile`'s, what is
remembered `slalom.assembly.model_costs`'s.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn

from slalom.cli.output import print_json, print_table, stderr
from slalom.cli.shape import ConfigOption, JsonOption, examples
from slalom.errors import ConfigError
from slalom.units import format_bytes, format_duration

#: Prompt of an engine whose context is not known, tokens.
_PROMPT_TOKENS = 512

if TYPE_CHECKING:
    from slalom.assembly.model_costs import Measured, ModelCosts
    from slalom.bench.model_profile import ModelProfile
    from slalom.config.engine_sections import ModelSection
    from slalom.config.schema import Config
    from slalom.models.measurements import Known, Statistic


def register(models_app: typer.Typer) -> None:
    """Add the command."""
    models_app.command(
        "profile",
        short_help="Measure load times and memory.",
        epilog=examples(
            "slalom models profile                     every configured model",
            "slalom models profile slalom-mini         one of them",
            "slalom models profile slalom-mini --json  the figures as JSON",
            note="Each model is loaded alone, several times: from disk (its file is dropped from "
            "the page cache first) and from the page cache. What a server measures while it "
            "works goes to the same store.",
        ),
    )(profile)


def profile(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODEL", help="Ids of configured models; all of them."),
    ] = None,
    *,
    config: ConfigOption = None,
    repeats: Annotated[
        int, typer.Option(min=1, max=100, metavar="N", help="Loads from each tier.")
    ] = 3,
    fill_seconds: Annotated[
        float,
        typer.Option(
            min=0, max=3600, metavar="S", help="Time to fill every place's context; 0 for not."
        ),
    ] = 20.0,
    forget: Annotated[
        bool, typer.Option("--forget", help="Forget first what was measured before.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Measure what models cost: load times by tier, first token after a load, memory, wakes.

    Loads each model alone, from disk and from the page cache, asks it for a first token, lets it
    work for a moment, looks at its memory and ends it. The figures go to the metadata store, from
    which servers take them at their next start.
    """
    from slalom.assembly.model_costs import ModelCosts
    from slalom.config.load import load

    settings = load(config)[0]
    costs = ModelCosts(settings)
    rows = []
    for made in _chosen(costs, settings, models or []):
        if forget and costs.store is not None:
            costs.store.forget(made.subject)
        found = _measure(settings, made, repeats, fill_seconds)
        costs.keep(made.section.id, found.figures)
        for remark in found.remarks:
            stderr().print(f"{made.section.id}: could not measure {remark}.")
        rows.append(_result(made.section.id, costs, found))
    if costs.store is None:
        stderr().print("Not kept: measurements.file is none.", style="dim")
    if json:
        print_json(rows)
    elif rows:
        _print(rows)


def _chosen(costs: "ModelCosts", settings: "Config", wanted: Sequence[str]) -> Iterator["Measured"]:
    names = {
        name: section.id for section in settings.models for name in (section.id, *section.aliases)
    }
    for name in wanted:
        if name not in names:
            raise ConfigError(
                f"no model {name!r} is configured; configured are: "
                f"{', '.join(section.id for section in settings.models)}"
            )
        if names[name] not in costs.models:
            raise ConfigError(
                f"model {name!r} runs on a remote engine: nothing of it can be measured here"
            )
    chosen = [names[name] for name in wanted] or list(costs.models)
    for model_id in dict.fromkeys(chosen):
        yield costs.models[model_id]


def _measure(settings: "Config", made: "Measured", repeats: int, fill_s: float) -> "ModelProfile":
    from slalom.assembly.launchers import launcher_for
    from slalom.assembly.model_costs import sleep_tier
    from slalom.bench.model_profile import ProfileParams, profile_model

    section = made.section
    (gpu,) = (device.gpu for device in settings.devices if device.id == section.homes[0])
    launcher, _ = launcher_for(section, tokens_max=settings.server.default_max_tokens, gpu=gpu)
    level = section.sleep_level
    context_tokens = _context_tokens(section)
    params = ProfileParams(
        repeats=repeats,
        context_tokens=context_tokens or _PROMPT_TOKENS,
        places=section.engine.places,
        # Where the context is not ours to know, nobody knows when it is full.
        fill_s=fill_s if context_tokens else 0.0,
        sleep_level=level,
        sleep_tier=sleep_tier(level or 1),
    )
    with _progress(section.id) as tell:
        return asyncio.run(profile_model(section.id, launcher, made.files, params, on_stage=tell))


def _context_tokens(section: "ModelSection") -> int:
    """Longest prompt with which every place can be filled at a time; 0 where nothing tells."""
    from slalom.config.engine_sections import LlamaCppEngine

    engine = section.engine
    if not isinstance(engine, LlamaCppEngine):
        return 0
    shared = (engine.kv_tokens or engine.context_tokens * engine.places) // engine.places
    return min(engine.context_tokens, shared)


@contextlib.contextmanager
def _progress(model_id: str) -> Iterator[Any]:
    with Progress(
        TextColumn("{task.description}"), BarColumn(), console=stderr(), transient=True
    ) as shown:
        task = shown.add_task(model_id, total=None)

        def tell(stage: str, done: int, total: int) -> None:
            shown.update(task, description=f"{model_id}: {stage}", completed=done, total=total)

        yield tell


def _result(model_id: str, costs: "ModelCosts", found: "ModelProfile") -> dict[str, Any]:
    """A model with what is known of it now; where nothing is kept, what was just found."""
    from slalom.models.measurements import first_figure

    known: dict[Any, Statistic] = dict(costs.known(model_id))
    if not known:
        for one in found.figures:
            before = known.get((one.quantity, one.tier))
            known[one.quantity, one.tier] = (
                before.with_figure(one.value, one.at_s)
                if before
                else first_figure(one.value, one.at_s)
            )
    return {"model": model_id, "measured": described(known)}


def described(known: "Known") -> list[dict[str, Any]]:
    """What is remembered, as rows of plain values."""
    return [
        {
            "quantity": quantity.value,
            "tier": tier.value,
            "unit": "ns" if quantity.is_time else "bytes",
            "count": seen.count,
            "mean": round(seen.mean),
            "spread": round(seen.spread),
            "low": seen.low,
            "high": seen.high,
            "last": seen.last,
            "at": datetime.fromtimestamp(seen.at_s, UTC).isoformat(timespec="seconds"),
        }
        for (quantity, tier), seen in sorted(known.items())
    ]


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    print_table(
        ("model", "measured", "from", "mean", "spread", "highest", "figures"),
        (
            (
                row["model"],
                one["quantity"].replace("_", " "),
                "" if one["tier"] == "resident" else one["tier"].replace("_", " "),
                *(_shown(one, name) for name in ("mean", "spread", "high")),
                one["count"],
            )
            for row in rows
            for one in row["measured"]
        ),
        right=("mean", "spread", "highest", "figures"),
    )


def _shown(one: Mapping[str, Any], name: str) -> str:
    value = int(one[name])
    return format_duration(value) if one["unit"] == "ns" else format_bytes(value)
