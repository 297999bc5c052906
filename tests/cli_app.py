"""A program as `microstream run` is pointed at: what it makes is chosen by the function that is named."""

from __future__ import annotations

import logging
import os
import signal
import threading

import pandas as pd

import microstream as ms

log = logging.getLogger("microstream.app")
FRAME = pd.DataFrame(
    {"page": ["a", "b", "a", "a"], "ts": pd.to_datetime("2026-01-01") + pd.to_timedelta([0, 1, 70, 190], unit="s")}
)


def counts(delay: str = "0s") -> ms.StreamFrame:
    clicks = ms.from_pandas(FRAME, event_time="ts", watermark=delay, batches=4, name="clicks")
    return clicks.groupby("page").window(ms.tumbling("1min")).agg(n=("page", "size")).named("per-page")


def noted(frame: pd.DataFrame) -> pd.DataFrame:
    log.warning("%d rows", len(frame))
    return frame


def sinks() -> tuple[ms.StreamSink, ...]:
    found = counts()
    closed = found.map_batches(noted, schema=found.schema)
    return closed.to_memory(name="counts"), found.late.to_null(name="late")


def stuck(frame: pd.DataFrame) -> pd.DataFrame:
    log.warning("stuck")
    threading.Event().wait(600)
    return frame


def endless_batch() -> ms.StreamSink:
    found = counts()
    return found.map_batches(stuck, schema=found.schema).to_memory(name="counts")


def sink() -> ms.StreamSink:
    return counts().to_memory()


def started() -> None:
    sink().start(name="by-itself", trigger=ms.continuously())


def terminated() -> ms.StreamSink:
    """As if a supervisor gave up while the program was being imported."""
    os.kill(os.getpid(), signal.SIGTERM)
    return endless_rows()


def terminated_first() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    endless_rows().start(name="by-itself", checkpoint=os.environ["FOLDER"])


def endless_rows() -> ms.StreamSink:
    return ms.read_rate(10).to_null()


def nothing() -> None:
    pass


def frame() -> ms.StreamFrame:
    return counts()


def endless() -> ms.StreamSink:
    """Reads a topic that another process feeds."""
    bids = ms.read_kafka(
        os.environ["TOPIC"],
        bootstrap_servers=os.environ["BROKER"],
        schema={"k": "int64", "ts": "epoch[ms]"},
        event_time="ts",
        watermark="0s",
        start="earliest",
    )
    return bids.groupby("k").window(ms.tumbling("10s")).size().named("per-k").to_memory(name="counts")
