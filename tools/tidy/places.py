"""Nothing in the project names the machine it was made on or where packages come from.

Owns the list of such marks. They are spelled in pieces here, so that this file passes its own
rule. Also keeps the lock files free of addresses.
"""

import re
from collections.abc import Iterator

from tools.tidy.tree import Finding, Tree

_MARKS = {
    "a path of the machine it was made on": re.compile(
        "|".join(
            [
                r"(?<![\w.])/wor" + r"k/",
                r"(?<![\w.])/roo" + r"t/",
                r"(?<![\w.])/hom" + r"e/(?!you/|user/|me/)",
                r"(?<![\w.])/opt/(?:pyp" + r"i|wheels)",
                r"(?<![\w.])/User" + r"s/(?!you/|me/)",
            ]
        )
    ),
    "the host of a package registry": re.compile(
        r"pypi\." + r"org|pythonhosted\." + r"org|npmjs\." + r"(?:org|com)|deb\.deb" + r"ian\.org"
        r"|download\.pyt" + r"orch\.org"
    ),
    "an index address": re.compile(r"--(?:extra-)?index" + r"-url\b(?!`)|find" + r"-links"),
}


def places(tree: Tree) -> Iterator[Finding]:
    """No tracked file names this machine or a registry."""
    for path in tree.paths:
        for number, line in enumerate(tree.text(path).splitlines(), 1):
            for what, mark in _MARKS.items():
                if found := mark.search(line):
                    yield Finding(path, number, f"{what}: {found[0]!r}")
