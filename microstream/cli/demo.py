"""`demo`: a stream, a broker and a query in one command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from microstream.cli.run import INTERRUPTED

if TYPE_CHECKING:
    from rich.console import Console

    from microstream.testing.demo import Demo, Snapshot

__all__ = ["demo"]

ROWS_SHOWN = 16
PLAIN_EVERY = 12
"""Without a terminal, one line per so many snapshots: every three seconds."""

NEXT = """\
Next: the same lines read your Kafka and keep their state where you say:

    bids = ms.read_kafka("bids", bootstrap_servers="host:9092", schema={...}, event_time="ts", watermark="10s")
    ...to_kafka("totals").start(checkpoint="s3://bucket/totals")

In a clone: examples/bids_per_auction.py is such a program, docs/tutorial.md explains it step by step."""


def demo(
    seconds: Annotated[int, typer.Option(min=3, max=30, help="How long bids keep coming.")] = 12,
) -> None:
    """Count made-up bids per auction, live.

    Sum and maximum, too. Needs no network, no Java and no broker.
    """
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
