"""MkDocs hooks: fills in the generated parts of pages and lists the benchmark reports.

Owns the seam between MkDocs and `reference`. MkDocs loads this file by its path (`hooks` in
mkdocs.yml), so it puts the root of the checkout on the import path first. A name nobody generates
stops the build.
"""

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tools.docs.reference import GENERATED  # noqa: E402 - needs the path above

_PLACE = re.compile(r"<!-- generated: ([a-z-]+) -->")
#: Comments that tell tests/docs how to run a block; readers need none of them.
_MARK = re.compile(r"^[ \t]*<!-- (?:run|skip|file)\b.*?-->[ \t]*\n", re.MULTILINE)


def on_config(config: Any) -> Any:
    """List the reports under docs/benchmarks, whichever there are."""
    for section in config.nav:
        if "Benchmarks" in section:
            reports = sorted((ROOT / "docs" / "benchmarks").glob("*.md"))
            pages = [f"benchmarks/{page.name}" for page in reports if page.name != "index.md"]
            section["Benchmarks"] = ["benchmarks/index.md", *pages]
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each ``<!-- generated: NAME -->`` and drop the marks of the code runner."""
    return _PLACE.sub(lambda found: GENERATED[found[1]](), _MARK.sub("", markdown))
