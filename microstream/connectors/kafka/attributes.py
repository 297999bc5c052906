"""What a Kafka record carries beside its value, as columns: topic, partition, offset, time, key, headers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from confluent_kafka import Message

from microstream.connectors.kafka.cursor import place_of
from microstream.connectors.protocol import Range
from microstream.errors import PlanError

__all__ = ["ATTRIBUTES", "DETAILS", "HEADERS", "attribute_column", "record_times", "requested"]

HEADERS = pa.list_(pa.struct([pa.field("key", pa.large_string()), pa.field("value", pa.large_binary())]))

FIELDS: tuple[pa.Field[Any], ...] = (
    pa.field("_topic", pa.large_string(), nullable=False),
    pa.field("_partition", pa.int32(), nullable=False),
    pa.field("_offset", pa.int64(), nullable=False),
    pa.field("_timestamp", pa.timestamp("us")),
    pa.field("_key", pa.large_binary()),
    pa.field("_headers", HEADERS, nullable=False),
)
ATTRIBUTES: Mapping[str, pa.Field[Any]] = {field.name: field for field in FIELDS}
"""Columns that can be asked for; a record without headers has an empty list, one without a time or key null."""

DETAILS: Mapping[str, Callable[[Message], Any]] = {
    "_timestamp": Message.timestamp,
    "_key": Message.key,
    "_headers": Message.headers,
}
"""What must be taken from each message while it is here; the others are known from its place."""

NO_TIME = -1
_MILLIS = itemgetter(1)


def requested(metadata: bool | Iterable[str]) -> tuple[str, ...]:
    """The columns of `read_kafka(metadata=)` in one order.

    Raises
    ------
    PlanError
        There is no such column.

    >>> requested(["_offset", "_key"]), len(requested(True)), requested(False)
    (('_offset', '_key'), 6, ())
    """
    if isinstance(metadata, bool):
        return tuple(ATTRIBUTES) if metadata else ()
    names = {metadata} if isinstance(metadata, str) else set(metadata)
    unknown = sorted(names - ATTRIBUTES.keys())
    if unknown:
        raise PlanError.unknown_column("read_kafka(metadata=)", str(unknown[0]), ATTRIBUTES)
    return tuple(name for name in ATTRIBUTES if name in names)


def record_times(details: Sequence[tuple[int, int]]) -> pa.Array[Any]:
    """Record times (timestamp[us]) of what `Message.timestamp` gave: (kind, milliseconds), -1 where there is none."""
    millis = np.fromiter(map(_MILLIS, details), np.int64, len(details))
    return pa.array(millis * 1000, pa.int64(), mask=millis == NO_TIME).view(pa.timestamp("us"))


def attribute_column(
    name: str,
    ranges: Sequence[Range],
    owner: npt.NDArray[np.int64],
    offsets: npt.NDArray[np.int64],
    details: Sequence[Any],
) -> Any:
    """Column `name` of records; record k lies in range `owner[k]` at `offsets[k]`, `details[k]` is what it carries."""
    kind = ATTRIBUTES[name].type
    made: Any
    match name:
        case "_topic":
            made = pa.array([place_of(r.partition)[0] for r in ranges], kind).take(owner)
        case "_partition":
            made = pa.array([place_of(r.partition)[1] for r in ranges], kind).take(owner)
        case "_offset":
            made = pa.array(offsets)
        case "_timestamp":
            made = record_times(details)
        case "_key":
            made = pa.array(details, kind)
        case _:
            made = pa.array([headers or () for headers in details], kind)
    return made
