"""The command line.

Commands import what they run inside their functions: pandas, Arrow and Dask take a second, and `--help` needs none.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from microstream.cli import demo, look, run
from microstream.errors import MicrostreamError

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # Coloured help takes twice as long.
    help="Kafka topics as continuously updated data frames, on Dask.",
)
for command in (demo.demo, run.run, run.explain, look.status, look.checkpoints, look.state):
    app.command()(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"microstream {version('microstream')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of all commands."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the `microstream` command: what microstream raises on purpose is told without a traceback.

    Exit codes: 0, 1 for an error, 2 for a command that cannot be understood, 130 after Ctrl-C.
    """
    try:
        app(args=None if arguments is None else list(arguments), prog_name="microstream")
    except MicrostreamError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(1)
