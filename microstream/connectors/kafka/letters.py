"""Bad records as rows of a sink: dead letters, which are the records as they were and where and why they were bad.

Kafka Connect writes headers `__connect.errors.topic` and so on; ours have a prefix of their own, so that neither they
nor the record's own can be taken for each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from microstream.connectors.kafka.attributes import HEADERS
from microstream.connectors.kafka.cursor import place_of
from microstream.connectors.kafka.outbox import OUTSIDE
from microstream.connectors.protocol import BadRecord

__all__ = ["ASIDE", "LETTERS", "PREFIX", "TIME", "letters_of"]

PREFIX = "__microstream."
TIME = "_timestamp"
ASIDE = (*OUTSIDE, TIME)
"""Columns of a letter beside its value."""

FIELDS: tuple[pa.Field[Any], ...] = (
    pa.field("_key", pa.large_binary()),
    pa.field("_headers", HEADERS),
    pa.field(TIME, pa.timestamp("us")),
    pa.field("value", pa.large_binary()),
)
LETTERS = pa.schema(FIELDS)


def letters_of(source: str, bad: Sequence[BadRecord]) -> pa.Table:
    """Rows of `LETTERS`: value, key, time and headers as they were, and after these the headers that say why.

    >>> bad = BadRecord(partition="bids-3", offset=7, reason="no JSON", value=b"oops", headers=(("h", b"1"),))
    >>> [(h["key"], h["value"]) for h in letters_of("all-bids", [bad])["_headers"].to_pylist()[0]][:3]
    [('h', b'1'), ('__microstream.error', b'no JSON'), ('__microstream.topic', b'bids')]
    """
    times = np.array([0 if record.time_us is None else record.time_us for record in bad], np.int64)
    timeless = np.array([record.time_us is None for record in bad], bool)
    columns: list[Any] = [
        pa.array([record.key for record in bad], pa.large_binary()),
        pa.array([[*(record.headers or ()), *_reasons(source, record)] for record in bad], HEADERS),
        pa.array(times, pa.int64(), mask=timeless).view(pa.timestamp("us")),
        pa.array([record.value for record in bad], pa.large_binary()),
    ]
    return pa.Table.from_arrays(columns, schema=LETTERS)


def _reasons(source: str, record: BadRecord) -> Iterator[tuple[str, bytes]]:
    topic, number = place_of(record.partition)
    yield f"{PREFIX}error", record.reason.encode()
    yield f"{PREFIX}topic", topic.encode()
    yield f"{PREFIX}partition", str(number).encode()
    yield f"{PREFIX}offset", str(record.offset).encode()
    yield f"{PREFIX}source", source.encode()
