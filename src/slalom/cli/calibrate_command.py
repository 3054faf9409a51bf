"""`slalom calibrate`: how long an engine's steps take here, as a profile for the twin.

Owns options and layout; the probe and the fit are `slalom.bench.calibrate`'s.
"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slalom.cli.output import print_facts, print_json, print_table, stderr
from slalom.cli.shape import ConfigOption, JsonOption, examples
from slalom.errors import ConfigError
from slalom.units import format_duration

if TYPE_CHECKING:
    from slalom.bench.calibrate import Calibration
    from slalom.config.engine_sections import ModelSection
    from slalom.config.schema import Config


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "calibrate",
        short_help="Measure a model's step times, for the twin.",
        epilog=examples(
            "slalom calibrate slalom-mini               under a minute",
            "slalom calibrate slalom-mini --out m.json  a file that scenarios name",
            "slalom calibrate slalom-mini --json        the profile and its errors",
            note="Other work on the machine makes the figures worse: the table says how much.",
        ),
    )(calibrate)


def calibrate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Id of a configured model.")],
    *,
    config: ConfigOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the profile here too.",
            show_default=False,
            dir_okay=False,
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=1, max=600, metavar="S", help="No probe is repeated after this.")
    ] = 40.0,
    json: JsonOption = False,
) -> None:
    """Measure a model's step times, for the twin.

    Starts the model's engine as configured, with nothing else on it, asks it for tokens alone and
    side by side and with prompts of growing length, watches them arrive, and fits the coefficients
    of a step profile. Stores the profile under the engine's version and options, this machine and
    the model file's hash.
    """
    from slalom.bench.calibrate_store import store
    from slalom.config.load import load
    from slalom.twin.step_time import save_profile

    settings = load(config)[0]
    found = asyncio.run(_measure(settings, _section(settings, model), seconds))
    path = store(found.profile, found.key)
    if out is not None:
        save_profile(found.profile, out)
    if json:
        print_json(_document(found, path))
    else:
        _print(found, out or path)


def _section(settings: "Config", model: str) -> "ModelSection":
    for section in settings.models:
        if model in {section.id, *section.aliases}:
            return section
    known = ", ".join(section.id for section in settings.models)
    raise ConfigError(f"no model {model!r} is configured; configured are: {known}")


async def _measure(settings: "Config", section: "ModelSection", seconds: float) -> "Calibration":
    from slalom.assembly.launchers import launcher_for
    from slalom.bench.calibrate import calibrate as measure

    launcher, _ = launcher_for(section, tokens_max=settings.server.default_max_tokens)
    with stderr().status("starting the engine …") as status:
        return await measure(
            section,
            launcher,
            budget_s=seconds,
            on_progress=lambda done, total: status.update(f"probing: {done} of {total}"),
        )


def _document(found: "Calibration", path: Path) -> dict[str, Any]:
    return {
        "profile": found.profile.to_json(),
        "key": found.key,
        "errors": found.errors,
        "observations": len(found.observations),
        "left_out": found.left_out,
        "took_s": round(found.took_s, 1),
        "file": str(path),
    }


_MEANING = {
    "decode": "tokens of running requests",
    "prefill": "a prompt alone, to its first token",
    "mixed": "a prompt read beside running requests",
}


def _print(found: "Calibration", path: Path) -> None:
    profile = found.profile
    alone, four = (profile.decode_ns(width, 256) for width in (1, 4))
    print_facts(
        (
            ("engine", found.key.engine),
            ("device", found.key.device),
            ("one token, alone", format_duration(alone)),
            ("one token, four at a time", format_duration(four)),
            ("a prompt of 512 tokens", format_duration(profile.prefill_ns(512))),
            ("before a prompt is read", format_duration(round(profile.ingest_ns))),
        )
    )
    print_table(
        ("steps", "experiments", "error p50", "p90", "largest"),
        (
            (
                _MEANING[error.kind],
                error.observations,
                *(f"{share:.1%}" for share in (error.median, error.p90, error.largest)),
            )
            for error in found.errors
        ),
        right=("experiments", "error p50", "p90", "largest"),
    )
    if found.left_out:
        stderr().print(f"{found.left_out} experiments were left out: the engine is slow.")
    stderr().print(f"{len(found.observations)} observations in {found.took_s:.0f} s -> {path}")
