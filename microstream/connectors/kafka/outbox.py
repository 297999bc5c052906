"""Rows to Kafka records, before anything is published: what the broker would refuse for ever is found here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]

from microstream.connectors.kafka.attributes import HEADERS
from microstream.connectors.kafka.client import LASTING, Cluster, log, refused
from microstream.errors import BadRecordError, ConnectorError
from microstream.formats.keys import encode_keys
from microstream.formats.protocol import Encoder

__all__ = ["HEADED", "OUTSIDE", "RECORDS", "RecordRules", "TopicLimits", "chunk_bounds", "headers_of"]

OUTSIDE = ("_key", "_headers")
"""Columns that are never part of a record's value."""

FIELDS: tuple[pa.Field[Any], ...] = (
    pa.field("key", pa.large_binary()),
    pa.field("value", pa.large_binary()),
    pa.field("time_ms", pa.int64()),
)
RECORDS = pa.schema(FIELDS)
"""What the outbox holds: `time_ms` is the event time, null where the frame has none; a null value is a tombstone."""

HEADED = RECORDS.append(pa.field("headers", HEADERS))
"""What it holds where the frame has a column `_headers`."""

RECORD_OVERHEAD_BYTES = 200
"""More than Kafka adds to a batch of one record (61 bytes and varints)."""

CHUNK_ROWS = 200_000
CHUNK_BYTES = 64 << 20
"""One transaction takes half a second and stays within a producer's queue."""

DEFAULT_LARGEST_BYTES = 1_000_000
MOST_BYTES = 1_000_000_000
"""What librdkafka can send at all."""
DEFAULT_AHEAD_MS = 3_600_000
SLACK_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicLimits:
    """What a topic accepts: `largest_bytes` of one record, and record times up to `ahead_ms` after the broker's clock.

    `behind_ms` None: as old as one likes.
    """

    largest_bytes: int = DEFAULT_LARGEST_BYTES
    ahead_ms: int = DEFAULT_AHEAD_MS
    behind_ms: int | None = None

    def accepted(self, times_ms: pa.ChunkedArray[Any], now_ms: int) -> list[int]:
        """The record times to send for event times: the nearest that the broker accepts; for null 0, which means "now".

        Kafka 4 refuses the whole transaction for one record that is an hour ahead, so that a single early row would
        stop the sink for ever.

        >>> TopicLimits().accepted(pa.chunked_array([[1_000, None, 10_000_000]]), now_ms=2_000)
        [1000, 0, 3542000]
        """
        oldest = 1 if self.behind_ms is None else max(1, now_ms - self.behind_ms + SLACK_MS)
        newest = now_ms + max(0, self.ahead_ms - SLACK_MS)
        within = pc.max_element_wise(pc.min_element_wise(times_ms, newest, skip_nulls=False), oldest, skip_nulls=False)
        accepted: list[int] = pc.fill_null(within, 0).to_pylist()
        return accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRules:
    """How rows become records of `topic`: their key columns (none: no key), their format, and the topic's limits."""

    cluster: Cluster
    topic: str
    key: tuple[str, ...]
    encoder: Encoder
    wait_s: float = 10.0
    aside: tuple[str, ...] = OUTSIDE
    """Columns that are no part of the value."""
    sink: str = ""
    """Name of the sink, for errors."""

    def encode(self, table: pa.Table, *, event_time: str | None, limits: TopicLimits) -> pa.Table:
        """`RECORDS` of all rows, or `HEADED`.

        The columns `_headers`, and `_key` unless `key` names others, become headers and key and are no part of the
        value. Where several rows make one record, its time is the latest of theirs.

        Raises
        ------
        BadRecordError
            A record is larger than the topic accepts.
        ConnectorError
            The schema registry does not answer, or refuses the columns.
        """
        values_only = table.drop_columns([name for name in self.aside if name in table.column_names])
        try:
            encoded = self.encoder.encode(values_only)
        except ConnectorError as problem:
            raise problem.at(f"sink {self.sink!r}") from problem.__cause__
        values = encoded.values
        columns: list[Any] = [pa.nulls(len(values), pa.large_binary()), values, pa.nulls(len(values), pa.int64())]
        if key := self.key or tuple({"_key"} & set(table.column_names)):
            columns[0] = encode_keys(table.select(key))
        if event_time is not None:
            columns[2] = _latest(_milliseconds(table[event_time]), encoded.ends)
        self._check_sizes(columns[0], values, limits.largest_bytes)
        if "_headers" not in table.column_names:
            return pa.Table.from_arrays(columns, schema=RECORDS)
        headers = table["_headers"].combine_chunks().cast(HEADERS)
        return pa.Table.from_arrays([*columns, headers], schema=HEADED)

    def limits(self) -> TopicLimits:
        """What the topic accepts; Kafka's defaults where the broker does not let us see it (ACL DescribeConfigs).

        Raises
        ------
        UnreachableError
            No answer within `wait_s` seconds. A guess would be kept, and let through what the topic refuses for ever.
        """
        chosen = self.cluster.setting("message.max.bytes", MOST_BYTES)
        try:
            found = _topic_settings(self.cluster.admin(), self.topic, self.wait_s)
        except KafkaException as problem:
            if problem.args[0].code() not in LASTING:
                raise refused(problem, f"topic {self.topic!r} cannot be reached", self.cluster) from problem
            log.warning("limits of topic %s are not known, Kafka's defaults are assumed: %s", self.topic, problem)
            return TopicLimits(largest_bytes=min(chosen, DEFAULT_LARGEST_BYTES))
        behind = found.get("message.timestamp.before.max.ms", 2**63 - 1)
        return TopicLimits(
            largest_bytes=min(chosen, found.get("max.message.bytes", DEFAULT_LARGEST_BYTES)),
            ahead_ms=found.get("message.timestamp.after.max.ms", DEFAULT_AHEAD_MS),
            behind_ms=None if behind == 2**63 - 1 else behind,
        )

    def _check_sizes(self, keys: Any, values: Any, largest: int) -> None:
        sizes = pc.add(_lengths(values), _lengths(keys))
        most = pc.max(sizes).as_py() if len(sizes) else 0
        if most + RECORD_OVERHEAD_BYTES <= largest:
            return
        row = pc.index(sizes, most).as_py()
        shown, key = (values[row].as_py() or b"")[:200], keys[row].as_py()
        raise BadRecordError(
            f"sink {self.sink!r}: topic {self.topic!r} accepts records of {largest} bytes at most, but that with key "
            f"{None if key is None else key[:200]!r} takes {most} and {RECORD_OVERHEAD_BYTES} of overhead. Row {row}: "
            f"{shown!r}… Drop columns or filter such rows, or raise max.message.bytes of the topic (and "
            "config={'message.max.bytes': ...} where that is set), and start the query again: nothing of this batch "
            "was committed.",
            partition=self.topic,
            offset=None,
            row=row,
            sink=self.sink,
            key=key,
            size=most,
            reason="too large",
            record=shown,
        )


