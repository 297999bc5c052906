"""Deterministic Nexmark-like bids as a Kafka topic or Parquet, and what the throughput query must say about them.

    python benchmarks/bids.py --bids 1000000 --kafka localhost:9092 --topic bids
    python benchmarks/bids.py --bids 1000000 --parquet bids.parquet

After the generator of the Nexmark suite (https://github.com/nexmark/nexmark), whose values are unseeded and in order.
Here every value is a pure function of the event's number, so that a short run is a prefix of a long one and an answer
can be computed again. Of 50 events 46 are bids; half of the bids go to the hot auction, which changes every 100
auctions. Events are 100 us apart, minus a disorder of up to 2 s. A record has 181 bytes on average.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import polars as pl
from confluent_kafka import Producer

__all__ = ["DISORDER_MS", "PARTITIONS", "bids", "chunks", "expected_totals", "to_json", "to_kafka"]

Ints = npt.NDArray[np.int64]

BASE_MS = 1_700_000_000_000
STEP_US = 100
DISORDER_MS = 2_000
PARTITIONS = 4
CHUNK = 200_000
"""Bids per chunk: a multiple of the partitions."""

CHANNELS = pl.Series("channel", ["Google", "Facebook", "Baidu", "Apple"])


def _random(ids: Ints, salt: int) -> npt.NDArray[np.uint64]:
    """splitmix64 of (id, salt): Steele, Lea, Flood, OOPSLA 2014."""
    with np.errstate(over="ignore"):
        z = ids.astype(np.uint64) + np.uint64(salt) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def _below(ids: Ints, salt: int, bound: int) -> Ints:
    return (_random(ids, salt) % np.uint64(bound)).astype(np.int64)


def _unit(ids: Ints, salt: int) -> npt.NDArray[np.float64]:
    return (_random(ids, salt) >> np.uint64(11)) / float(1 << 53)


def _words(ids: Ints, salt: int, letters: int) -> pl.Series:
    """A word of lower-case letters from a to p per id."""
    bits = _random(ids, salt)
    columns = [((bits >> np.uint64(4 * at)) & np.uint64(15)).astype(np.uint8) + 97 for at in range(letters)]
    joined = np.ascontiguousarray(np.stack(columns, axis=1)).view(f"S{letters}").ravel()
    return pl.Series("word", joined.astype(f"U{letters}"))


def _person(ids: Ints, epoch: Ints, salt: int) -> Ints:
    """One of the last 1,000 persons, or one of the next 10."""
    span = np.minimum(epoch + 1, 1000)
    person: Ints = 1000 + epoch + 1 - span + (_unit(ids, salt) * (span + 10)).astype(np.int64)
    return person


def _url(ids: Ints) -> pl.Series:
    word = pl.col("word")
    parts = [pl.lit("/") + word.str.slice(at, 5) for at in (0, 5, 10)]
    url = pl.concat_str(pl.lit("https://www.nexmark.com"), *parts, pl.lit("/item.htm?query=1"))
    return _words(ids, 29, 15).to_frame().select(url).to_series()


def _channel(ids: Ints) -> pl.Series:
    """One of four for half of the bids, one of 10,000 for the others."""
    names = pl.DataFrame({"known": CHANNELS.gather(_below(ids, 27, 4)), "number": _below(ids, 28, 10_000)})
    other = pl.concat_str(pl.lit("channel-"), pl.col("number"))
    is_known = pl.Series(_below(ids, 26, 2) > 0)
    return names.select(pl.when(is_known).then(pl.col("known")).otherwise(other)).to_series()


def bids(first: int, last: int) -> pl.DataFrame:
    """Bids number `first` to `last` (exclusive), in the order in which they are produced."""
    number = np.arange(first, last)
    epoch = number // 46
    ids = epoch * 50 + 4 + number % 46
    newest = epoch * 3 + 2
    oldest = np.maximum(newest - 100, 0)
    cold = 1000 + oldest + (_unit(ids, 22) * (newest - oldest + 11)).astype(np.int64)
    return pl.DataFrame(
        {
            "auction": np.where(_below(ids, 21, 2) > 0, 1000 + newest // 100 * 100, cold),
            "bidder": np.where(_below(ids, 23, 4) > 0, 1001 + epoch // 100 * 100, _person(ids, epoch, 24)),
            "price": (10 ** (_unit(ids, 25) * 6) * 100).astype(np.int64),
            "channel": _channel(ids),
            "url": _url(ids),
            "dateTime": BASE_MS + ids * STEP_US // 1000 - _below(ids, 99, DISORDER_MS + 1),
            "extra": _words(ids, 30, 8),
        }
    )


def chunks(count: int) -> Iterator[pl.DataFrame]:
    """All `count` bids, 200,000 at a time."""
    for first in range(0, count, CHUNK):
        yield bids(first, min(first + CHUNK, count))


def to_json(frame: pl.DataFrame) -> list[bytes]:
    """One JSON object per row."""
    encoded = frame.select(pl.struct(frame.columns).struct.json_encode().cast(pl.Binary))
    return encoded.to_series().to_list()


def to_kafka(count: int, bootstrap_servers: str, topic: str) -> None:
    """Produce bid i to partition i % 4 of `topic`, with its event time as record time."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "linger.ms": 50,
            "compression.type": "lz4",
            "batch.size": 500_000,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 1 << 20,
        }
    )
    for frame in chunks(count):
        for at, (value, time_ms) in enumerate(zip(to_json(frame), frame["dateTime"].to_list(), strict=True)):
            while True:
                try:
                    producer.produce(topic, value, partition=at % PARTITIONS, timestamp=time_ms)
                    break
                except BufferError:
                    producer.poll(0.05)
        producer.poll(0)
    producer.flush()


