"""Slalom: an SLA-aware serving runtime in front of unmodified code-LLM engines.

The package is a stack of rooms; imports run downward only (see docs/explanation/architecture.md).
Start reading at `core/events.py`, then `core/actions.py`, then `core/scheduler.py`.
"""

__version__ = "0.1.0"
