"""Clicks of three users, one per second: number n is at second n. Queries over them, and what they must give."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from distributed import Client

import microstream as ms
from microstream.checkpoint.bundle import read_segments
from microstream.checkpoint.commit import head, read_manifest
from microstream.checkpoint.local import LocalStore
from microstream.checkpoint.manifest import Manifest
from microstream.testing.kafka import Broker, consume_all, produce, unique

__all__ = [
    "CLOSING",
    "SCHEMA",
    "append",
    "clicks",
    "numbers",
    "published_sums",
    "record",
    "run",
    "sums",
    "sums_of",
    "topic",
    "until",
    "whole",
]

SCHEMA = {"user": "str", "n": "int64", "at": "timestamp[ms]"}
WINDOW_S = 5
CLOSING = 3_000
"""A click so late that it closes the windows of all others; its own stays open."""

PATIENCE_S = 60.0


def record(n: int, /, **changes: Any) -> bytes:
    """Click `n` as JSON; a change to `...` leaves the field out."""
    fields = {"user": f"u{n % 3}", "n": n, "at": f"2026-01-01T{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}"} | changes
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


def topic(broker: Broker, name: str = "clicks", **config: str) -> str:
    """A new topic of one partition."""
    made = unique(name)
    broker.create_topic(made, config=config)
    return made


def append(broker: Broker, to: str, ns: Iterable[int]) -> None:
    """Clicks `ns`, in this order."""
    produce(broker, to, [record(n) for n in ns])


def clicks(broker: Broker, source: str, **options: Any) -> ms.StreamFrame:
    """The clicks in `source`, from its beginning."""
    options = {"start": "earliest", "bootstrap_servers": broker.bootstrap_servers} | options
    return ms.read_kafka(source, schema=SCHEMA, event_time="at", watermark="1s", **options)


def sums(frame: ms.StreamFrame, column: str = "n") -> ms.StreamFrame:
    """Sum of `column` per user and window."""
    return frame.groupby("user").window(ms.tumbling(f"{WINDOW_S}s")).agg(total=(column, "sum")).named("sums")


def sums_of(ns: Iterable[int], times: int = 1) -> Counter[tuple[str, int, int]]:
    """(user, second at which the window ends, sum of `times` n) for all windows that clicks `ns` fill."""
    totals: Counter[tuple[str, int]] = Counter()
    for n in ns:
        totals[f"u{n % 3}", (n // WINDOW_S + 1) * WINDOW_S] += n * times
    return Counter((user, end, total) for (user, end), total in totals.items())


def published_sums(broker: Broker, sink: str) -> Counter[tuple[str, int, int]]:
    """The rows of `sums` that a read_committed consumer finds in topic `sink`."""
    rows = [json.loads(stored.value or b"{}") for stored in consume_all(broker, sink)]
    return Counter((row["user"], _second(row["window_end"]), row["total"]) for row in rows)


def numbers(broker: Broker, sink: str) -> list[int]:
    """`n` of all rows that a read_committed consumer finds in topic `sink`, sorted."""
    return sorted(json.loads(stored.value or b"{}")["n"] for stored in consume_all(broker, sink))


def run(sink: Any, client: Client, checkpoint: Path | None = None, **options: Any) -> ms.StreamingQuery:
    """Everything that is there, through to the end."""
    options = {"trigger": ms.available_now()} | options
    query = ms.start(sink, checkpoint=None if checkpoint is None else str(checkpoint), client=client, **options)
    assert query.await_termination(PATIENCE_S), f"still {query.status} after {PATIENCE_S:.0f} s"
    return query


def until(condition: Callable[[], bool], what: str) -> None:
    """Return as soon as `condition()` holds; an AssertionError that names `what` after a minute."""
    rest, deadline = threading.Event(), time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:.0f} s in vain for {what}"
        rest.wait(0.01)


def whole(checkpoint: Path) -> Manifest:
    """The newest manifest of `checkpoint`, after checking that nothing in it is half-written."""
    store = LocalStore(checkpoint)
    newest = head(store)
    assert newest is not None, f"{checkpoint} holds no manifest"
    history = [read_manifest(store, seq) for seq in range(newest.seq + 1)]
    assert [later.parent for later in history[1:]] == [earlier.commit_id for earlier in history[:-1]]
    for manifest in history:
        read_segments(store, [run.segment for operator in manifest.operators for run in operator.runs])
        read_segments(
            store, [s for sink in manifest.sinks for p in sink.pending for lane in p.lanes for s in lane.segments]
        )
    return newest


def _second(text: str) -> int:
    hours, minutes, seconds = text[11:19].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds)
