"""What a chat asks of a model that cannot do it: refused by name, or told, but never passed over.

Owns these checks. Engines that cannot see or call tools often answer as if nobody had asked. Pure;
where nothing is known of an engine, it judges itself. Called by `preparation`.
"""

from collections.abc import Mapping
from typing import Any

from slalom.engines.protocol import Capabilities
from slalom.errors import RequestError

#: Parts of a message that are to be seen or heard.
_MEDIA = frozenset(("image_url", "image", "input_audio", "audio_url", "video_url", "file"))
#: OpenAI's first form of tools, which no engine knows any more.
_OUTDATED = ("functions", "function_call")


def check_chat(body: Mapping[str, Any], capabilities: Capabilities, model: str) -> tuple[str, ...]:
    """Refuse what the model of a checked chat cannot do.

    Args:
        body: In the internal form.
        capabilities: Of the model's engine.
        model: For messages.

    Returns:
        What the client should be told beside its answer.

    Raises:
        RequestError: It asks for what the model cannot do.
    """
    for name in _OUTDATED:
        if body.get(name) is not None:
            raise RequestError(f"{name} has become tools, and is not offered here.", param=name)
    if not capabilities.pictures and any(map(_shows, body["messages"])):
        raise RequestError(
            f"The model {model!r} cannot see pictures or hear: send texts only, or ask another.",
            code="unsupported_by_model",
            param="messages",
        )
    if capabilities.tools or not body.get("tools"):
        return ()
    choice = body.get("tool_choice")
    if choice == "required" or isinstance(choice, dict):
        raise RequestError(
            f"The model {model!r} cannot call tools: its chat template has no place for them. "
            "Leave tool_choice out, or ask another model.",
            code="unsupported_by_model",
            param="tool_choice",
        )
    return (f"{model} cannot call tools: it does not see them",)


def _shows(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    return isinstance(content, list) and any(part.get("type") in _MEDIA for part in content)
