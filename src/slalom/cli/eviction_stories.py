"""`slalom explain --eviction`: prints why models gave way.

Owns the layout; the story is `slalom.journal.evictions`'s. Called by `stories`.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from slalom.cli.output import print_json, print_table, stdout
from slalom.units import format_duration

if TYPE_CHECKING:
    from slalom.core.actions import Candidate
    from slalom.journal.evictions import EvictionStory


def show_eviction(story: "EvictionStory", *, as_json: bool) -> None:
    """Print one decision, for people or for programs."""
    if as_json:
        print_json(
            {
                "decision": story.decision,
                "at_unix_ns": story.at_unix_ns,
                "why": story.why(),
                "steps": [{"after_ns": at_ns, "text": text} for at_ns, text in story.steps],
            }
        )
        return
    decision, console = story.decision, stdout()
    when = ""
    if story.at_unix_ns:
        at = datetime.fromtimestamp(story.at_unix_ns / 1e9, UTC).astimezone()
        when = f", {at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}"
    console.print(f"Eviction {decision.number}{when}", style="bold", markup=False)
    console.print(story.why(), markup=False)
    console.print(f"Gave way: {', '.join(decision.victims)}.", markup=False)
    if decision.candidates:
        victims = set(decision.victims)
        print_table(
            ("replica", "score", "made of", "verdict"),
            (_row(one, victims) for one in decision.candidates),
            right=("score",),
        )
    else:
        console.print("The policy scores nobody: it took them in order.", markup=False)
    for after_ns, text in story.steps:
        console.print(f"  +{format_duration(after_ns)}  {text}", markup=False)


def _row(one: "Candidate", victims: set[str]) -> tuple[str, str, str, str]:
    parts = ", ".join(f"{name} {value:.4g}" for name, value in one.parts)
    verdict = "gave way" if one.replica_id in victims else "stayed"
    return one.replica_id, f"{one.score:.4g}", parts, verdict
