"""The conformance kit of engines: what the runtime relies on, as named checks to run on yours.

Owns running checks and reporting; the checks themselves are in `engine_answer_checks`
and `engine_life_checks`. Called by tests,
one test per check and engine, and by people who write an engine: see `check_engine`.
"""

import time
from dataclasses import dataclass
from enum import StrEnum

from slalom.testing.engine_answer_checks import ANSWER_CHECKS
from slalom.testing.engine_life_checks import LIFE_CHECKS
from slalom.testing.engine_subject import NotApplicableError, Subject

#: Every check by its name, in the order of a report.
CHECKS = {**ANSWER_CHECKS, **LIFE_CHECKS}


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "FAILED"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Result:
    """One check on one engine."""

    check: str
    outcome: Outcome
    #: What was measured, why it was skipped, or what is wrong.
    detail: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """All checks on one engine; `str()` is a table for people."""

    subject: str
    results: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return all(result.outcome is not Outcome.FAILED for result in self.results)

    def __str__(self) -> str:
        width = max((len(result.check) for result in self.results), default=0)
        lines = [
            f"  {result.check:<{width}}  {result.outcome:<7}  {result.seconds:6.2f} s  "
            f"{result.detail}".rstrip()
            for result in self.results
        ]
        return "\n".join((f"engine {self.subject}:", *lines))


async def run_check(name: str, subject: Subject) -> Result:
    """Run one check by its name in `CHECKS`."""
    started_s = time.monotonic()
    try:
        async with subject.surroundings():
            detail = await CHECKS[name](subject)
        outcome = Outcome.PASSED
    except NotApplicableError as reason:
        outcome, detail = Outcome.SKIPPED, str(reason)
    except Exception as problem:  # noqa: BLE001 - a report tells all that is wrong at once
        outcome, detail = Outcome.FAILED, f"{type(problem).__name__}: {problem}"
    return Result(name, outcome, detail, time.monotonic() - started_s)


async def check_engine(subject: Subject) -> Report:
    """Run every check on an engine, one after the other, each on engines of its own."""
    return Report(subject.name, tuple([await run_check(name, subject) for name in CHECKS]))
