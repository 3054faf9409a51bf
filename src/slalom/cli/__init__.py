"""The command line. `main` is the entry of the `slalom` program, `app` its definition."""

from slalom.cli.app import app, main

__all__ = ["app", "main"]
