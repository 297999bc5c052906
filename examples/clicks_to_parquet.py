"""Clicks from Kafka to a folder of Parquet files, one folder per day, exactly once.

    python examples/feed.py clicks
    python examples/clicks_to_parquet.py --once

`ms.open_parquet("clicks")` reads what is committed; so does any tool that reads folders, as long as nothing failed.
"""

from __future__ import annotations

import sys

from arguments import parser, run_options

import microstream as ms


def by_day(clicks: ms.StreamFrame) -> ms.StreamFrame:
    """Clicks and the day (UTC) on which they happened."""
    return clicks.assign(day=ms.col("ts").dt.strftime("%Y-%m-%d"))


def main(arguments: list[str]) -> None:
    """Run until Ctrl-C, an error, or the end of what is there."""
    options = parser(__doc__, "clicks-to-parquet", source="clicks-web", folder="clicks")
    options.add_argument("--every", help='a duration such as "10min": fewer and larger files')
    chosen = options.parse_args(arguments)
    clicks = ms.read_kafka(
        chosen.source,
        bootstrap_servers=chosen.bootstrap_servers,
        schema={"user": "int64", "page": "str", "ts": "timestamp[ms]"},
        event_time="ts",
        start="earliest",
    )
    sink = by_day(clicks).to_parquet(chosen.folder, partition_cols="day", every=chosen.every)
    ms.start(sink, name="clicks-to-parquet", **run_options(chosen)).await_termination()


if __name__ == "__main__":
    main(sys.argv[1:])
