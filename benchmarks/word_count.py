"""How fast words are counted: lines of text in Kafka -> words per 10 s window -> Kafka, exactly once.

    python benchmarks/word_count.py --lines 10000000

Like `throughput.py`, whose query is what the comparison with other engines calls "word count" (one number per JSON
record); here a record is a line of ten words, so that there are ten rows to count per record. Lines are made of 10,000
words, the common ones far more often, and 100 us of record time apart, minus a disorder of up to 2 s. What a
read_committed consumer sees is compared with the same counts computed by polars. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from confluent_kafka import Producer
from throughput import figures, work_off

import microstream as ms
from microstream.testing.kafka import Broker, consume_all, unique

__all__ = ["CHUNK", "PARTITIONS", "expected_counts", "lines"]

BASE_MS = 1_700_000_000_000
STEP_US = 100
DISORDER_MS = 2_000
WINDOW_MS = 10_000
WATERMARK_MS = 4_000
PARTITIONS = 4
VOCABULARY = 10_000
WORDS_PER_LINE = 10
CHUNK = 100_000
"""Lines that are made together: a multiple of the partitions."""


def lines(chunk: int) -> pl.DataFrame:
    """Columns `line` and `time_ms` of chunk number `chunk`, in the order in which they are produced."""
    random = np.random.Generator(np.random.Philox(key=chunk))
    words = pl.Series([f"word{number}" for number in range(VOCABULARY)])
    places = (VOCABULARY * random.random((WORDS_PER_LINE, CHUNK)) ** 3).astype(np.int64)
    columns = pl.DataFrame({f"{at}": words.gather(row) for at, row in enumerate(places)})
    line = columns.select(pl.concat_str(pl.all(), separator=" ")).to_series()
    number = np.arange(chunk * CHUNK, (chunk + 1) * CHUNK)
    time_ms = BASE_MS + number * STEP_US // 1000 - random.integers(0, DISORDER_MS, CHUNK, endpoint=True)
    return pl.DataFrame({"line": line, "time_ms": time_ms})


def chunks(count: int) -> Iterator[pl.DataFrame]:
    """All `count` lines."""
    for first in range(0, count, CHUNK):
        yield lines(first // CHUNK).head(count - first)


def to_kafka(count: int, bootstrap_servers: str, topic: str) -> None:
    """Produce line i to partition i % 4 of `topic`."""
    settings = {"bootstrap.servers": bootstrap_servers, "linger.ms": 50, "compression.type": "lz4"}
    producer = Producer({**settings, "batch.size": 500_000, "queue.buffering.max.messages": 1_000_000})
    for frame in chunks(count):
        texts = frame["line"].cast(pl.Binary).to_list()
        for at, (text, time_ms) in enumerate(zip(texts, frame["time_ms"].to_list(), strict=True)):
            while True:
                try:
                    producer.produce(topic, text, partition=at % PARTITIONS, timestamp=time_ms)
                    break
                except BufferError:
                    producer.poll(0.05)
        producer.poll(0)
    producer.flush()


def counts(bootstrap_servers: str, topic: str) -> ms.StreamFrame:
    """The query."""
    source = ms.read_kafka(
        topic,
        bootstrap_servers=bootstrap_servers,
        format="text",
        event_time="_timestamp",
        watermark=f"{WATERMARK_MS}ms",
        start="earliest",
    )
    words = source.select("_timestamp", word=ms.col("value").str.split()).explode("word").dropna(subset="word")
    return words.groupby("word").window(ms.tumbling(f"{WINDOW_MS}ms")).agg(n=("word", "size"))


def expected_counts(count: int) -> pl.DataFrame:
    """word, end_ms (end of the window) and n, of the windows that a reader of all `count` lines closes; sorted."""
    end = (pl.col("time_ms") // WINDOW_MS + 1) * WINDOW_MS
    partial = []
    newest = np.zeros(PARTITIONS, dtype=np.int64)
    for frame in chunks(count):
        words = frame.select(end.alias("end_ms"), pl.col("line").str.split(" ").alias("word")).explode("word")
        partial.append(words.group_by("word", "end_ms").agg(n=pl.len().cast(pl.Int64)))
        for partition in range(PARTITIONS):
            newest[partition] = max(newest[partition], frame["time_ms"][partition::PARTITIONS].to_numpy().max())
    closed = pl.concat(partial).filter(pl.col("end_ms") <= int(newest.min()) - WATERMARK_MS)
    return closed.group_by("word", "end_ms").agg(pl.col("n").sum()).sort("word", "end_ms")


def emitted(broker: Broker, topic: str) -> pl.DataFrame:
    """What a read_committed consumer sees, in the form of `expected_counts`."""
    rows = pl.read_ndjson(b"\n".join(record.value or b"" for record in consume_all(broker, topic)))
    end = pl.col("window_end").str.to_datetime(time_zone="UTC").dt.epoch("ms")
    return rows.select("word", end.alias("end_ms"), "n").sort("word", "end_ms")


def main(arguments: list[str]) -> int:
    """Run, check, print; 1 if the result is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=10_000_000)
    parser.add_argument("--lanes", type=int, default=4, help="lanes, each in a process of its own")
    parser.add_argument("--fill", nargs=2, metavar=("HOST:PORT", "TOPIC"), help="only produce the lines")
    chosen = parser.parse_args(arguments)
    if chosen.fill:
        to_kafka(chosen.lines, *chosen.fill)
        return 0
    with Broker() as broker:
        source, target = unique("lines"), unique("counts")
        for topic in (source, target):
            broker.create_topic(topic, partitions=PARTITIONS)
        # In a process of its own, so that its memory does not count.
        fill = [sys.executable, str(Path(__file__)), "--lines", str(chosen.lines), "--fill"]
        subprocess.run([*fill, broker.bootstrap_servers, source], check=True)
        result = figures(work_off(counts(broker.bootstrap_servers, source), target, chosen.lanes))
        found = emitted(broker, target)
    expected = expected_counts(chosen.lines)
    right = found.equals(expected) and result["records"] == chosen.lines
    shown = {**result, "words": WORDS_PER_LINE * chosen.lines, "counts": len(found), "counts_expected": len(expected)}
    print(json.dumps({**shown, "equal": right}, indent=2))
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
