"""The real clients that are tried, each with the version that it was tried with.

Owns the table only. Read by `installing`, by the tests, and by the test of the page about clients.
"""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Where they are installed; git ignores it.
CACHE = ROOT / ".cache" / "clients"


@dataclass(frozen=True)
class Pin:
    """One client."""

    name: str
    #: Its package on PyPI or npm.
    package: str
    version: str
    #: "pypi" or "npm".
    registry: str
    #: What is run; for libraries the interpreter beside them.
    command: str
    #: What it needs besides and does not say.
    beside: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Its own environment."""
        return CACHE / f"{self.name}-{self.version}"

    @property
    def executable(self) -> Path:
        """What is run."""
        inside = "bin" if self.registry == "pypi" else "node_modules/.bin"
        return self.folder / inside / self.command


_ROWS = (
    Pin("ollama", "ollama", "0.6.3", "pypi", "python"),
    Pin("mistralai", "mistralai", "3.7.0", "pypi", "python"),
    Pin("llm", "llm", "0.36", "pypi", "llm"),
    Pin("litellm", "litellm", "1.106.2", "pypi", "python", ("mcp",)),
    Pin("aider", "aider-chat", "0.86.2", "pypi", "aider"),
    Pin("claude", "@anthropic-ai/claude-code", "2.1.197", "npm", "claude"),
    Pin("codex", "@openai/codex", "0.169.0", "npm", "codex"),
    Pin("opencode", "opencode-ai", "1.18.33", "npm", "opencode"),
    Pin("qwen", "@qwen-code/qwen-code", "0.15.10", "npm", "qwen"),
    Pin("continue", "@continuedev/cli", "1.5.47", "npm", "cn"),
    Pin("tabby", "tabby-agent", "1.5.0", "npm", "tabby-agent"),
)

#: By name.
PINS = {pin.name: pin for pin in _ROWS}
