"""`slalom models`: what is served, what is in a GGUF file, making one, downloading one.

Owns the tables and progress bars; the work is `slalom.models`'s.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

from slalom.cli import model_ask_commands, model_launch_command, model_profile_command
from slalom.cli.model_facts import inspect_folder, shown_times
from slalom.cli.output import bytes_progress, print_facts, print_json, print_table, stderr
from slalom.cli.shape import ConfigOption, JsonOption, KeyOption, UrlOption, examples, group
from slalom.units import format_bytes

if TYPE_CHECKING:
    from slalom.models.fim import FimTemplate

models_app = group(
    "models",
    "List, steer, inspect, make and download models.",
    examples(
        "slalom models ls                        what is served, and its state",
        "slalom models load slalom-small         bring it up; sleep, unload, pin",
        "slalom models profile                   measure load times and memory",
        "slalom models command qwen-coder        how its engine is started",
        "slalom models inspect slalom-mini       what is in the file, and its memory",
        "slalom models synth big.gguf -p 500M    a large model with random weights",
        "slalom models pull hf:OWNER/REPO         download one",
    ),
)

_COUNT_FACTORS = {"k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9}


@models_app.command(
    "ls",
    short_help="List what is served, with its state.",
    epilog=examples(
        "slalom models ls          from the running server, else as configured",
        "slalom models ls --json",
        "slalom models ls --url http://gpu-box:8642",
    ),
)
def ls(
    *,
    config: ConfigOption = None,
    url: UrlOption = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """List the models: state and load from the running server, else what is configured.

    With the size of the file, the memory that is estimated and the most that was measured, and
    what loads, wakes and the first token after them took on this machine, by where the weights
    came from. Not for a server of another machine (--url), whose measurements are there.
    """
    from slalom.cli.model_facts import COLUMNS, NUMBERS, facts_of
    from slalom.cli.server_client import RefusedError, ServerClient, ServerError
    from slalom.cli.spare_server import configured_url
    from slalom.config.load import load

    loaded, _ = load(config)
    client = ServerClient(url or configured_url(loaded), key)
    try:
        cards = client.models()
    except RefusedError:
        raise
    except ServerError:
        if url is not None:
            raise
        stderr().print(f"No Slalom at {client.url}: from the configuration.", style="dim")
        rows = [_configured(model) for model in loaded.models]
    else:
        rows = [_served(card) for card in cards]
    if url is None:
        facts = facts_of(loaded)
        rows = [row | facts.get(str(row["model"]), dict.fromkeys(COLUMNS)) for row in rows]
        for row in rows:
            booked = row.pop("booked", None)
            row["memory"] = booked if row["memory"] is None else row["memory"]
    if json:
        print_json(rows)
        return
    columns = [name for name in rows[0] if name != "measured_figures"] if rows else ["model"]
    print_table(
        columns,
        ([_cell(row[column]) for column in columns] for row in rows),
        right=("memory", "waiting", "running", "places", *NUMBERS),
        fold=("model", "source", "other names", "load", "first token"),
    )


def _served(card: dict[str, Any]) -> dict[str, Any]:
    """A row from `/v1/models`; a server that is not Slalom gives only names."""
    details = card.get("slalom") or {}
    state = str(details.get("state", "?"))
    if state == "loading":
        state = f"loading {details.get('progress', 0):.0%}"
    if targets := details.get("targets"):
        state = f"{details.get('choice')} of {', '.join(targets)}"
    return {
        "model": card.get("id"),
        "state": state,
        "memory": details.get("bytes", 0),
        "waiting": details.get("waiting", 0),
        "running": details.get("running", 0),
        "other names": details.get("aliases", []),
    }


def _configured(model: Any) -> dict[str, Any]:
    engine = model.engine
    sources = {"llama-cpp": "source", "vllm": "model", "command": "cmd", "remote": "base_url"}
    source = getattr(engine, sources[engine.kind])
    return {
        "model": model.id,
        "engine": engine.kind,
        "source": source if isinstance(source, str) else " ".join(source),
        #: What a server would book; only the facts of this machine say.
        "memory": None,
        "places": engine.places,
        "other names": [*model.aliases, *model.tasks],
    }


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return shown_times(value)
    if value is None:
        return "?"
    return format_bytes(value) if isinstance(value, int) and value > 1 << 16 else str(value)


@models_app.command(
    "inspect",
    short_help="Show what is in a model's file, and its memory.",
    epilog=examples(
        "slalom models inspect slalom-mini             a configured model, by its id",
        "slalom models inspect bundled:slalom-small",
        "slalom models inspect ~/models/qwen-q4.gguf --context 32768 --places 8",
        "slalom models inspect hf:OWNER/REPO --json    once it is downloaded",
    ),
)
def inspect(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A model's id, GGUF path, folder of safetensors, bundled: or hf: source.",
        ),
    ],
    *,
    context: Annotated[
        int | None,
        typer.Option(
            min=256, metavar="N", help="Context of one place, tokens.", show_default=False
        ),
    ] = None,
    places: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Requests at a time.", show_default=False)
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a model's file says about it, and the memory a replica is estimated to need."""
    from slalom.models.safetensors import is_model_folder

    if is_model_folder(Path(source).expanduser()):
        inspect_folder(Path(source).expanduser(), context, places, json=json)
        return
    engine = _engine(source, config)
    changed = {"context_tokens": context, "places": places}
    _inspect(
        engine.model_copy(update={k: v for k, v in changed.items() if v is not None}), json=json
    )


