"""Which prompt begins like an earlier one, and how much of it: for planners, an estimate.

Owns an index of the beginnings of prompts, by key and model: a chain of hashes over messages and
blocks of text, each pointing to the latest prompt that had it. Hashes and counts are all that is
kept, and both are bounded. Two prompts that are taken for alike by mistake cost a worse forecast,
nothing else. Called by `preparation`.
"""

import secrets
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

import msgspec

from slalom.gateway import fill_in

_encode = msgspec.json.encode

#: Characters of a block; of one from so far into a text on, and of all in messages, whose ends are
#: compared anyway.
_BLOCK, _LONG_BLOCK, _LONG_FROM = 2_048, 8_192, 131_072
#: Of one prompt; what lies beyond is not compared.
_NODES_OF_ONE = 512
#: In all, the one longest unused is forgotten.
_NODES_MAX, _NAMES_MAX = 65_536, 16_384
#: Prompts of fewer characters are read in no time.
_LEAST = 512
#: What may be typed, or taken back, at the end of a text that goes on.
_TYPED = 64
#: A prompt with so much of the one before it continues that; else it is a branch.
_CONTINUES = 0.9
#: Characters of a picture or another long part that stand for it.
_SAMPLE = 256


class Head(NamedTuple):
    """What a prompt has in common with an earlier one."""

    #: The conversation or document that it belongs to, opaque; empty where it has none.
    name: str = ""
    #: Share of the prompt, 0 to 1, and whose beginning it is, if not that of its own name.
    share: float = 0.0
    start: str = ""

    def tokens(self, prompt_tokens: int) -> int:
        """The share in tokens."""
        return int(self.share * prompt_tokens)


#: Nothing in common, and nothing to come back to.
NO_HEAD = Head()


#: A place in a prompt up to which it may be like another: (chain of hashes, characters up to here,
#: what ends here). A plain tuple, because a prompt has hundreds.
_Node = tuple[int, int, int]
#: What ends at a node: a block of text, a message, an answer; or a block of an answer.
_BLOCK_END, _MESSAGE_END, _ANSWER_END, _ANSWER_BLOCK_END = range(4)


@dataclass(slots=True)
class _Latest:
    """The latest prompt of a name."""

    size: int
    #: Where the text before the cursor is cut so that typing does not change it, and its hash.
    cut: int
    cut_hash: int


class Prefixes:
    """The beginnings of prompts."""

    def __init__(self) -> None:
        self._names: OrderedDict[str, _Latest] = OrderedDict()
        #: Chain of hashes -> name of the latest prompt with that beginning.
        self._owners: OrderedDict[int, str] = OrderedDict()
        self._id_head = secrets.token_hex(3)
        self._id_numbers = count(1)

    def __repr__(self) -> str:
        return f"<Prefixes names={len(self._names)} nodes={len(self._owners)}>"

    def find(
        self,
        client: tuple[str, str],
        body: Mapping[str, Any],
        *,
        declared: str = "",
        keep: bool = True,
    ) -> Head:
        """What a prompt has in common with an earlier one of the same client.

        Args:
            client: Key and model: others' prompts are never compared.
            body: A checked body of a chat or, if it has a prompt, of a completion.
            declared: Name of the conversation or document, where the client gave one.
            keep: Whether later prompts are compared with this one.
        """
        nodes, text = _nodes(body, hash(client))
        total = nodes[-1][1] if nodes else 0
        if total < _LEAST:
            return NO_HEAD
        owner, shared, goes_on = self._alike(nodes, text)
        name = declared or (owner if goes_on else f"p-{self._id_head}-{next(self._id_numbers)}")
        if keep:
            self._keep(name, nodes, text)
        start = owner if shared and owner != name else ""
        return Head(name, min(shared / total, 1.0), start)

    def _alike(self, nodes: list[_Node], text: str) -> tuple[str, int, bool]:
        """Whose beginning it is, how many characters, and whether it goes on with that."""
        owner, like = "", 0
        for chain, _, _ in nodes:
            name = self._owners.get(chain)
            if name is None:
                break
            owner = name
            like += 1
        latest = self._names.get(owner)
        if latest is None:
            return "", 0, False
        _, shared, what = nodes[like - 1]
        if shared < latest.cut <= len(text) and latest.cut_hash == _cut_hash(
            nodes, text, latest.cut
        ):
            return owner, latest.cut, True
        if shared >= latest.size and what in {_MESSAGE_END, _ANSWER_END}:
            # What follows the whole earlier prompt as an answer is what the engine wrote itself.
            for _, size, following in nodes[like:]:
                if following not in {_ANSWER_END, _ANSWER_BLOCK_END}:
                    break
                shared = size
                if following == _ANSWER_END:
                    break
        return owner, shared, shared >= _CONTINUES * latest.size

    def _keep(self, name: str, nodes: list[_Node], text: str) -> None:
        owners, names = self._owners, self._names
        move_to_end = owners.move_to_end
        for chain, _, _ in nodes:
            owners[chain] = name
            move_to_end(chain)
        while len(owners) > _NODES_MAX:
            owners.popitem(last=False)
        cut = len(text) - _TYPED if len(text) > _BLOCK + _TYPED else 0
        cut_hash = _cut_hash(nodes, text, cut) if cut else 0
        names[name] = _Latest(nodes[-1][1], cut, cut_hash)
        names.move_to_end(name)
        if len(names) > _NAMES_MAX:
            names.popitem(last=False)


