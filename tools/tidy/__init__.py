"""The house's own rules that no ready-made linter knows, as small functions over a tree of files.

Owns what CONTRIBUTING.md promises about sizes, names, sleeps, dead modules, links and docs. Owns
neither style (ruff) nor arrows (import-linter). `python -m tools.tidy` prints what is wrong;
tests/tidy runs the same rules, and shows on small made-up trees that each of them can fail.
"""

from tools.tidy.rules import RULES, check
from tools.tidy.tree import Finding, Tree

__all__ = ["RULES", "Finding", "Tree", "check"]
