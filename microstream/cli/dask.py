"""`dask microstream ...`: the same commands below Dask's command line (entry point group `dask_cli`)."""

from __future__ import annotations

import click

from microstream.cli import main

__all__ = ["command"]


@click.command("microstream", add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Run and inspect microstream queries."""
    main(arguments)
