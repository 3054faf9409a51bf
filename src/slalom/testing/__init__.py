"""What tests of Slalom, and of engines and policies for it, are made of.

Owns the fakes (`FakeEngine`), virtual time and the conformance kit (`check_engine`). May import
every room but the command line; nothing in the package imports it.
"""

from slalom.testing.check_engine import (
    CHECKS,
    Outcome,
    Report,
    Result,
    check_engine,
    run_check,
)
from slalom.testing.engine_subject import BrokenLoad, Subject
from slalom.testing.fake_engine import FakeEngine
from slalom.testing.fake_launcher import FakeLauncher, FakeLoad
from slalom.testing.fake_script import FakeScript, FakeTimings, Fault, FaultKind
from slalom.testing.virtual_loop import DeadlockError, VirtualClock, VirtualLoop, run_virtual

__all__ = [
    "CHECKS",
    "BrokenLoad",
    "DeadlockError",
    "FakeEngine",
    "FakeLauncher",
    "FakeLoad",
    "FakeScript",
    "FakeTimings",
    "Fault",
    "FaultKind",
    "Outcome",
    "Report",
    "Result",
    "Subject",
    "VirtualClock",
    "VirtualLoop",
    "check_engine",
    "run_check",
    "run_virtual",
]
