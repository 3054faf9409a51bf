"""Writes the complete example: every option with its default, its bounds and a sentence.

Owns the layout and the sample entries of lists that are empty by default. A ``#`` with no space
behind it is an option switched off; taking the ``#`` away switches it on. Called by
``slalom config example`` and by the documentation.
"""

import textwrap
from collections.abc import Iterator
from typing import Any

from slalom.config.alias_section import AliasSection
from slalom.config.bounds import bounds_text
from slalom.config.chain_sections import ChainSection
from slalom.config.engine_sections import ModelSection
from slalom.config.fields import Section
from slalom.config.plain import inline_yaml, plain
from slalom.config.schema import Config
from slalom.config.sections import KeySection, RuleSection, TaskSection
from slalom.config.tree import Shape, field_shape
from slalom.workload.tasks import DEFAULT_TASKS, TaskSpec

_WIDTH = 100
_HEAD = """\
# Slalom's configuration: every option with its default, its bounds and a sentence.
#
# Everything may be left out. Values on the command line win over environment variables
# (SLALOM__SERVER__PORT=9000 is server.port), and those over this file. Slalom reads
# the file of --config, else ./slalom.yaml, else ~/.config/slalom/slalom.yaml.
#
# "#" with no space behind it is an option that is switched off; take it away to switch it on.
# "slalom config check" says what is wrong in the file; "slalom config show" what holds.
"""

#: Entries shown, switched off, where a list or mapping is empty or shows only one kind.
_SAMPLES: dict[str, list[Section]] = {
    "keys": [KeySection(name="editor", key_env="SLALOM_KEY_EDITOR", task="completion")],
    "models": [
        ModelSection.model_validate(
            {
                "id": "qwen-coder",
                "aliases": ["coder"],
                "engine": {
                    "kind": "command",
                    "cmd": "vllm serve Qwen/Qwen2.5-Coder-7B --port ${PORT}",
                    "model_name": "Qwen/Qwen2.5-Coder-7B",
                    "env": {"HF_HUB_OFFLINE": "1"},
                    "fim": {
                        "prefix": "<|fim_prefix|>",
                        "suffix": "<|fim_suffix|>",
                        "middle": "<|fim_middle|>",
                    },
                },
                "memory": "18GiB",
            }
        ),
        ModelSection.model_validate(
            {
                "id": "qwen-on-gpu",
                "engine": {"kind": "vllm", "model": "Qwen/Qwen2.5-Coder-7B"},
            }
        ),
        ModelSection.model_validate(
            {
                "id": "big-remote",
                "engine": {
                    "kind": "remote",
                    "base_url": "https://llm.example.com",
                    "api_key_env": "LLM_KEY",
                    "model_name": "code-large",
                },
            }
        ),
    ],
    "aliases": [
        AliasSection(id="coder-any", targets=("qwen-coder", "slalom-small"), kind="warm-first")
    ],
    "rules": [
        RuleSection.model_validate(
            {"when": {"path": "/v1/chat/completions", "has": ["tools"]}, "task": "agent"}
        )
    ],
}


def example() -> str:
    """The text of the example file; it loads to the defaults."""
    return _HEAD + "\n".join(_Writer().section(Config(), "")) + "\n"


