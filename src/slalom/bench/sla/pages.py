"""The page as sections between marks, so that one can be written anew and the others stay.

Owns the marks and the opening. Called by the command.
"""

import re
from collections.abc import Iterable, Mapping

_SECTION = re.compile(r"<!-- part: (\w+) -->\n(.*?)<!-- end -->\n?", re.DOTALL)


def joined(before: str, new: Mapping[str, str], order: Iterable[str]) -> str:
    """The page with new sections in place of old ones.

    Args:
        before: The page as it was; may be empty.
        new: Sections by the name of their part.
        order: Of the parts.
    """
    sections = {name: text.strip() for name, text in _SECTION.findall(before)}
    sections |= {name: text.strip() for name, text in new.items()}
    parts = [
        f"<!-- part: {name} -->\n{sections[name]}\n<!-- end -->"
        for name in order
        if name in sections
    ]
    return "\n\n".join([_OPENING, *parts]) + "\n"


_OPENING = """\
# Service levels: every policy in the twin

What each policy of the admission slot is worth on SABER's grid and on the standing loads, with the
same arrivals for all, intervals of 95 %, and only whole answers within all objectives of their task
counted as good. The same version writes the same figures on any machine, costs of decisions
apart. Made by:

<!-- skip: takes long -->
```console
make bench-sla
```"""
