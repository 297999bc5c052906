"""Count, sum and maximum of bids per auction and ten seconds: Kafka to Kafka, exactly once.

    python examples/feed.py bids
    python examples/bids_per_auction.py --once

Without `--once` it runs until Ctrl-C; the same command goes on where it was.
"""

from __future__ import annotations

import sys

from arguments import parser, run_options

import microstream as ms


def totals(bids: ms.StreamFrame) -> ms.StreamFrame:
    """One row per auction and window, once the watermark has passed its end."""
    windows = bids.groupby("auction").window(ms.tumbling("10s"))
    return windows.agg(n=("price", "size"), total=("price", "sum"), top=("price", "max")).named("totals")


def main(arguments: list[str]) -> None:
    """Run until Ctrl-C, an error, or the end of what is there."""
    chosen = parser(__doc__, "bids-per-auction", source="bids", target="totals").parse_args(arguments)
    bids = ms.read_kafka(
        chosen.source,
        bootstrap_servers=chosen.bootstrap_servers,
        schema={"auction": "int64", "price": "int64", "ts": "timestamp[ms]"},
        event_time="ts",
        watermark="4s",
        start="earliest",
    )
    sink = totals(bids).to_kafka(chosen.target, key="auction")
    ms.start(sink, name="bids-per-auction", **run_options(chosen)).await_termination()


if __name__ == "__main__":
    main(sys.argv[1:])
