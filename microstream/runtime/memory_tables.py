"""Tables of the memory sinks of a query, filled batch by batch as their output modes want."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import pyarrow as pa

from microstream.errors import PlanError
from microstream.plan.nodes import Sink

__all__ = ["BATCH", "MemoryTables", "table_schema"]

BATCH = "_batch"
"""Column of rows that changed: the batch in which they did."""


def table_schema(sink: Sink) -> pa.Schema:
    """Columns of the table of `sink`.

    Raises
    ------
    PlanError
        There is a column `_batch` already.
    """
    if sink.mode != "update":
        return sink.schema
    if BATCH in sink.schema.names:
        raise PlanError(
            f"sink {sink.name!r}: in output mode 'update' column {BATCH!r} tells in which batch a row changed, but the "
            "frame has such a column itself. Rename it."
        )
    return sink.schema.append(pa.field(BATCH, pa.int64(), nullable=False))


class MemoryTables:
    """What arrived in `sinks`; may be asked from any thread."""

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._sinks = {sink.name: sink for sink in sinks}
        self._schemas = {name: table_schema(sink) for name, sink in self._sinks.items()}
        self._parts: dict[str, list[pa.Table]] = {name: [] for name in self._sinks}
        self._lock = threading.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the sinks."""
        return tuple(self._sinks)

    def add(self, sink: str, batch: int, table: pa.Table) -> None:
        """Rows of a lane; or the whole result, which replaces the one before. Batches come in their order."""
        with self._lock:
            if self._sinks[sink].mode == "complete":
                self._parts[sink].clear()
            schema = self._schemas[sink]
            if BATCH in schema.names and self._sinks[sink].mode == "update":
                numbers = pa.repeat(pa.scalar(batch, pa.int64()), table.num_rows)
                table = pa.Table.from_arrays([*table.columns, numbers], schema=schema)
            self._parts[sink].append(table)

    def row_count(self) -> int:
        """Rows in all tables."""
        with self._lock:
            return sum(part.num_rows for parts in self._parts.values() for part in parts)

    def table(self, sink: str) -> pa.Table:
        """All rows of `sink`."""
        with self._lock:
            return pa.concat_tables([self._schemas[sink].empty_table(), *self._parts[sink]])

    def tails(self, rows: int) -> dict[str, pa.Table]:
        """The newest `rows` rows of each sink."""
        with self._lock:
            newest = {sink: parts[-rows:] for sink, parts in self._parts.items()}
        tables = {sink: pa.concat_tables([self._schemas[sink].empty_table(), *parts]) for sink, parts in newest.items()}
        return {sink: table.slice(max(0, table.num_rows - rows)) for sink, table in tables.items()}