def expected_totals(count: int, *, window_ms: int, watermark_ms: int) -> pl.DataFrame:
    """Number of bids and sum of prices per auction and window, of the windows that a reader of all `count` bids closes.

    Returns
    -------
    polars.DataFrame
        auction, end_ms (end of the window, milliseconds), n, total; sorted by auction and end.
    """
    end = (pl.col("dateTime") // window_ms + 1) * window_ms
    partial = []
    newest = np.zeros(PARTITIONS, dtype=np.int64)
    for frame in chunks(count):
        rows = frame.select("auction", "price", end.alias("end_ms"))
        partial.append(rows.group_by("auction", "end_ms").agg(n=pl.len(), total=pl.col("price").sum()))
        for partition in range(PARTITIONS):
            newest[partition] = max(newest[partition], frame["dateTime"][partition::PARTITIONS].to_numpy().max())
    watermark = int(newest.min()) - watermark_ms
    closed = pl.concat(partial).filter(pl.col("end_ms") <= watermark)
    totals = closed.group_by("auction", "end_ms").agg(pl.col("n").sum(), pl.col("total").sum())
    return totals.cast(pl.Int64).sort("auction", "end_ms")


def expected_running_totals(count: int) -> pl.DataFrame:
    """Number of bids and sum of prices per auction: columns auction, n, total; sorted by auction."""
    partial = [frame.group_by("auction").agg(n=pl.len(), total=pl.col("price").sum()) for frame in chunks(count)]
    totals = pl.concat(partial).group_by("auction").agg(pl.col("n").sum(), pl.col("total").sum())
    return totals.cast(pl.Int64).sort("auction")


def main(arguments: list[str]) -> None:
    """Write bids where the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bids", type=int, default=1_000_000)
    parser.add_argument("--kafka", help="host:port; the topic must exist, with 4 partitions and retention.ms=-1")
    parser.add_argument("--topic", default="bids")
    parser.add_argument("--parquet", help="file to write")
    chosen = parser.parse_args(arguments)
    if chosen.kafka:
        to_kafka(chosen.bids, chosen.kafka, chosen.topic)
    if chosen.parquet:
        pl.concat(chunks(chosen.bids)).write_parquet(chosen.parquet)


if __name__ == "__main__":
    main(sys.argv[1:])
