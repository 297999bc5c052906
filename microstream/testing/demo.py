"""`microstream demo` without its display: a real query on a made-up stream of bids, checked against pandas.

The broker is librdkafka's in-process cluster, so results go to memory: it cannot do transactions.
"""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any

import numpy as np
import pandas as pd
from confluent_kafka import Producer

import microstream as ms
from microstream.testing.inprocess import InProcessBroker

__all__ = ["BidStream", "Demo", "Snapshot", "expected_totals", "running_demo", "totals"]

TOPIC = "bids"
AUCTIONS = 8
BIDS_PER_S = 5_000
DISORDER_MS = 800
TICK_S = 0.05
REFRESH_S = 0.25
WINDOW = "2s"
KEYS = ["auction", "window_start", "window_end"]


def totals(bids: ms.StreamFrame) -> ms.StreamFrame:
    """The query of the demo."""
    return (
        bids.groupby("auction")
        .window(ms.tumbling(WINDOW))
        .agg(n=("price", "size"), total=("price", "sum"), top=("price", "max"))
    )


def expected_totals(bids: pd.DataFrame, watermark: pd.Timestamp) -> pd.DataFrame:
    """What `totals` must have emitted for `bids` at `watermark`, computed by pandas."""
    start = bids["ts"].dt.floor(WINDOW)
    rows = bids.assign(window_start=start, window_end=start + pd.Timedelta(WINDOW))
    groups = rows[rows["window_end"] <= watermark].groupby(KEYS, as_index=False)
    return groups.agg(n=("price", "size"), total=("price", "sum"), top=("price", "max"))


class BidStream(threading.Thread):
    """Bids out of order by up to 0.8 s, 5,000 per second for `seconds`; half of them for the first two auctions."""

    def __init__(self, bootstrap_servers: str, seconds: float, seed: int = 0) -> None:
        super().__init__(name="bids", daemon=True)
        self._producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 5, "log_level": 2})
        self._seconds = seconds
        self._random = np.random.default_rng(seed)
        self._ended = threading.Event()
        self._sent: list[pd.DataFrame] = []

    @property
    def bids(self) -> pd.DataFrame:
        """Every bid produced so far."""
        return pd.concat(self._sent, ignore_index=True)

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(map(len, self._sent))

    def run(self) -> None:
        """Produce at an even pace until the time is over or `stop` is called."""
        began = time.monotonic()
        sent = 0
        while not self._ended.is_set() and (elapsed := time.monotonic() - began) < self._seconds:
            if due := int(elapsed * BIDS_PER_S) - sent:
                self._send(self._made(due))
            sent += due
            self._ended.wait(TICK_S)
        self._producer.flush(10)

    def stop(self) -> None:
        """End early, and wait until what was produced has arrived."""
        self._ended.set()
        self.join()

    def _made(self, count: int) -> pd.DataFrame:
        now_ms = time.time_ns() // 1_000_000
        hot = self._random.random(count) < 0.5
        auction = np.where(hot, self._random.integers(0, 2, count), self._random.integers(0, AUCTIONS, count))
        return pd.DataFrame(
            {
                "auction": 1000 + auction,
                "price": (100 * 10 ** (3 * self._random.random(count))).astype("int64"),
                "ts": pd.to_datetime(now_ms - self._random.integers(0, DISORDER_MS, count), unit="ms"),
            }
        )

    def _send(self, bids: pd.DataFrame) -> None:
        records = bids.assign(ts=bids["ts"].astype("datetime64[ms]").astype("int64"))
        lines = records.to_json(orient="records", lines=True).splitlines()
        for at, line in enumerate(lines):
            self._producer.produce(TOPIC, line.encode(), partition=at % 4)
        self._producer.poll(0)
        self._sent.append(bids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What there is to show at one moment; `progress` is None before the first batch."""

    produced: int
    status: str
    progress: dict[str, Any] | None
    windows: pd.DataFrame


class Demo:
    """A query and the stream that feeds it."""

    def __init__(self, query: ms.StreamingQuery, stream: BidStream) -> None:
        self._query, self._stream = query, stream

    def snapshots(self) -> Iterator[Snapshot]:
        """How things stand, four times a second, until every bid is processed.

        Raises
        ------
        MicrostreamError
            The query failed.
        """
        while self._stream.is_alive():
            self._stream.join(REFRESH_S)
            if not self._query.is_active:
                self._query.await_termination()
            yield self._now()
        self._query.process_all_available()
        yield self._now()

    def wrong_windows(self) -> pd.DataFrame:
        """Rows of closed windows that pandas and the query do not agree on: none, or something is broken."""
        progress = self._query.last_progress
        if progress is None:
            return self._query.table()
        watermark = pd.Timestamp(progress["eventTime"]["watermark"]).tz_localize(None)
        expected = expected_totals(self._stream.bids, watermark)
        both = self._query.table().merge(expected, how="outer", indicator="found_in")
        return both[both["found_in"] != "both"]

    def _now(self) -> Snapshot:
        query = self._query
        return Snapshot(
            produced=self._stream.count, status=query.status, progress=query.last_progress, windows=query.table()
        )


@contextmanager
def running_demo(seconds: float) -> Iterator[Demo]:
    """A demo whose bids come for `seconds`; everything it started ends with the block."""
    with InProcessBroker() as broker, tempfile.TemporaryDirectory(prefix="microstream-demo-") as checkpoint:
        broker.create_topic(TOPIC)
        bids = ms.read_kafka(
            TOPIC,
            bootstrap_servers=broker.bootstrap_servers,
            schema={"auction": "int64", "price": "int64", "ts": "epoch[ms]"},
            event_time="ts",
            watermark="1s",
            start="earliest",
        )
        stream = BidStream(broker.bootstrap_servers, seconds)
        with _interrupts_held():
            query = totals(bids).to_memory().start(name="demo", checkpoint=checkpoint, trigger="250ms")
        stream.start()
        try:
            yield Demo(query, stream)
        finally:
            stream.stop()
            query.stop()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Threads and processes that start meanwhile never see Ctrl-C, which a terminal sends to the whole group.

    They inherit the mask of the thread that starts them. The query is then stopped in order, by the main thread.
    """
    resource_tracker.ensure_running()  # unblocks SIGINT in the thread that starts it, the first that spawns a process
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
