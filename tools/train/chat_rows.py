"""Chat samples derived from the standard library's functions: a request and its answer.

Owns the wording of the requests and how a function becomes an answer (its docstring, its
body, a mechanical transliteration). It does not know tokens. Called by `corpus.py`.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

MAX_FUNCTION_LINES = 40
SYSTEM_PROMPTS = (
    "You are a helpful coding assistant.",
    "You are a helpful assistant.",
    "You write short, correct Python.",
)
DOCSTRING_ASKS = (
    "Write a docstring for:",
    "Write a docstring for this function:",
    "Document this function:",
)
SUMMARY_ASKS = (
    "Summarise this function:",
    "Summarize this function:",
    "Summarise the following code in one sentence:",
    "Explain what this function does:",
    "What does this code do?",
)
WRITE_ASKS = (
    "Write a function that does this: ",
    "Write a Python function: ",
    "Implement this in Python: ",
    "Write a function named `{name}`. ",
)
COMPLETE_ASKS = (
    "Complete this function:",
    "Implement the body of this function:",
    "Finish this code:",
)
TRANSLATE_ASKS = (
    "Translate this function to JavaScript:",
    "Translate this Python code to JavaScript:",
    "Translate to JavaScript:",
)
#: Word-for-word replacements of the mechanical transliteration.
_JAVASCRIPT_WORDS = {
    "None": "null",
    "True": "true",
    "False": "false",
    "self": "this",
    "and": "&&",
    "or": "||",
    "is": "===",
    "raise": "throw new",
    "len": "length",
    "str": "String",
    "print": "console.log",
}
_WORD = re.compile(r"\b(" + "|".join(_JAVASCRIPT_WORDS) + r")\b")


@dataclass(frozen=True, slots=True)
class ChatPair:
    """One function of the standard library, taken apart."""

    name: str
    header: str
    docstring: str
    body: str

    def render(self, rng: random.Random) -> str:
        """Make one conversation in the models' chat markup."""
        ask, answer = self._exchange(rng)
        parts = []
        if rng.random() < 0.4:
            parts.append(f"<|im_start|>system\n{rng.choice(SYSTEM_PROMPTS)}<|im_end|>\n")
        parts.append(f"<|im_start|>user\n{ask}<|im_end|>\n")
        parts.append(f"<|im_start|>assistant\n{answer}<|im_end|>\n")
        return "".join(parts)

    def _exchange(self, rng: random.Random) -> tuple[str, str]:
        summary = self.docstring.split("\n\n")[0].replace("\n", " ")
        code = _fenced(f"{self.header}\n{self.body}", rng)
        documented = f'{self.header}\n    """{self.docstring}"""\n'
        kind = rng.randrange(5)
        if kind == 0:
            return f"{rng.choice(DOCSTRING_ASKS)}\n\n{code}", f'"""{self.docstring}"""'
        if kind == 1:
            return f"{rng.choice(SUMMARY_ASKS)}\n\n{code}", summary
        if kind == 2:
            ask = rng.choice(WRITE_ASKS).format(name=self.name) + summary
            return ask, f"```python\n{documented}{self.body}\n```"
        if kind == 3:
            ask = f"{rng.choice(COMPLETE_ASKS)}\n\n{_fenced(documented.rstrip(), rng)}"
            return ask, f"```python\n{documented}{self.body}\n```"
        javascript = to_javascript(f"{self.header}\n{self.body}")
        return f"{rng.choice(TRANSLATE_ASKS)}\n\n{code}", f"```javascript\n{javascript}\n```"


def _fenced(code: str, rng: random.Random) -> str:
    return f"```python\n{code}\n```" if rng.random() < 0.6 else code


def chat_pairs(text: str) -> Iterator[ChatPair]:
    """Yield every short documented function of a module's text."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    lines = text.splitlines()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            pair = _take_apart(node, lines)
            if pair is not None:
                yield pair


def _take_apart(node: ast.FunctionDef, lines: list[str]) -> ChatPair | None:
    docstring = ast.get_docstring(node)
    end = node.end_lineno or node.lineno
    if docstring is None or len(node.body) < 2 or end - node.lineno > MAX_FUNCTION_LINES:
        return None
    dedent = node.col_offset
    header_end = node.body[0].lineno - 1
    header = "\n".join(line[dedent:] for line in lines[node.lineno - 1 : header_end]).rstrip()
    first = node.body[0].end_lineno or node.body[0].lineno
    body = "\n".join(line[dedent:] for line in lines[first:end]).strip("\n")
    docstring = "\n".join(docstring.splitlines()[:8])
    if not header.endswith(":") or '"""' in docstring or not body:
        return None
    return ChatPair(node.name, header, docstring, body)


def to_javascript(code: str) -> str:
    """Rewrite Python line by line into something with JavaScript's shape.

    Mechanical and often wrong; it teaches the form of a translation, not its meaning.
    """
    out: list[str] = []
    open_indents: list[int] = []
    for line in code.splitlines():
        stripped = line.strip()
        if not stripped:
            continue
        indent = len(line) - len(line.lstrip())
        closes = stripped.startswith(("elif ", "else:", "except", "finally:"))
        while open_indents and indent <= open_indents[-1]:
            closed = open_indents.pop()
            if not (closes and closed == indent):
                out.append(" " * closed + "}")
        out.append(" " * indent + _javascript_line(stripped, closes=closes))
        if stripped.endswith(":"):
            open_indents.append(indent)
    out.extend(" " * indent + "}" for indent in reversed(open_indents))
    return "\n".join(out)


def _javascript_line(line: str, *, closes: bool) -> str:
    if line.startswith("#"):
        return "//" + line[1:]
    line = _WORD.sub(lambda match: _JAVASCRIPT_WORDS[match[1]], line).replace("not ", "!")
    if not line.endswith(":"):
        return line if line.endswith((",", "(", "[", "{")) else line + ";"
    head = line[:-1]
    head = re.sub(r"^def (\w+)\((this, |this)?", r"function \1(", head)
    head = re.sub(r"^(if|while|for|elif) (.*)$", r"\1 (\2)", head)
    head = re.sub(r"^for \((.*) in (.*)\)$", r"for (const \1 of \2)", head)
    head = head.replace("elif", "else if").replace("except", "catch")
    return ("} " if closes else "") + head + " {"
