"""The command line.

Commands import what they run inside their functions: pandas, Arrow and Dask take a second, and `--help` needs none.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated

import typer

from microstream.errors import MicrostreamError

if TYPE_CHECKING:
    from rich.console import Console

    from microstream.testing.demo import Demo, Snapshot

__all__ = ["app", "main"]

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C ended, as shells have it."""

ROWS_SHOWN = 16
PLAIN_EVERY = 12
"""Without a terminal, one line per so many snapshots: every three seconds."""

NEXT = """\
Next: the same lines read your Kafka and keep their state where you say:

    bids = ms.read_kafka("bids", bootstrap_servers="host:9092", schema={...}, event_time="ts", watermark="10s")
    ...to_kafka("totals").start(checkpoint="s3://bucket/totals")

In a clone: examples/bids_per_auction.py is such a program, docs/tutorial.md explains it step by step."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Kafka topics as continuously updated data frames, on Dask.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"microstream {version('microstream')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of all commands."""


@app.command()
def demo(
    seconds: Annotated[int, typer.Option(min=3, max=30, help="How long bids keep coming.")] = 12,
) -> None:
    """Count, sum and maximum of made-up bids per auction, live: needs no network, no Java and no broker."""
    from rich.console import Console

    from microstream.testing.demo import running_demo

    console = Console()
    console.print("Starting an in-process Kafka, a stream of bids and a local Dask cluster ...")
    try:
        with running_demo(seconds) as running:
            last = _show(console, running)
            wrong = running.wrong_windows()
    except KeyboardInterrupt:
        console.print("Stopped.")
        raise typer.Exit(INTERRUPTED) from None
    if len(wrong) or not len(last.windows):
        console.print(f"{len(wrong)} rows differ from what pandas computes:\n{wrong.to_string()}")
        raise typer.Exit(1)
    console.print(
        f"{len(last.windows)} rows of closed windows of {last.produced:,} bids: equal to what pandas computes."
    )
    console.print("Windows that the watermark has not passed yet stay open: the clock closes none.\n")
    console.print(NEXT, highlight=False, markup=False, soft_wrap=True)


def _show(console: Console, running: Demo) -> Snapshot:
    """Draw snapshots over each other on a terminal, below each other elsewhere; the last one."""
    from rich.console import Group
    from rich.live import Live

    from microstream.observe.display import newest_windows, progress_line

    def line(now: Snapshot) -> str:
        return f"{now.produced:,} bids produced; {progress_line(now.progress, now.status)}"

    snapshots = running.snapshots()
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            for now in snapshots:
                live.update(Group(line(now), newest_windows(now.windows, ROWS_SHOWN)), refresh=True)
        return now
    for number, now in enumerate(snapshots, start=1):
        if number % PLAIN_EVERY == 0:
            console.print(line(now), highlight=False, soft_wrap=True)
    console.print(newest_windows(now.windows, ROWS_SHOWN))
    return now


def main() -> None:
    """Entry point of the `microstream` command: what microstream raises on purpose is told without a traceback."""
    try:
        app()
    except MicrostreamError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(1)