class _Writer:
    """Writes sections; explains each option the first time it comes."""

    def __init__(self) -> None:
        self._explained: set[tuple[type[Section], str]] = set()

    def section(self, section: Section, indent: str, *, off: bool = False) -> Iterator[str]:
        values = plain(section)
        mark = "#" if off else ""
        for name in type(section).model_fields:
            shape, value = field_shape(type(section), name), getattr(section, name)
            if not indent:
                yield ""
            if self._is_default_again(type(section), name, value):
                continue
            yield from self._explain(type(section), name, indent)
            if isinstance(value, Section):
                yield f"{indent}{mark}{name}:"
                yield from self.section(value, f"{indent}  ", off=off)
            elif shape.item is not None and shape.item.sections:
                yield from self._entries(name, value, shape, indent, off=off)
            elif shape.value is not None and shape.value.sections:
                yield from self._mapping(name)
            else:
                yield f"{indent}{mark}{name}: {inline_yaml(_shown(name, values[name]))}"

    def _is_default_again(self, owner: type[Section], name: str, value: Any) -> bool:
        """A default that was explained before needs no second line."""
        if (owner, name) not in self._explained or name == "kind":
            return False
        field = owner.model_fields[name]
        return not field.is_required() and value == field.get_default(call_default_factory=True)

    def _explain(self, owner: type[Section], name: str, indent: str) -> Iterator[str]:
        if (owner, name) in self._explained:
            return
        self._explained.add((owner, name))
        field = owner.model_fields[name]
        text = f"{field.description or ''} {bounds_text(owner, name)}".strip()
        yield from _comment(text, indent)
        if name == "kind":
            yield from self._other_kinds(owner, indent)

    def _other_kinds(self, owner: type[Section], indent: str) -> Iterator[str]:
        """The slot's other policies, with their options, as prose."""
        for other in _siblings(owner):
            kind = other.model_fields["kind"]
            yield from _comment(f"Or {kind.description}", indent)
            for name in [name for name in other.model_fields if name != "kind"]:
                option = other.model_fields[name]
                default = inline_yaml(option.get_default(call_default_factory=True))
                text = f"{name}: {default}. {option.description} {bounds_text(other, name)}"
                yield from _comment(text, indent, hang="  ")

    def _entries(
        self, name: str, given: tuple[Section, ...], shape: Shape, indent: str, *, off: bool
    ) -> Iterator[str]:
        yield f"{indent}{'' if given and not off else '#'}{name}:"
        for entry in given:
            yield from _as_entry(self.section(entry, f"{indent}    ", off=off), indent, off=off)
        for entry in _SAMPLES.get(name, []):
            yield from _as_entry(self.section(entry, f"{indent}    ", off=True), indent, off=True)

    def _mapping(self, name: str) -> Iterator[str]:
        """Entries with names of their own, switched off."""
        yield f"#{name}:"
        for key, entry in _NAMED_SAMPLES[name].items():
            yield f"  #{key}:"
            yield from self.section(entry, "    ", off=True)


def _comment(text: str, indent: str, *, hang: str = "") -> list[str]:
    mark = f"{indent}# {hang}"
    return textwrap.wrap(text, _WIDTH, initial_indent=mark, subsequent_indent=mark)


def _task_section(task: TaskSpec) -> TaskSection:
    targets = {name: getattr(task, name) for name in TaskSection.model_fields}
    return TaskSection(**{name: value for name, value in targets.items() if value})


#: Entries shown, switched off, of mappings with names of their own.
_NAMED_SAMPLES: dict[str, dict[str, Section]] = {
    "tasks": {task.name: _task_section(task) for task in DEFAULT_TASKS.values()},
    "chains": {
        "repair": ChainSection.model_validate(
            {
                "deadline_ms": 30_000,
                "steps": [
                    {"name": "generate", "model": "slalom-small", "then": ["review"]},
                    {"name": "review", "model": "slalom-small", "task": "chat", "gap_ms": 500},
                    {"name": "repair", "model": "slalom-small"},
                ],
            }
        )
    },
}


def _siblings(owner: type[Section]) -> list[type[Section]]:
    """The other policies of the slot that `owner` is a policy of."""
    scheduler = type(Config().scheduler)
    for name in scheduler.model_fields:
        sections = field_shape(scheduler, name).sections
        if owner in sections:
            return [section for section in sections if section is not owner]
    return []


def _as_entry(lines: Iterator[str], indent: str, *, off: bool) -> Iterator[str]:
    """Puts the dash of a list entry before its first option."""
    dashed = False
    mark = "#" if off else ""
    for line in lines:
        if dashed or line.lstrip().startswith("# "):
            yield line
        else:
            yield f"{indent}  {mark}- {line.strip().removeprefix('#')}"
            dashed = True


def _shown(name: str, value: Any) -> Any:
    """The sample's environment is no secret."""
    return {"HF_HUB_OFFLINE": "1"} if name == "env" and value else value