def _inspect(engine: Any, *, json: bool) -> None:
    from slalom.config.footprint import llama_cpp_estimate
    from slalom.models.sources import resolve

    local = resolve(engine.source)
    estimate = llama_cpp_estimate(engine, local.metadata)
    metadata = local.metadata
    if json:
        memory = {part: getattr(estimate, part) for part in ("weights", "kv", "compute", "runtime")}
        print_json(
            {
                "source": engine.source,
                "metadata": {f: getattr(metadata, f) for f in _FIELDS}
                | {"fim": _fim_facts(metadata.fim) if metadata.fim else None},
                "path": str(local.path),
                "context_tokens": engine.context_tokens,
                "places": engine.places,
                "memory_bytes": memory | {"total": estimate.total},
            }
        )
        return
    fim = metadata.fim
    facts = {
        "name": metadata.name,
        "file": f"{local.path} ({format_bytes(metadata.file_bytes)})",
        "architecture": f"{metadata.architecture}, {metadata.layer_count} layers, "
        f"{metadata.head_count} heads ({metadata.kv_head_count} KV), "
        f"width {metadata.embedding_width}",
        "parameters": f"{metadata.parameter_count / 1e6:,.1f} M, {metadata.quantisation}",
        "vocabulary": f"{metadata.vocabulary_size:,} tokens",
        "context": f"{metadata.context_length:,} tokens at most",
        "chat template": "yes" if metadata.has_chat_template else "no",
        "fill-in-the-middle": f"{' '.join(fim.marks)} ({fim.family})" if fim else "no",
        "memory": f"{format_bytes(estimate.total)} for {engine.places} places of "
        f"{engine.context_tokens:,} tokens: weights {format_bytes(estimate.weights)}, KV cache "
        f"{format_bytes(estimate.kv)}, work {format_bytes(estimate.compute)}, process "
        f"{format_bytes(estimate.runtime)}",
    }
    print_facts((Text(name, style="bold"), Text(text)) for name, text in facts.items())


def _fim_facts(fim: "FimTemplate") -> dict[str, str]:
    return {name: getattr(fim, name) for name in ("prefix", "suffix", "middle", "family")}


_FIELDS = (
    "name",
    "architecture",
    "parameter_count",
    "layer_count",
    "embedding_width",
    "feed_forward_width",
    "head_count",
    "kv_head_count",
    "kv_elements_per_token",
    "context_length",
    "vocabulary_size",
    "quantisation",
    "has_chat_template",
    "is_embedding",
    "file_bytes",
    "tensor_bytes",
)