def chunk_bounds(rows: pa.Table) -> tuple[int, ...]:
    """Row numbers at which `rows` are cut into transactions; the last is `rows.num_rows`."""
    total = rows.num_rows
    sizes: Any = _lengths(rows["value"]).to_numpy()
    filled = np.cumsum(sizes.astype(np.int64))
    bounds, start, before = [], 0, 0
    while start < total:
        fits = int(np.searchsorted(filled, before + CHUNK_BYTES, side="right"))
        start = min(max(fits, start + 1), start + CHUNK_ROWS, total)
        before = int(filled[start - 1])
        bounds.append(start)
    return tuple(bounds) or (0,)


def headers_of(rows: pa.Table) -> Iterator[Any] | None:
    """The headers of each row, or None where no row can have any."""
    if "headers" not in rows.column_names:
        return None
    found: list[Any] = rows["headers"].to_pylist()
    return ([(header["key"], header["value"]) for header in headers or ()] for headers in found)


def _lengths(values: Any) -> Any:
    return pc.fill_null(pc.binary_length(values), 0)


def _latest(times: pa.Array[Any], ends: npt.NDArray[np.int64] | None) -> Any:
    """The latest time of the rows of each record; null counts for nothing."""
    if ends is None:
        return times
    record = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=0))
    of_records = pa.table({"record": pa.array(record), "time": times}).group_by("record", use_threads=False)
    return of_records.aggregate([("time", "max")]).sort_by("record")["time_max"]


def _milliseconds(times: Any) -> pa.Array[Any]:
    micros: Any = times.cast(pa.int64()).combine_chunks()
    numbers = pc.fill_null(micros, 0).to_numpy(zero_copy_only=False) // 1000
    return pa.array(numbers, pa.int64(), mask=pc.is_null(micros).to_numpy(zero_copy_only=False))


def _topic_settings(admin: AdminClient, topic: str, wait_s: float) -> dict[str, int]:
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    entries = admin.describe_configs([resource], request_timeout=wait_s)[resource].result(wait_s + 1)
    return {name: int(entry.value) for name, entry in entries.items() if entry.value and entry.value.isdigit()}
