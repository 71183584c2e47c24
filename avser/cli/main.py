"""The `avser` command: each subcommand parses its arguments, calls one function of the library and prints the answer.

Libraries are imported inside the commands, so that `avser --help` answers at once.
"""

from __future__ import annotations

import sys

import typer

from avser.cli import answers, doctor, experiments, export, live, serve, sharing, training
from avser.cli.configs import config_app
from avser.errors import AvserError, ConfigError

HELP = """Audio-visual emotion recognition that shows which moments of voice and face carried the emotion.

Answers go to stdout, progress and warnings to stderr. Exit codes: 0 done, 1 something failed, 2 wrong usage."""

COMMANDS = (
    training.cache,
    training.train,
    training.evaluate,
    experiments.ablate,
    experiments.crossval,
    experiments.robustness,
    answers.roi,
    answers.predict,
    live.live,
    serve.serve,
    sharing.push,
    export.export,
    doctor.doctor,
)

# Help as plain text: rich would take the [key=value ...] of a usage line for markup.
app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=HELP
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(config_app, name="config")


def main() -> None:
    """Entry point: errors that avser raises on purpose are printed as one message, without a traceback."""
    try:
        app()
    except AvserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