def _engine(source: str, config: Path | None) -> Any:
    """The engine section of a configured model of that name, else one with defaults."""
    from slalom.config.engine_sections import LlamaCppEngine
    from slalom.config.load import load
    from slalom.errors import ModelError

    for model in load(config)[0].models:
        if source in (model.id, *model.aliases):
            if isinstance(model.engine, LlamaCppEngine):
                return model.engine
            raise ModelError(
                f"model {source!r} runs on a {model.engine.kind} engine: there is no file here "
                "to inspect"
            )
    return LlamaCppEngine(source=source)


@models_app.command(
    "synth",
    short_help="Make a model with random weights.",
    epilog=examples(
        "slalom models synth big.gguf --parameters 500M           about 1 GB",
        "slalom models synth small.gguf -p 100M -q q8_0 --seed 7",
        note="The text such a model writes is noise; its load time and memory are real. The same "
        "arguments give the same file.",
    ),
)
def synth(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="GGUF file to write.")],
    *,
    parameters: Annotated[
        str, typer.Option("--parameters", "-p", metavar="N", help="Parameters, such as 100M or 1B.")
    ] = "100M",
    quantisation: Annotated[
        str, typer.Option("--quantisation", "-q", metavar="KIND", help="f16 or q8_0.")
    ] = "f16",
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of the weights.")] = 0,
    json: JsonOption = False,
) -> None:
    """Make a model with random weights, to try load times and memory pressure with."""
    from slalom.models.synth import synthesize

    if quantisation not in {"f16", "q8_0"}:
        raise typer.BadParameter("write f16 or q8_0", param_hint="--quantisation")
    kind: Literal["f16", "q8_0"] = "q8_0" if quantisation == "q8_0" else "f16"
    count = read_count(parameters)
    with bytes_progress(f"writing {path.name}") as tell:
        made = synthesize(path, parameters=count, seed=seed, quantisation=kind, on_progress=tell)
    _print_file(path, made.parameter_count, made.file_bytes, json=json)


def read_count(text: str) -> int:
    """A number of parameters: ``500M``, ``1.5B``, ``4000000``.

    Raises:
        BadParameter: It is none.
    """
    factor = _COUNT_FACTORS.get(text[-1:].lower())
    try:
        count = float(text[:-1]) * factor if factor else float(text)
    except ValueError:
        count = 0
    if not 0 < count < float("inf"):
        raise typer.BadParameter("write a number such as 100M or 1B", param_hint="--parameters")
    return round(count)


def _print_file(path: Path, parameters: int, file_bytes: int, *, json: bool) -> None:
    if json:
        print_json({"path": str(path), "parameters": parameters, "file_bytes": file_bytes})
        return
    typer.echo(f"{path}: {parameters / 1e6:,.1f} M parameters, {format_bytes(file_bytes)}")


@models_app.command(
    "pull",
    short_help="Download a model.",
    epilog=examples(
        "slalom models pull hf:OWNER/REPO           its GGUF, by preference",
        "slalom models pull hf:OWNER/REPO:Q4_K_M    one quantisation",
        note="Files go to the Hugging Face cache; HF_HOME, HF_TOKEN and HF_HUB_OFFLINE are "
        "honoured.",
    ),
)
def pull(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="hf:OWNER/REPO[:FILE or QUANTISATION], or any.")
    ],
    *,
    json: JsonOption = False,
) -> None:
    """Download a model, unless it is here already, and check its file."""
    from slalom.models.sources import pull as fetch

    with bytes_progress(f"getting {source}") as tell:
        local = fetch(source, on_progress=tell)
    metadata = local.metadata
    _print_file(local.path, metadata.parameter_count, metadata.file_bytes, json=json)


model_profile_command.register(models_app)
model_launch_command.register(models_app)
model_ask_commands.register(models_app)
