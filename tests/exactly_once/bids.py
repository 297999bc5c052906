"""Bids of an auction house: every value is a pure function of the bid's number, so any part can be made by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from microstream.testing.kafka import Broker, produce

__all__ = ["DISORDER_MS", "PARTITIONS", "SCHEMA", "Bids"]

PARTITIONS = 4
DISORDER_MS = 2_000
BEGIN_MS = 1_700_000_000_000
MARKER_AUCTION = -1
MARKER_AHEAD_MS = 600_000
SCHEMA = {"auction": "int64", "price": "int64", "dateTime": "epoch[ms]"}

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bids:
    """`count` bids over `span_ms` of event time, up to 2 s out of order, in turn over 4 partitions.

    Half of them go to a hot auction that changes now and then, the others to one of the newest hundred.
    """

    count: int
    span_ms: int = 220_000
    seed: int = 0

    def table(self) -> pa.Table:
        """Auction, price and dateTime (epoch ms) of all bids."""
        return self.columns(0, self.count).select(list(SCHEMA)).to_arrow()

    def produce(self, broker: Broker, topic: str, first: int, end: int) -> None:
        """Append bids `[first, end)` to `topic`."""
        frame = self.columns(first, end)
        for partition in range(PARTITIONS):
            part = frame.filter(pl.Series(np.arange(first, end) % PARTITIONS == partition))
            produce(
                broker,
                topic,
                part.select(pl.struct(pl.all()).struct.json_encode().cast(pl.Binary)).to_series().to_list(),
                partition=partition,
                timestamp=part["dateTime"].to_list(),
            )

    def produce_end(self, broker: Broker, topic: str) -> None:
        """Append one bid per partition that is so late in event time that all windows of the others close.

        Its own window never does, and its price is 0, which totals leave out: so it is in no result.
        """
        at_ms = BEGIN_MS + self.span_ms + MARKER_AHEAD_MS
        value = f'{{"auction":{MARKER_AUCTION},"price":0,"dateTime":{at_ms}}}'.encode()
        for partition in range(PARTITIONS):
            produce(broker, topic, [value], partition=partition, timestamp=at_ms)

    def columns(self, first: int, end: int) -> pl.DataFrame:
        """All columns of bids `[first, end)`."""
        number = np.arange(first, end)
        newest = number // 15
        hot = newest // 100 * 100
        recent = np.maximum(0, newest - self._below(number, 1, 100))
        in_order_ms = BEGIN_MS + number * self.span_ms // self.count
        return pl.DataFrame(
            {
                "auction": np.where(self._below(number, 2, 2) == 0, hot, recent),
                "bidder": self._below(number, 3, 10_000),
                "price": 100 + self._below(number, 4, 10_000_000),
                "channel": np.array(["web", "app", "phone", "agent"])[self._below(number, 5, 4)],
                "dateTime": in_order_ms - self._below(number, 6, DISORDER_MS + 1),
                "extra": self._below(number, 7, 10**15).astype(str),
            }
        )

    def _below(self, number: Ints, salt: int, bound: int) -> Ints:
        """Numbers in `[0, bound)` that look random: splitmix64 of the bid's number, `salt` and the seed."""
        with np.errstate(over="ignore"):
            z = number.astype(np.uint64) + np.uint64((self.seed * 100 + salt) * 0x9E3779B97F4A7C15 % 2**64)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z = z ^ (z >> np.uint64(31))
        return (z % np.uint64(bound)).astype(np.int64)
