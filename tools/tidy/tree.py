"""A tree of files as the rules see it: paths relative to the root, texts, parsed Python.

Owns reading and caching, and the shape of a finding. Owns no rule. `Tree.of_checkout` takes
what git tracks or would track; the tests build trees of a few files under a temporary folder.
"""

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True)
class Finding:
    """One breach of one rule."""

    path: str
    #: First line concerned; 0 where the whole file is meant.
    line: int
    #: What is wrong and what to do about it.
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


@dataclass
class Tree:
    """Files under `root`, by their path relative to it with forward slashes."""

    root: Path
    paths: tuple[str, ...]
    _texts: dict[str, str] = field(default_factory=dict)
    _modules: dict[str, ast.Module] = field(default_factory=dict)

    @classmethod
    def of_checkout(cls, root: Path) -> "Tree":
        """The files git tracks, and the new ones it does not ignore."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607
            cwd=root,
            check=True,
            capture_output=True,
            text=True,
        )
        names = {name for name in listed.stdout.split("\0") if name}
        return cls(root, tuple(sorted(name for name in names if (root / name).is_file())))

    @classmethod
    def of_folder(cls, root: Path) -> "Tree":
        """Every file under a folder."""
        files = (path for path in root.rglob("*") if path.is_file())
        return cls(root, tuple(sorted(path.relative_to(root).as_posix() for path in files)))

    def under(self, *folders: str, suffix: str = "") -> Iterator[str]:
        """Paths inside any of `folders` whose name ends in `suffix`."""
        for path in self.paths:
            if path.endswith(suffix) and any(path.startswith(f"{name}/") for name in folders):
                yield path

    def text(self, path: str) -> str:
        """The text of a file; empty for one that is not UTF-8."""
        if path not in self._texts:
            try:
                self._texts[path] = (self.root / path).read_text(encoding="utf-8")
            except UnicodeDecodeError:
                self._texts[path] = ""
        return self._texts[path]

    def python(self, path: str) -> ast.Module:
        """A Python file, parsed."""
        if path not in self._modules:
            self._modules[path] = ast.parse(self.text(path), filename=path)
        return self._modules[path]

    def exists(self, path: str) -> bool:
        """Whether a file or folder of the tree has this path."""
        return path in self.paths or any(name.startswith(f"{path}/") for name in self.paths)


def dotted_name(path: str) -> str:
    """Import name of a file below src/: ``src/slalom/core/events.py`` -> ``slalom.core.events``."""
    parts = PurePosixPath(path).relative_to("src").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
