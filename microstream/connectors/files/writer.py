"""A worker's view of a Parquet folder.

Without `every=` files are written while the batch is computed, and the outbox holds their names: rows travel once, and
all lanes write at the same time. Files of attempts that never committed stay, invisible to readers of the log. With
`every=` the outbox holds rows, and files are written from it, after the manifest that decided the roll.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from microstream.checkpoint.store import ObjectStore
from microstream.connectors.files.layout import encode_parquet, folders_of, partitioned
from microstream.connectors.files.log import (
    LogEntry,
    VisibleFile,
    create_entry,
    find_entry,
    newest_batch,
    reaching,
    schema_text,
)
from microstream.connectors.protocol import Confirmed, MarkerAheadError, Outgoing
from microstream.errors import ConnectorError

__all__ = ["ParquetWriter"]

FIELDS: tuple[pa.Field[Any], ...] = (
    pa.field("path", pa.large_string(), nullable=False),
    pa.field("rows", pa.int64(), nullable=False),
    pa.field("bytes", pa.int64(), nullable=False),
)
FILES = pa.schema(FIELDS)
"""What the outbox holds without `every=`."""
SCHEMA_KEY = b"schema"


class ParquetWriter:
    """See `microstream.connectors.protocol.Writer`; one task publishes for all lanes.

    Parameters
    ----------
    rolled
        Whether the outbox holds rows, of one or several batches, instead of names of files.
    new_id
        Random ids.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        job: str,
        sink: str,
        schema: pa.Schema,
        partition_cols: Sequence[str],
        rolled: bool,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._store = store
        self._job, self._sink, self._schema = job, sink, schema
        self._partition_cols = tuple(partition_cols)
        self._rolled = rolled
        self._new_id = new_id
        self._published: int | None = None

    def encode(self, table: pa.Table, *, event_time: str | None) -> pa.Table:
        """Write the files and give their names; with `every=` the rows.

        Raises BadRecordError for a value that cannot name a folder, UnreachableError where nothing can be written now.
        """
        rows = table.cast(self._schema)
        if not rows.num_rows:
            return rows if self._rolled else FILES.empty_table()
        if self._rolled:
            if self._partition_cols:
                folders_of(rows, self._partition_cols)  # raises here, not when the batch is committed
            return rows
        files = []
        for folder, part in partitioned(rows, self._partition_cols):
            data = encode_parquet(part)
            path = f"{folder}part-{self._new_id()}.parquet"
            with reaching(f"sink {self._sink!r}"):
                self._store.put(path, data)
            files.append({"path": path, "rows": part.num_rows, "bytes": len(data)})
        return pa.Table.from_pylist(files, schema=FILES.with_metadata({SCHEMA_KEY: schema_text(self._schema)}))

    def chunks(self, rows: pa.Table) -> tuple[int, ...]:
        """One: a batch becomes visible as a whole."""
        return (rows.num_rows,)

    def publish(self, outgoing: Outgoing) -> Confirmed:
        """Create the log entry of the batch.

        Raises MarkerAheadError where the folder is ahead of the checkpoint, ConnectorError where it is not ours.
        """
        if not outgoing.rows.num_rows:
            return Confirmed(rows=0, skipped=False)
        with reaching(f"sink {self._sink!r}: batch {outgoing.batch} is not confirmed"):
            found = None
            if self._published is None or outgoing.batch <= self._published:
                self._refuse_to_lag(outgoing)
                found = find_entry(self._store, outgoing.batch)
            mine = None
            if found is None:
                mine = self._entry(outgoing)
                found = create_entry(self._store, mine)
        self._check_ours(found)
        self._published = max(outgoing.batch, self._published or 0)
        rows = sum(file.rows for file in found.files)
        return Confirmed(rows=0 if found != mine else rows, skipped=found != mine)

    def close(self) -> None:
        """Nothing to let go of."""

    def _entry(self, outgoing: Outgoing) -> LogEntry:
        rows = outgoing.rows
        if self._rolled:
            files, schema = tuple(self._roll(outgoing)), schema_text(rows.schema)
        else:
            files = tuple(VisibleFile(**file) for file in rows.select(FILES.names).to_pylist())
            schema = (rows.schema.metadata or {})[SCHEMA_KEY].decode()
        return LogEntry(job=self._job, sink=self._sink, batch=outgoing.batch, schema=schema, files=files)

    def _roll(self, outgoing: Outgoing) -> list[VisibleFile]:
        """Files under names that follow from the manifest: who publishes again, or instead, writes the same ones."""
        files = []
        for folder, part in partitioned(outgoing.rows, self._partition_cols):
            data = encode_parquet(part)
            digest = hashlib.sha256(data).hexdigest()[:16]
            path = f"{folder}part-{self._job[:8]}-{outgoing.batch:012d}-{digest}.parquet"
            self._store.put(path, data)  # over itself, on another try: the name holds a hash of the content
            files.append(VisibleFile(path=path, rows=part.num_rows, bytes=len(data)))
        return files

    def _refuse_to_lag(self, outgoing: Outgoing) -> None:
        newest = newest_batch(self._store)
        if newest > outgoing.committed:
            raise MarkerAheadError(
                f"sink {self._sink!r}: {self._store.url} holds batch {newest}, but only batch {outgoing.committed} is "
                "known to be committed. Another driver went on, or the checkpoint was rolled back to an older copy.",
                marker=newest,
                committed=outgoing.committed,
                sink=self._sink,
                lane=outgoing.lane,
            )

    def _check_ours(self, found: LogEntry) -> None:
        if (found.job, found.sink) != (self._job, self._sink):
            raise ConnectorError(
                f"sink {self._sink!r}: batch {found.batch} in {self._store.url} was written by sink {found.sink!r} of "
                f"job {found.job}. Two queries write one folder: give each its own."
            )
