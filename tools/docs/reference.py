"""Reference pages made from the code: every option, command, policy, task and refusal.

Owns the Markdown of those tables. Owns no facts: it reads the configuration's schema, the command
line's own definition, the policies' registry, the default tasks and the gateway's table of errors.
Called by `hooks` while the site is built and by tests/docs.
"""

import dataclasses
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import click
import typer.main

from slalom.batches.runner import LineCounts
from slalom.cli import app
from slalom.config.scenario_file import ScenarioFile
from slalom.config.schema import Config
from slalom.core.snapshot import Snapshot
from slalom.gateway.batches.batch_metrics import BatchCollector
from slalom.gateway.completion_cache import CompletionCache
from slalom.gateway.error_table import ERROR_TABLE
from slalom.gateway.ledger_metrics import LedgerCollector
from slalom.gateway.telemetry import Telemetry
from slalom.policies.registry import DEFAULT_KINDS, POLICIES
from slalom.runtime.ledger_watch import LedgerWatch
from slalom.workload.tasks import DEFAULT_TASKS, TaskSpec

Schema = Mapping[str, Any]

_REF = "#/$defs/"


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ").strip()


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    head = list(head)
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    lines += [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


# -- configuration -------------------------------------------------------------------------------


def _refs(schema: Schema) -> list[str]:
    """Names of the definitions a property's value is made of, in order."""
    if "$ref" in schema:
        return [schema["$ref"].removeprefix(_REF)]
    inner = [*schema.get("oneOf", ()), *schema.get("anyOf", ()), *schema.get("allOf", ())]
    inner += [
        schema[key]
        for key in ("items", "additionalProperties")
        if isinstance(schema.get(key), dict)
    ]
    return [name for part in inner for name in _refs(part)]


def _kind(schema: Schema) -> str:
    """The type of a value in a reader's words."""
    if "$ref" in schema:
        return "section"
    if "discriminator" in schema:
        kinds = ", ".join(f"`{kind}`" for kind in schema["discriminator"]["mapping"])
        return f"section, `kind` one of {kinds}"
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_kind(part) for part in schema[key]))
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"mapping of names to {_kind(values)}" if isinstance(values, dict) else "section"
    return {"string": "text", "boolean": "true or false"}.get(kind, str(kind))


def _bounds(schema: Schema) -> str:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    above = "> " if "exclusiveMinimum" in schema else ">= "
    if low is not None and high is not None:
        return f"{'above ' if 'exclusiveMinimum' in schema else ''}{low} … {high}"
    if low is not None:
        return f"{above}{low}"
    return "" if high is None else f"<= {high}"


def _default(schema: Schema, *, required: bool) -> str:
    if required:
        return "required"
    if "default" not in schema:
        return ""
    value = schema["default"]
    if isinstance(value, dict | list) and value:
        return f"`{json.dumps(value, ensure_ascii=False)}`"
    return {"null": "none", "[]": "empty", "{}": "empty"}.get(
        json.dumps(value), f"`{json.dumps(value, ensure_ascii=False)}`".replace('"', "")
    )


def _options(definition: Schema) -> str:
    required = set(definition.get("required", ()))
    rows = []
    for name, option in definition.get("properties", {}).items():
        bounds = _bounds(option)
        kind = _kind(option) + (f", {bounds}" if bounds else "")
        default = _default(option, required=name in required)
        rows.append((f"`{name}`", kind, default, option.get("description", "")))
    return _table(("option", "value", "default", "meaning"), rows)


def _sections(title: str, name: str, definitions: Schema, depth: int) -> Iterator[str]:
    definition = definitions[name]
    yield f"{'#' * depth} `{title}`\n\n{definition.get('description', '')}\n"
    yield _options(definition) + "\n"
    for option, schema in definition.get("properties", {}).items():
        inner = [] if title == "scheduler" else _refs(schema)  # policies have their own page
        for child in inner:
            kind = definitions[child]["properties"].get("kind", {}).get("const")
            suffix = f" (kind: {kind})" if kind and len(inner) > 1 else ""
            yield from _sections(f"{title}.{option}{suffix}", child, definitions, min(depth + 1, 4))


def configuration() -> str:
    """Every option of the configuration, section by section, from its schema."""
    schema = Config.model_json_schema()
    parts: list[str] = []
    for name, section in schema["properties"].items():
        many = {"array": "[]", "object": ".NAME"}.get(section.get("type", ""), "")
        for ref in _refs(section):
            parts += _sections(f"{name}{many}", ref, schema["$defs"], 2)
    return "\n".join(parts)


def scenario() -> str:
    """Every option of a scenario file, each kind of section once, from its schema."""
    schema = ScenarioFile.model_json_schema()
    definitions = schema["$defs"]
    parts = [_options(schema) + "\n"]
    waiting = [("", schema)]
    # Told on the pages of the configuration and of the policies.
    told = {"TaskSection", "SchedulerSection", *_names_of_policies(definitions)}
    while waiting:
        title, section = waiting.pop(0)
        for option, value in section.get("properties", {}).items():
            many = {"array": "[]", "object": ".NAME"}.get(value.get("type", ""), "")
            for name in _refs(value):
                if name in told:
                    continue
                told.add(name)
                found = definitions[name]
                kind = found["properties"].get("kind", {}).get("const")
                path = f"{title}.{option}{many}".lstrip(".")
                suffix = f", kind `{kind}`" if kind else ""
                parts.append(f"### `{path}`{suffix}\n\n{found.get('description', '')}\n")
                parts.append(_options(found) + "\n")
                waiting.append((path, found))
    return "\n".join(parts)


