"""Fill-in-the-middle in the internal form: a completion with `suffix`, and what it may bring along.

Owns the fields (`suffix`; `input_extra`, `filename` and `repository`, which llama.cpp's clients
know or which mean the same), their checks, and how they become one prompt for an engine that
knows none of them. Called by `preparation` and `upstream_call`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from slalom.engines.protocol import Capabilities
from slalom.errors import RequestError
from slalom.models.fim import FimFile, FimTemplate, FimText, fim_prompt

#: Fields that only a fill-in-the-middle prompt has a use for.
_AROUND = ("input_extra", "filename", "repository")


def check(body: Mapping[str, Any], capabilities: Capabilities, model: str) -> None:
    """Refuse what cannot become a fill-in-the-middle prompt of this model.

    Raises:
        RequestError: The model knows no fill-in-the-middle, or a field has the wrong type.
    """
    if capabilities.fim is None:
        raise RequestError(
            f"The model {model!r} does not know fill-in-the-middle. Ask a code model that was "
            "trained for it, or leave the suffix out; if it was trained for it, set 'fim' in its "
            "engine's section of the configuration.",
            code="unsupported_by_model",
            param="suffix",
        )
    if not isinstance(body["prompt"], str):
        raise RequestError("With 'suffix', prompt must be one text.", param="prompt")
    for name in ("filename", "repository"):
        if not isinstance(body.get(name), str | None):
            raise RequestError(f"{name} must be a text.", param=name)
    extra = body.get("input_extra")
    if extra is None:
        return
    if not isinstance(extra, list):
        raise RequestError("input_extra must be a list of files.", param="input_extra")
    for index, entry in enumerate(extra):
        if not (
            isinstance(entry, dict)
            and isinstance(entry.get("text"), str)
            and isinstance(entry.get("filename"), str | None)
        ):
            where = f"input_extra[{index}]"
            raise RequestError(f"{where} must have a text and may have a filename.", param=where)


def texts(body: Mapping[str, Any]) -> Iterator[str]:
    """The texts of other files, in their order; of a body that may not have been checked."""
    extra = body.get("input_extra")
    for entry in extra if isinstance(extra, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("text"), str):
            yield entry["text"]


def plain(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of the same completion for a model that knows no fill-in-the-middle."""
    return {name: value for name, value in body.items() if name not in {*_AROUND, "suffix"}}


def fill(fields: dict[str, Any], template: FimTemplate) -> None:
    """Make the prompt of a checked body, in place.

    Args:
        fields: The body on its way to the engine.
        template: Of the model.
    """
    extra = fields.get("input_extra") or ()
    around = FimText(
        before=fields["prompt"],
        after=fields.pop("suffix", None) or "",
        path=fields.get("filename") or "",
        files=tuple(FimFile(entry.get("filename") or "", entry["text"]) for entry in extra),
        repository=fields.get("repository") or "",
    )
    for name in _AROUND:
        fields.pop(name, None)
    fields["prompt"] = fim_prompt(template, around)
    if template.stops:
        given = fields.get("stop") or ()
        fields["stop"] = [*((given,) if isinstance(given, str) else given), *template.stops]
    for name, value in template.engine_fields:
        fields.setdefault(name, value)


def has_marks(body: Mapping[str, Any], template: FimTemplate | None) -> bool:
    """Whether the prompt already carries the model's own marks."""
    prompt = body.get("prompt")
    return template is not None and isinstance(prompt, str) and template.marked(prompt)
