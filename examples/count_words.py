"""Words that are frequent, per ten seconds: lines of text from Kafka to counts in Kafka, exactly once.

    python examples/feed.py lines
    python examples/count_words.py --once

A text has no event time of its own, so the time of the record counts.
"""

from __future__ import annotations

import sys

from arguments import parser, run_options

import microstream as ms


def frequent_words(lines: ms.StreamFrame, least: int) -> ms.StreamFrame:
    """Word, window and count, of words that come at least `least` times."""
    words = lines.select("_timestamp", word=ms.col("value").str.split()).explode("word").dropna(subset="word")
    counts = words.groupby("word").window(ms.tumbling("10s")).agg(n=("word", "size")).named("counts")
    return counts[counts["n"] >= least]


def main(arguments: list[str]) -> None:
    """Run until Ctrl-C, an error, or the end of what is there."""
    options = parser(__doc__, "count-words", source="lines", target="frequent-words")
    options.add_argument("--least", type=int, default=100, help="times that a word comes in a window")
    chosen = options.parse_args(arguments)
    lines = ms.read_kafka(
        chosen.source,
        bootstrap_servers=chosen.bootstrap_servers,
        format="text",
        event_time="_timestamp",
        watermark="2s",
        start="earliest",
    )
    sink = frequent_words(lines, chosen.least).to_kafka(chosen.target, key="word")
    ms.start(sink, name="count-words", **run_options(chosen)).await_termination()


if __name__ == "__main__":
    main(sys.argv[1:])