def _names_of_policies(definitions: Schema) -> Iterator[str]:
    kinds = {kind for slot in POLICIES.values() for kind in slot}
    for name, definition in definitions.items():
        if definition.get("properties", {}).get("kind", {}).get("const") in kinds:
            yield name


# -- command line --------------------------------------------------------------------------------


def _command(name: str, command: Any, depth: int) -> Iterator[str]:
    context = click.Context(command, info_name=name)
    yield f"{'#' * min(depth, 4)} `{name}`\n\n{inspect.cleandoc(command.help or '')}\n"
    yield f"```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```\n"
    rows = []
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is None:
            text = getattr(parameter, "help", "") or ""
            record = (parameter.make_metavar(context), text)
        rows.append((f"`{_cell(record[0])}`", record[1]))
    if rows:
        yield _table(("argument or option", "meaning"), rows) + "\n"
    if command.epilog:
        yield f"```text\n{inspect.cleandoc(command.epilog.replace(chr(8), ''))}\n```\n"
    for child in sorted(getattr(command, "commands", {})):
        if not command.commands[child].hidden:
            yield from _command(f"{name} {child}", command.commands[child], depth + 1)


def command_line() -> str:
    """Every command with its options, from the command line's own definition."""
    command = typer.main.get_command(app)
    return "\n".join(_command("slalom", command, 2))


# -- policies, tasks, refusals -------------------------------------------------------------------


def policies() -> str:
    """Every policy that the configuration can name, with its options."""
    parts = []
    for slot, kinds in POLICIES.items():
        parts.append(f"## {slot.capitalize()}\n")
        for kind, policy in kinds.items():
            mark = " (the default)" if DEFAULT_KINDS[slot] == kind else ""
            parts.append(f"### `{kind}`{mark}\n\n{_story(policy)}\n")
            fields = dataclasses.fields(policy)
            comments = _field_comments(policy)
            rows = [
                (f"`{field.name}`", f"`{field.default!r}`", comments.get(field.name, ""))
                for field in fields
            ]
            if rows:
                parts.append(_table(("option", "default", "meaning"), rows) + "\n")
    return "\n".join(parts)


def _story(policy: type) -> str:
    """A policy's docstring without the name it opens with."""
    text = inspect.getdoc(policy) or ""
    opening, colon, rest = text.partition(": ")
    told = rest if colon and opening.startswith("`") else text
    return told[:1].upper() + told[1:]


def _field_comments(policy: type) -> dict[str, str]:
    """The ``#:`` comment before each field."""
    found: dict[str, str] = {}
    words: list[str] = []
    for line in inspect.getsource(policy).splitlines():
        text = line.strip()
        if text.startswith("#:"):
            words.append(text[2:].strip())
        else:
            name = text.partition(":")[0]
            if words and name.isidentifier():
                found[name] = " ".join(words)
            words = []
    return found


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:g} ms"


def tasks() -> str:
    """The default tasks and their targets."""
    rows = []
    for task in DEFAULT_TASKS.values():
        e2e = _ms(task.e2e_ms)
        if task.e2e_ms_per_prompt_token:
            e2e += f" + {task.e2e_ms_per_prompt_token:g} ms per prompt token"
        name = f"`{task.name}`"
        rows.append((name, _ms(task.ttft_ms), _ms(task.tpot_ms), e2e, _expected(task)))
    return _table(("task", "TTFT", "TPOT", "E2E", "expected output, tokens"), rows)


def _expected(task: TaskSpec) -> str:
    parts = [f"{task.predicted_tokens}"] if task.predicted_tokens else []
    if task.predicted_per_prompt_token:
        parts.append(f"{task.predicted_per_prompt_token:g} per prompt token")
    return " + ".join(parts) or "0"


def refusals() -> str:
    """Every machine-readable reason an answer can be an error for."""
    rows = [
        (row.status, f"`{code}`", f"`{row.type}`", row.message, "yes" if row.retryable else "no")
        for code, row in sorted(ERROR_TABLE.items(), key=lambda item: (item[1].status, item[0]))
    ]
    return _table(("status", "`code`", "`type`", "meaning", "worth another try"), rows)


def metrics() -> str:
    """Every metric with its labels, from the registry the gateway serves."""
    nothing = Snapshot(0, False, 0, 0, 0, (), (), ())  # noqa: FBT003 - draining
    rows = []
    ledgers = LedgerWatch(lambda: nothing, lambda _id, _epoch: None, lambda: 0, (), {})
    registry = Telemetry(lambda: nothing, lambda: 0, CompletionCache(0)).registry
    registry.register(LedgerCollector(lambda: ledgers))
    registry.register(BatchCollector(lambda: LineCounts(0, 0, 0, 0, held=False)))
    for family in registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        rows.append((f"`{name}`", family.type, family.documentation))
    return _table(("name", "kind", "meaning"), sorted(rows))


#: What a page may ask for with ``<!-- generated: NAME -->``.
GENERATED: Mapping[str, Callable[[], str]] = {
    "configuration": configuration,
    "scenario": scenario,
    "command-line": command_line,
    "policies": policies,
    "tasks": tasks,
    "refusals": refusals,
    "metrics": metrics,
}
