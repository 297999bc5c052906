"""Where rows of a frame can go: each method adds one sink and returns it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from microstream.checkpoint.open import Location, open_store
from microstream.clock import duration_us
from microstream.connectors.callback.sink import Batch, CallbackSink
from microstream.connectors.console.sink import ConsoleSink
from microstream.connectors.files.sink import ParquetSink
from microstream.formats.registry import RegistryConfig
from microstream.frame.sinks import (
    Delivery,
    Format,
    StreamSink,
    kafka_sink,
    memory_sink,
    null_sink,
    sink_of,
)
from microstream.plan.nodes import Node
from microstream.plan.specs import OutputMode

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Outputs"]


class Outputs:
    """Sinks as methods of a frame."""

    __slots__ = ()
    _node: Node

    def to_kafka(
        self,
        topic: str,
        *,
        bootstrap_servers: str | None = None,
        key: str | Sequence[str] | None = None,
        format: Format = "json",
        schema_registry: RegistryConfig | None = None,
        delivery: Delivery = "exactly_once",
        config: Mapping[str, str | int | float | bool] | None = None,
        name: str | None = None,
        output_mode: OutputMode | None = None,
    ) -> StreamSink:
        """Rows as records of all columns; the record time is the event time.

        The column "_headers", as `read_kafka(metadata=)` gives it, becomes the headers of the record, and "_key" its
        key unless `key` names others; neither is part of the value. A null key is no key.

        Parameters
        ----------
        bootstrap_servers
            The only Kafka cluster that the query reads, by default.
        key
            Column whose text, or binary value, is the key of the record, which decides its partition; several columns
            make a JSON object.
        format
            "json": one object per row. "text", "raw": the one column `value`; null is a tombstone. "arrow": an IPC
            stream per row, or with neither key nor headers per up to 1,000 rows. "avro", "protobuf": in the wire
            format of schema registries.
        schema_registry
            For "avro" and "protobuf", as for `read_kafka`; the schema of the columns is registered as "<topic>-value".
        delivery
            "exactly_once": one transaction per batch and lane, after the batch is committed. "at_least_once": without
            transactions, as soon as rows are computed, for the lowest latency; after a failure rows may be there
            twice, also rows of an attempt that never committed.
        config
            Settings of librdkafka's producer.
        name
            Of the sink within the query; the topic by default.
        output_mode
            "append": rows that are final, each once; the default where there are such. "update": rows whose value
            changed in the batch, each in the place of the one of its key before; the default for an aggregate without
            a window, and only with `key` and exactly once. "complete": the whole result of an aggregate in every batch.

        Raises
        ------
        PlanError
            A column is not there or cannot be written, or the frame has no rows of that mode.
        """
        return kafka_sink(
            self._node,
            topic,
            bootstrap_servers=bootstrap_servers,
            key=key,
            format=format,
            schema_registry=schema_registry,
            delivery=delivery,
            config=config,
            name=name,
            output_mode=output_mode,
        )

    def to_memory(self, name: str = "memory", *, output_mode: OutputMode | None = None) -> StreamSink:
        """Rows as a table in this process: `query.table(name)`. It starts empty after a restart.

        In output mode "update" the table has all rows that came, with the batch of each in column `_batch`; in mode
        "complete" the result as of the newest batch.
        """
        return memory_sink(self._node, name, output_mode)

    def to_null(self, name: str = "null", *, output_mode: OutputMode | None = None) -> StreamSink:
        """Rows are counted and dropped."""
        return null_sink(self._node, name, output_mode)

    def for_each_batch(
        self,
        fn: Callable[[pd.DataFrame, Batch], object],
        *,
        name: str = "for_each_batch",
        output_mode: OutputMode | None = None,
    ) -> StreamSink:
        """Call `fn(frame, batch)` on a worker with the rows that each lane has of each batch, once it is committed.

        At least once: after a failure `fn` may be called again with the same rows under the same `batch.id` and
        `batch.lane`. What it does is exactly once if doing it twice changes nothing, as with an upsert, or a file
        named by job, lane and id. It is called without rows only where nothing is left of a whole result.

        An error of `fn` ends the query, as in Spark. Its batch stays pending in the checkpoint: the next start calls
        `fn` with the same rows again, before anything else of this sink.

        Parameters
        ----------
        fn
            Gets a pandas frame, and a batch with `id`, `lane`, `job`, `epoch` and `sink`. What it returns is ignored.
        name
            Of the sink within the query.
        output_mode
            "append", "update" or "complete"; see `to_kafka`. A whole result ("complete") comes in one call per batch,
            with those rows that all lanes have.

        Raises
        ------
        PlanError
            `fn` cannot be called with a frame and a batch.

        Examples
        --------
        >>> import pandas as pd
        >>> import microstream as ms
        >>> def write(frame, batch):
        ...     frame.to_csv(f"/data/{batch.job}-{batch.lane}-{batch.id}.csv")
        >>> ms.from_pandas(pd.DataFrame({"n": [1]})).for_each_batch(write)
        <sink 'for_each_batch': for_each_batch microstream.frame.outputs.write>
        """
        return sink_of(self._node, name, CallbackSink(fn=fn), output_mode)

    def to_parquet(
        self,
        path: Location,
        partition_cols: str | Sequence[str] | None = None,
        every: str | None = None,
        *,
        name: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        output_mode: OutputMode | None = None,
    ) -> StreamSink:
        """Rows as Parquet files in a folder or bucket, exactly once.

        The files of a batch become visible together, when an entry of the log `_microstream/` names them:
        `ms.open_parquet(path)` reads exactly these. As long as nothing fails, every `*.parquet` file is visible, and
        any tool may read the folder by itself; a failure may leave files of attempts that never committed.

        Parameters
        ----------
        path
            A folder that all workers reach under this path, or "s3://bucket/table". It is empty, not there yet, or
            written by this sink of this query.
        partition_cols
            Columns that name hive folders, as in `day=2026-11-24/`: text, integers, booleans, dates, times.
        every
            A duration such as "10min": rows are kept in the checkpoint until the first of them is so old, by batch
            time, or until they take 256 MB, and at the stop or end of the query; then they are written together. For
            fewer, larger files; None: one file per lane and batch (and folder).
        name
            Of the sink within the query; the path by default.
        storage_options
            Of fsspec, for `path`.
        output_mode
            "append": files hold only final rows, and none of them is ever replaced.

        Raises
        ------
        PlanError
            A column is not there, or cannot be written.
        """
        cols = (partition_cols,) if isinstance(partition_cols, str) else tuple(partition_cols or ())
        spec = ParquetSink(
            url=open_store(path, storage_options, argument="to_parquet(path)").url,
            partition_cols=cols,
            every_us=0 if every is None else duration_us(every, argument="every"),
            storage_options=storage_options or {},
        )
        return sink_of(self._node, name or spec.url, spec, output_mode)

    def to_console(self, rows: int = 20, *, name: str = "console", output_mode: OutputMode | None = None) -> StreamSink:
        """Print one table per batch to the standard output of the process that started the query.

        After a failure a batch may be printed again. Only what is printed travels to that process.

        Parameters
        ----------
        rows
            Rows of a batch that are printed at most, at least 1; the line above them says how many there were.
        name
            Of the sink within the query.
        output_mode
            "append", "update" or "complete"; see `to_kafka`.
        """
        return sink_of(self._node, name, ConsoleSink(rows=rows), output_mode)
