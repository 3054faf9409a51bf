"""Print every finding of the house's rules and exit 1 if there is one.

Called by `make check` and the pre-commit hook. Takes no arguments; run it from anywhere.
Owns no rule: those are in the modules beside it.
"""

import sys
from pathlib import Path

from tools.tidy.rules import RULES, check
from tools.tidy.tree import Tree


def main() -> int:
    """Check this checkout and return the exit status."""
    tree = Tree.of_checkout(Path(__file__).parents[2])
    findings = check(tree)
    for finding in findings:
        print(finding, file=sys.stderr)
    print(f"tidy: {len(findings)} findings of {len(RULES)} rules in {len(tree.paths)} files")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
