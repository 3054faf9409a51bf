"""The `slalom` program: its commands and its help.

Owns the list of commands. Each command's own module imports what it needs when it runs, so that
`--help` and shell completion are quick.
"""

from slalom.cli import (
    ask,
    calibrate_command,
    demo,
    diagnose,
    estimate_command,
    reload_command,
    serving,
    stories,
    version,
)
from slalom.cli.bench_commands import bench_app
from slalom.cli.config_commands import config_app
from slalom.cli.model_commands import models_app
from slalom.cli.shape import examples, group
from slalom.cli.trace_commands import trace_app
from slalom.cli.twin_commands import twin_app

app = group(
    "slalom",
    "Serve code models with deadlines: one OpenAI-compatible server in front of llama.cpp, vLLM "
    "and others, which orders requests by what their users expect.",
    examples(
        "slalom serve                          serve the bundled models",
        "slalom complete src/app.py:42         complete that line with them",
        "slalom config example > slalom.yaml   start a configuration of your own",
        "slalom twin run SCENARIO              what would happen, in virtual time",
        "slalom reload                         have a server read its file anew",
        "slalom doctor                         what is wrong here, and what to do",
        "slalom --install-completion           complete commands in your shell",
        note="Exit codes: 0 it worked, 1 it failed (the last line says why), 2 wrong usage.",
    ),
    completion=True,
)

serving.register(app)
reload_command.register(app)
demo.register(app)
app.add_typer(bench_app)
calibrate_command.register(app)
ask.register(app)
app.add_typer(models_app)
app.add_typer(config_app)
app.add_typer(twin_app)
app.add_typer(trace_app)
stories.register(app)
estimate_command.register(app)
diagnose.register(app)
version.register(app)


def main() -> None:
    """Run the program."""
    app(prog_name="slalom")
