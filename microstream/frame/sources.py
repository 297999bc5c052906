"""Where frames come from."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

import pandas as pd
import pyarrow as pa

from microstream.clock import END_US, duration_us
from microstream.connectors.kafka.attributes import ATTRIBUTES, requested
from microstream.connectors.kafka.spec import KafkaSource
from microstream.connectors.memory.source import MemorySource
from microstream.connectors.rate import source as rate
from microstream.errors import PlanError
from microstream.formats.choice import check_format, check_readable, schema_without_one
from microstream.formats.registry import RegistryConfig, registry_of
from microstream.frame.inference import infer_topics, show
from microstream.frame.sinks import Format
from microstream.frame.stream import StreamFrame
from microstream.plan.dtypes import Schema, WrongColumnsError, parse_schema, schema_of, to_table
from microstream.plan.nodes import Concat, Source
from microstream.plan.processing_time import PROCESSING_TIME, with_processing_time

__all__ = ["all_columns", "concat", "delay_of", "from_pandas", "read_kafka", "read_rate", "with_event_time"]


def read_kafka(
    topics: str | Sequence[str],
    *,
    bootstrap_servers: str,
    schema: Schema | None = None,
    format: Format = "json",
    schema_registry: RegistryConfig | None = None,
    event_time: str | None = None,
    watermark: str | None = None,
    idle_timeout: str | None = "30s",
    max_ahead: str = "1D",
    start: str | datetime | None = None,
    end: str | datetime | None = None,
    metadata: bool | Sequence[str] = False,
    on_bad_record: Literal["fail", "drop", "dead_letter"] = "fail",
    dead_letter: str | None = None,
    on_data_loss: Literal["fail", "skip"] = "fail",
    skip: Sequence[tuple[str | int, int]] = (),
    config: Mapping[str, str | int | float | bool] | None = None,
    name: str | None = None,
) -> StreamFrame:
    """Records of Kafka topics as rows.

    Parameters
    ----------
    topics
        One topic, or several that hold the same kind of record.
    bootstrap_servers
        "host:port", several separated by commas.
    schema
        Column names to types: "int64" (never null), "Int64", "float64", "bool", "boolean", "str", "timestamp[ms]" (ISO
        text), "epoch[ms]" (a number), "list[...]", nested mappings; or a `pyarrow.Schema`. Other fields are ignored.
        None: of "json", inferred from the newest 1,000 records, as by `infer_schema`, and printed. The first start
        stores it in the checkpoint; later ones go by that, whatever the newest records are then.
    format
        "json": one object per record. "text", "raw": one column `value` (str, binary), and that is the record. "arrow":
        an IPC stream per record, of any number of rows. "avro", "protobuf": in the wire format of
        schema registries.
    schema_registry
        For "avro" and "protobuf": the URL of the registry, or settings of confluent-kafka's `SchemaRegistryClient` with
        "url". Without `schema`, columns are those of the newest schema of the first topic ("<topic>-value").
    event_time
        Column that says when the event happened; needed for windows. A record where it is null is a bad record.
        "_processing_time": the time at which the record is read, in a further column of this name, the last one. All
        rows of a batch have the same; windows close by the clock, also while nothing comes; no row is late. Results
        then depend on when records are read: reading them again gives others.
    watermark
        How far rows may be out of order within a partition, a duration such as "10s"; later ones may be late.
    idle_timeout
        A partition that is read to its end and quiet for so long does not hold back the watermark. None: it does. By
        processing time none does.
    max_ahead
        A record whose event time is further than this after the clock is a bad record.
    start
        Where a query without a checkpoint begins: "earliest", "latest" (the default, but earliest for
        `ms.available_now()`, `compute()`, `head()` and with `end="latest"`), or the first record of each partition
        whose record time (its `_timestamp`) is a given time or later: ISO text such as "2026-01-31T12:00", a
        `pandas.Timestamp` or `datetime` (UTC unless it has a zone), or "-30D" for that long before the query starts. A
        partition without such a record begins at its end. A checkpoint goes on where it is, whatever `start` says.
    end
        "latest": read what is there at the start, then end. A time, in the forms of `start`: each partition ends before
        its first record of that time or later; one that has none ends when the clock has passed the time. Records that
        come later are never read, and neither are partitions. Such a source is finite and can be computed. None: go on
        for ever.
    metadata
        Further columns, after those of `schema`: "_topic" (str), "_partition" (int32), "_offset" (int64), "_timestamp"
        (datetime64, the record's time; it may be `event_time`), "_key" (binary, nullable) and "_headers" (a list of
        structs key: str, value: binary); True: all of them. With "_key", a tombstone (a record without value) is a row
        whose other columns are null and whose event time is the record's; so all columns of `schema` become nullable,
        "int64" giving Int64. Without, tombstones are counted and give no row.
    on_bad_record
        "fail" stops the query and shows the record; "drop" counts it; "dead_letter" counts it and keeps it in a topic.
    dead_letter
        The topic for "dead_letter", in the same cluster; it must exist. Each bad record is there exactly once, with its
        key, value, time and headers, and after these the headers `__microstream.error` (why), `__microstream.topic`,
        `__microstream.partition`, `__microstream.offset` and `__microstream.source` (the source's `name`), all as text.
        It is a sink of the query, named "NAME-dead-letters". `compute()` and `head()` keep nothing, they only pass the
        records over.
    on_data_loss
        "fail" stops the query where retention removed unread records; "skip" goes on after them.
    skip
        (partition, offset), as in ("bids-0", 1234) or, for one topic, (0, 1234): records to pass over, which stopped
        the query once. They are not even decoded, so no function sees them either; they are counted as bad.
    config
        Settings of librdkafka, among them those for TLS and users: {"security.protocol": "SASL_SSL", "sasl.mechanism":
        "SCRAM-SHA-256", "sasl.username": ..., "sasl.password": ..., "ssl.ca.location": a file that is on every worker}.
        A sink needs its own.
    name
        Of the source in the checkpoint; the topics by default.

    Raises
    ------
    PlanError
        A type is not known, `event_time` is no time column, "_processing_time" is a column of the records or has a
        `watermark`, or records disagree about a schema that is not given.
    ConnectorError
        A schema is to be inferred, and the topic is missing or out of reach.
    """
    names = (topics,) if isinstance(topics, str) else tuple(topics)
    attributes = requested(metadata)
    if event_time == "_timestamp":
        attributes = requested({*attributes, event_time})
    registry = None if schema_registry is None else registry_of("read_kafka", format, schema_registry)
    check_format("read_kafka", format, registry)
    spec = KafkaSource(
        topics=names,
        bootstrap_servers=bootstrap_servers,
        format=format,
        registry=registry,
        start=start,
        end=end,
        metadata=attributes,
        skip=tuple(skip),
        on_bad_record=on_bad_record,
        dead_letter=dead_letter,
        on_data_loss=on_data_loss,
        config=tuple(sorted((config or {}).items())),
    )
    of_value, is_inferred = _columns(spec, schema, event_time)
    declared = with_event_time(_with_attributes(of_value, attributes), event_time)
    columns = all_columns(declared, event_time)
    if is_inferred:
        show(declared, ",".join(names))
    if "_key" in attributes:
        spec = replace(spec, required=tuple(field.name for field in of_value if not field.nullable))
    return StreamFrame(
        Source(
            name=name or ",".join(names),
            spec=spec,
            schema=columns,
            inferred=declared if is_inferred else None,
            event_time=event_time,
            delay_us=delay_of(watermark, event_time),
            idle_timeout_us=None if idle_timeout is None else duration_us(idle_timeout, argument="idle_timeout"),
            max_ahead_us=duration_us(max_ahead, argument="max_ahead"),
        )
    )


def _columns(spec: KafkaSource, schema: Schema | None, event_time: str | None) -> tuple[pa.Schema, bool]:
    """Columns of the values of records, and whether they were inferred."""
    is_inferred = schema is None and spec.format == "json"
    if schema is not None:
        found = parse_schema(schema)
    elif is_inferred:
        found = infer_topics(spec.cluster, spec.topics, event_time)
    else:
        found = parse_schema(schema_without_one("read_kafka", spec.format, spec.topics, spec.registry))
    check_readable("read_kafka", spec.format, found)
    return found, is_inferred


def read_rate(rows_per_second: int, *, name: str | None = None) -> StreamFrame:
    """Numbered rows at a constant rate, for load tests and for trying a plan out; it never ends.

    Row k has `value` k (`int64`) and, as event time, the `timestamp` of the first look at the source plus k /
    `rows_per_second` (`datetime64[us]`). Rows come in order: the watermark has no delay. A query that starts again goes
    on with the next number, and makes up for the time in which it did not run.

    Parameters
    ----------
    rows_per_second
        From 1 to 1,000,000,000. Another rate is another source: it needs a new checkpoint.
    name
        Of the source in the checkpoint; "rate-0" and so on by default.

    Raises
    ------
    PlanError
        `rows_per_second` is not possible.

    Examples
    --------
    >>> import microstream as ms
    >>> ms.read_rate(1000).dtypes.astype("str").to_dict()
    {'timestamp': 'datetime64[us]', 'value': 'int64'}
    """
    spec = rate.RateSource(rows_per_second=rows_per_second)
    return StreamFrame(Source(name=name or "", spec=spec, schema=rate.SCHEMA, event_time="timestamp"))


def from_pandas(
    data: pd.DataFrame | Sequence[pd.DataFrame],
    *,
    event_time: str | None = None,
    watermark: str | None = None,
    batches: int | None = None,
    name: str | None = None,
) -> StreamFrame:
    """Rows of pandas frames as a stream that ends: for tests, examples and trying a plan out.

    Parameters
    ----------
    data
        A frame, or a list of frames with the same columns: one batch each, in this order. The i-th frames of several
        sources come together; an empty frame is a batch without rows, after the last one the source is finished. The
        index is ignored.
    event_time
        Time column, needed for windows; never null. "_processing_time": the time at which a frame is read, as in
        `read_kafka`.
    watermark
        How far rows may be out of order, a duration such as "10s".
    batches
        Cut one frame into so many batches of nearly equal size, in row order.
    name
        Of the source; numbered by default.

    Raises
    ------
    PlanError
        Frames differ in columns or types, there is no column, a type cannot be told, an event time is null, or
        "_processing_time" is a column of the frames or has a `watermark`.

    Examples
    --------
    >>> import pandas as pd
    >>> import microstream as ms
    >>> ms.from_pandas([pd.DataFrame({"n": [1, 2]}), pd.DataFrame({"n": [3]})]).compute()
       n
    0  1
    1  2
    2  3
    """
    frames = _frames(data, batches)
    # A frame without rows has columns of types that say nothing, unless no frame has any.
    telling = [frame for frame in frames if len(frame)] or frames
    schema = with_event_time(schema_of(pd.concat(telling, ignore_index=True), "from_pandas", objects=True), event_time)
    columns = all_columns(schema, event_time)
    if event_time in schema.names:
        _require_times(frames, event_time)
    try:
        tables = tuple(
            to_table(frame, schema, f"from_pandas, frame {at}") if len(frame) else schema.empty_table()
            for at, frame in enumerate(frames)
        )
    except WrongColumnsError as problem:
        raise PlanError(str(problem)) from problem
    return StreamFrame(
        Source(
            name=name or "",
            spec=MemorySource(tables=tables),
            schema=columns,
            event_time=event_time,
            delay_us=delay_of(watermark, event_time),
            max_ahead_us=END_US // 2,
        )
    )


def concat(frames: Sequence[StreamFrame]) -> StreamFrame:
    """Rows of all `frames`, which have the same columns, types and event time.

    Raises
    ------
    PlanError
        They differ; or there is none.
    """
    given: object = frames
    if isinstance(given, StreamFrame) or not all(isinstance(frame, StreamFrame) for frame in frames):
        raise PlanError("concat: give a list of streams, as in ms.concat([a, b]).")
    if not frames:
        raise PlanError("concat: give at least one stream.")
    return frames[0] if len(frames) == 1 else StreamFrame(Concat(children=tuple(frame._node for frame in frames)))


def _frames(data: Any, batches: int | None) -> list[pd.DataFrame]:
    if isinstance(data, pd.DataFrame):
        count = 1 if batches is None else batches
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise PlanError(f"from_pandas: batches={batches!r} must be a whole number, at least 1.")
        _require_columns(data)
        bounds = [len(data) * at // count for at in range(count + 1)]
        return [data.iloc[low:high] for low, high in itertools.pairwise(bounds)]
    if not isinstance(data, Iterable):
        raise PlanError(f"from_pandas: {data!r} is neither a pandas frame nor a list of them.")
    frames = list(data)
    if batches is not None:
        raise PlanError("from_pandas: batches= cuts one frame; a list of frames is cut already.")
    if not frames or not all(isinstance(frame, pd.DataFrame) for frame in frames):
        raise PlanError("from_pandas: give a pandas frame or a list of them, at least one.")
    _require_columns(frames[0])
    columns = [list(frame.columns) for frame in frames]
    for at, names in enumerate(columns):
        if sorted(map(str, names)) != sorted(map(str, columns[0])):
            raise PlanError(
                f"from_pandas: frames must have the same columns, but frame 0 has {columns[0]} and frame {at} {names}. "
                "Use reindex(columns=) on one of them."
            )
    return frames


def _require_columns(frame: pd.DataFrame) -> None:
    if not len(frame.columns):
        raise PlanError(
            "from_pandas: the frame has no columns. The index is not one: turn it into columns with reset_index()."
        )


def _require_times(frames: list[pd.DataFrame], event_time: str) -> None:
    for at, frame in enumerate(frames):
        null = frame[event_time].isna().to_numpy()
        if null.any():
            raise PlanError(
                f"from_pandas: event time {event_time!r} is null in row {int(null.argmax())} of frame {at}. Give every "
                "row a time, or drop those rows."
            )


def _with_attributes(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    """`schema` and the columns `names` of `ATTRIBUTES`; nullable where tombstones are rows."""
    clash = sorted(set(names) & set(schema.names))
    if clash:
        raise PlanError(f"read_kafka: {clash[0]!r} is both in schema= and in metadata=. Leave it out of one of them.")
    fields = [field.with_nullable(field.nullable or "_key" in names) for field in schema]
    return pa.schema([*fields, *(ATTRIBUTES[name] for name in names)])


def with_event_time(schema: pa.Schema, event_time: str | None) -> pa.Schema:
    """`schema` to read, whose event time is never null: a record without one is a bad record (semantics 18)."""
    if event_time is None or event_time == PROCESSING_TIME:
        return schema
    at = schema.get_field_index(event_time)
    if at < 0:
        near = [PROCESSING_TIME] if event_time == PROCESSING_TIME.lstrip("_") else []
        raise PlanError.unknown_column("event_time", event_time, [*schema.names, *near])
    return schema.set(at, schema.field(at).with_nullable(False))


def all_columns(read: pa.Schema, event_time: str | None) -> pa.Schema:
    """The columns of a source of which `read` is read: these, and processing time where that is its event time."""
    return with_processing_time(read) if event_time == PROCESSING_TIME else read


def delay_of(watermark: str | None, event_time: str | None) -> int:
    """How late a row may be, in microseconds. Raises PlanError where there is no event time, or no duration."""
    if watermark is None:
        return 0
    if event_time is None:
        raise PlanError(f"watermark={watermark!r} needs event_time=, the column that it is about.")
    if event_time == PROCESSING_TIME:
        raise PlanError(
            f"watermark={watermark!r} and event_time={PROCESSING_TIME!r}: by the time at which it is read no row is "
            "late, so the watermark is that time itself. Leave watermark= out."
        )
    return duration_us(watermark, argument="watermark")
