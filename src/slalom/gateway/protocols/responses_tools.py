"""The tools of OpenAI's Responses as functions, which is all that engines know.

Owns how namespaces and tools that take a text instead of an object become functions, which tools
are left out, and the choice among them. Pure. Used by `responses` and `responses_request`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slalom.errors import RequestError

#: The one parameter of a tool whose input is a text and no object.
CUSTOM_INPUT = "input"


@dataclass(slots=True)
class Tools:
    """The tools of a request, by the names that the engine knows."""

    functions: list[dict[str, Any]] = field(default_factory=list)
    #: Engine's name of a tool to its own name, where that differs, and its namespace.
    names: dict[str, tuple[str, str]] = field(default_factory=dict)
    #: Engine's names of tools with a text for input.
    custom: set[str] = field(default_factory=set)
    #: Types of tools that were left out.
    left_out: dict[str, None] = field(default_factory=dict)


def wrong(name: str, what: str) -> RequestError:
    """An error about one field."""
    return RequestError(f"{name} {what}.", param=name)


def text_of(fields: Mapping[str, Any], name: str, where: str) -> str:
    """A field that must be a text.

    Raises:
        RequestError: It is not.
    """
    value = fields.get(name)
    if not isinstance(value, str):
        raise wrong(f"{where}.{name}", "must be a text")
    return value


def spaced(namespace: str, name: str) -> str:
    """The engine's name of a tool in a namespace."""
    return f"{namespace}__{name}" if namespace else name


def tools_of(body: Mapping[str, Any]) -> Tools:
    """The tools as functions.

    Raises:
        RequestError: `param` names the tool that is wrong.
    """
    listed = body.get("tools")
    if not isinstance(listed, list | None):
        raise wrong("tools", "must be a list")
    found = Tools()
    for index, tool in enumerate(listed or ()):
        _add_tool(tool, f"tools[{index}]", found, "")
    return found


def _add_tool(tool: object, where: str, found: Tools, namespace: str) -> None:
    if not isinstance(tool, dict):
        raise wrong(where, "must be an object")
    kind = text_of(tool, "type", where)
    if kind == "namespace" and not namespace:
        space, inside = text_of(tool, "name", where), tool.get("tools")
        if not isinstance(inside, list):
            raise wrong(f"{where}.tools", "must be a list")
        for index, inner in enumerate(inside):
            _add_tool(inner, f"{where}.tools[{index}]", found, space)
        return
    if not _is_known(kind):
        found.left_out[kind[:64]] = None
        return
    own = text_of(tool, "name", where)
    if not own:
        raise wrong(f"{where}.name", "must be a text")
    name = spaced(namespace, own)
    found.names[name] = (own, namespace)
    function: dict[str, Any] = {"name": name}
    if isinstance(tool.get("description"), str):
        function["description"] = tool["description"]
    if kind == "custom":
        found.custom.add(name)
        function["parameters"] = _custom_schema(tool)
    else:
        schema = tool.get("parameters")
        if not isinstance(schema, dict | None):
            raise wrong(f"{where}.parameters", "must be an object")
        function["parameters"] = schema or {"type": "object", "properties": {}}
        if isinstance(tool.get("strict"), bool):
            function["strict"] = tool["strict"]
    found.functions.append({"type": "function", "function": function})


def _is_known(kind: object) -> bool:
    return kind == "function" or kind == "custom"  # noqa: PLR1714 - it may be anything


def _custom_schema(tool: Mapping[str, Any]) -> dict[str, Any]:
    """One text, with the grammar it must follow told in words: engines have no place for it."""
    text: dict[str, Any] = {"type": "string"}
    form = tool.get("format")
    if isinstance(form, dict) and isinstance(form.get("definition"), str):
        text["description"] = f"Follows this {form.get('syntax')} grammar:\n{form['definition']}"
    return {"type": "object", "properties": {CUSTOM_INPUT: text}, "required": [CUSTOM_INPUT]}


def choose_tools(body: Mapping[str, Any], tools: Tools) -> dict[str, Any]:
    """The fields `tools` and `tool_choice` of the internal body.

    Raises:
        RequestError: The choice is malformed.
    """
    functions = tools.functions
    choice = body.get("tool_choice")
    chosen: Any = None
    if isinstance(choice, str):
        if choice not in {"auto", "none", "required"}:
            raise wrong("tool_choice", "must be 'auto', 'none', 'required' or an object")
        chosen = choice
    elif isinstance(choice, dict):
        match choice.get("type"):
            case "function" | "custom":
                chosen = {"type": "function", "function": {"name": _tool_name(choice)}}
            case "allowed_tools":
                allowed = choice.get("tools")
                names = [
                    _tool_name(tool)
                    for tool in (allowed if isinstance(allowed, list) else ())
                    if isinstance(tool, dict) and _is_known(tool.get("type"))
                ]
                functions = [tool for tool in functions if tool["function"]["name"] in names]
                chosen = "required" if choice.get("mode") == "required" else "auto"
    elif choice is not None:
        raise wrong("tool_choice", "must be 'auto', 'none', 'required' or an object")
    if not functions:
        return {}
    return {"tools": functions} if chosen is None else {"tools": functions, "tool_choice": chosen}


def _tool_name(choice: Mapping[str, Any]) -> str:
    namespace = choice.get("namespace")
    name = text_of(choice, "name", "tool_choice")
    return spaced(namespace, name) if isinstance(namespace, str) else name