def _nodes(body: Mapping[str, Any], chain: int) -> tuple[list[_Node], str]:
    """The chain of a prompt, and its text where that is one."""
    nodes: list[_Node] = []
    size, text = 0, ""
    prompt, least = body.get("prompt"), _LONG_BLOCK
    if isinstance(prompt, str):
        text, least = prompt, _BLOCK
    for parts, is_answer in _segments(body):
        block_end = _ANSWER_BLOCK_END if is_answer else _BLOCK_END
        for part in parts:
            at, length = 0, len(part)
            while length - at > least:
                block = least if at < _LONG_FROM else _LONG_BLOCK
                chain = hash((chain, part[at : at + block]))
                at = min(at + block, length)
                nodes.append((chain, size + at, block_end))
                if len(nodes) >= _NODES_OF_ONE:
                    return nodes, ""
            if at < length:
                chain = hash((chain, part[at:] if at else part))
            size += length
        chain = hash((chain, ""))
        nodes.append((chain, size, _ANSWER_END if is_answer else _MESSAGE_END))
        if len(nodes) >= _NODES_OF_ONE:
            break
    return nodes, text


def _cut_hash(nodes: list[_Node], text: str, cut: int) -> int:
    """Hash of the beginning of a text, made from the last node before its end."""
    chain, size = 0, 0
    for found, end, what in nodes:
        if end > cut or what != _BLOCK_END:
            break
        chain, size = found, end
    return hash((chain, text[size:cut]))


def _segments(body: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], bool]]:
    """The texts of a prompt in the order in which an engine reads them, and which are answers."""
    if "prompt" in body:  # checked as a completion: what else stands there is nobody's
        for extra in fill_in.texts(body):
            yield (extra,), False
        for field in ("prompt", "suffix"):
            text = body.get(field)
            if isinstance(text, str) and text:
                yield (text,), False
        return
    tools = body.get("tools")
    if tools:
        yield (_encode(tools).decode(),), False
    for message in body.get("messages", ()):
        role = str(message.get("role"))
        content = message.get("content")
        calls = message.get("tool_calls")
        parts = [role]
        if isinstance(content, str):
            parts.append(content)
        elif isinstance(content, list):
            parts.extend(_part(part) for part in content)
        if calls:
            parts.append(_encode(calls).decode())
        yield tuple(parts), role == "assistant"


def _part(part: object) -> str:
    """A part of a message; of one that is no text, what tells it apart."""
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return str(part["text"])
    shown = _encode(part).decode()
    return f"{len(shown)} {shown[:_SAMPLE]} {shown[-_SAMPLE:]}"
