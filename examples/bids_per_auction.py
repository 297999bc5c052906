"""Count, sum and maximum of bids per auction and ten seconds, from topic `bids` to topic `totals`, exactly once.

python examples/bids_per_auction.py localhost:9092 checkpoints/totals

Both topics must exist. A bid is JSON: {"auction": 1, "price": 250, "dateTime": 1700000000000}. Ctrl-C stops the query;
the same command goes on where it was.
"""

from __future__ import annotations

import sys

import microstream as ms


def totals(bids: ms.StreamFrame) -> ms.StreamFrame:
    """One row per auction and window, once the watermark has passed its end."""
    windows = bids.groupby("auction").window(ms.tumbling("10s"))
    return windows.agg(n=("price", "size"), total=("price", "sum"), top=("price", "max")).named("totals")


def main(bootstrap_servers: str, checkpoint: str) -> None:
    """Run until Ctrl-C or an error."""
    bids = ms.read_kafka(
        "bids",
        bootstrap_servers=bootstrap_servers,
        schema={"auction": "int64", "price": "int64", "dateTime": "epoch[ms]"},
        event_time="dateTime",
        watermark="4s",
        start="earliest",
    )
    result = totals(bids)
    query = ms.start(
        result.to_kafka("totals", key="auction"), result.late.to_null("late"), name="totals", checkpoint=checkpoint
    )
    try:
        query.await_termination()
    except KeyboardInterrupt:
        query.stop()


if __name__ == "__main__":
    main(*sys.argv[1:3])
