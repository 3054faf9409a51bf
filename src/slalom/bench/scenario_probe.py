"""How a server counts tokens, learnt from two short answers of it.

Owns the question and the arithmetic. A server that does not say what it counted is taken to need
the usual 3.5 characters of code for a token. Called by `scenario_run`.
"""

import json
from collections.abc import Mapping

import aiohttp

from slalom.bench.scenario_requests import TokenSize
from slalom.bench.scenario_text import Texts
from slalom.core.request import Sla
from slalom.errors import SlalomError
from slalom.workload.load import LoadItem
from slalom.workload.prompts import CHAT_PATH, COMPLETIONS_PATH

#: Lengths of the two prompts, characters.
_SHORT, _LONG = 400, 2_400
_TIMEOUT_S = 120.0


class TargetError(SlalomError):
    """A server that is to be measured does not answer; the message says what it said."""

    code = "target_failed"


async def token_size(
    base_url: str, model: str, texts: Texts, *, chat: bool, headers: Mapping[str, str]
) -> TokenSize:
    """Ask a server for one token after prompts of two lengths; a model not loaded is loaded by it.

    Raises:
        TargetError: The server does not answer, or refuses.
    """
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(base_url, timeout=timeout) as session:
            short, long = [
                await _count(session, model, texts, chars, chat=chat, headers=headers)
                for chars in (_SHORT, _LONG)
            ]
    except (aiohttp.ClientError, OSError, TimeoutError) as problem:
        raise TargetError(
            f"{base_url} does not answer a completion of model {model!r} "
            f"({type(problem).__name__}): is it running, and is that its address without /v1?"
        ) from problem
    if not 0 < short < long:
        return TokenSize()
    chars_per_token = (_LONG - _SHORT) / (long - short)
    return TokenSize(chars_per_token, max(short - _SHORT / chars_per_token, 0.0))


async def _count(
    session: aiohttp.ClientSession,
    model: str,
    texts: Texts,
    chars: int,
    *,
    chat: bool,
    headers: Mapping[str, str],
) -> int:
    item = LoadItem("probe", 0, "batch", model, 1, 1, 1, 1, Sla())
    text = texts.of(item, chars, 0)
    prompt = {"messages": [{"role": "user", "content": text}]} if chat else {"prompt": text}
    body = json.dumps({"model": model, **prompt, "max_tokens": 1})
    path = CHAT_PATH if chat else COMPLETIONS_PATH
    sent = {**headers, "content-type": "application/json"}
    async with session.post(path, data=body, headers=sent) as response:
        said = await response.read()
        if response.status != 200:
            shown = said[:200].decode("utf-8", "replace")
            raise TargetError(
                f"the server refused a completion of model {model!r} with status "
                f"{response.status}: {shown}; name the server's model with --model"
            )
    usage = json.loads(said).get("usage") or {}
    return int(usage.get("prompt_tokens") or 0)
