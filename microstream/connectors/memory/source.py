"""A source of tables held in memory: table i is offset i, and one batch takes one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from microstream.connectors.protocol import Bounds, Range, RangeCount, Read

__all__ = ["PARTITION", "MemoryReader", "MemorySource"]

PARTITION = "frames-0"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MemorySource:
    """`tables` of one schema, in this order; equal only to itself, so that tables are never compared."""

    tables: tuple[pa.Table, ...]

    @property
    def kind(self) -> str:
        """ "memory"."""
        return "memory"

    @property
    def target(self) -> str:
        """What is read, for people."""
        return "frames"

    @property
    def finite(self) -> bool:
        """Always: it ends after the last table."""
        return True

    def open_probe(self) -> MemoryProbe:
        """The driver's view."""
        return MemoryProbe(len(self.tables))

    def open_reader(self, *, name: str, schema: pa.Schema, event_time: str | None, max_ahead_us: int) -> MemoryReader:
        """A worker's view. Rows are the user's own: none is a bad record, however far ahead its time is."""
        return MemoryReader(self.tables, schema)


class MemoryProbe:
    """One partition, whose offsets count tables."""

    def __init__(self, tables: int) -> None:
        self._tables = tables

    def start_offsets(self, start: str) -> Mapping[str, int]:
        """Always the first table: nothing is older than the query."""
        return {PARTITION: 0}

    def bounds(self) -> Mapping[str, Bounds]:
        """All tables, one per batch."""
        return {PARTITION: Bounds(low=0, end=self._tables, finished=True, max_step=1)}

    def ends(self) -> None:
        """Asking for all costs nothing."""

    def identity(self) -> Mapping[str, str]:
        """Unknown."""
        return {}

    def offsets_at(self, time_us: int, partitions: Sequence[str]) -> Mapping[str, int | None]:
        """Tables have no record time."""
        return dict.fromkeys(partitions)

    def unstable_ends(self) -> Mapping[str, int]:
        """The end."""
        return {PARTITION: self._tables}

    def close(self) -> None:
        """Nothing to let go of."""


class MemoryReader:
    """Tables by their number."""

    def __init__(self, tables: tuple[pa.Table, ...], schema: pa.Schema) -> None:
        self._tables = tables
        self._schema = schema

    def read(self, ranges: Sequence[Range], *, batch_time_us: int) -> Read:
        """The tables of `ranges`; the offset of a row is the number of its table."""
        empty = self._schema.empty_table()
        parts, offsets, counts = [empty], [np.empty(0, dtype=np.int64)], []
        for range_ in ranges:
            tables = self._tables[range_.start : range_.end]
            rows = [table.num_rows for table in tables]
            parts += [table.select(self._schema.names).cast(self._schema) for table in tables]
            offsets.append(np.repeat(np.arange(range_.start, range_.start + len(tables)), rows))
            counts.append(
                RangeCount(
                    partition=range_.partition,
                    start=range_.start,
                    end=range_.end,
                    rows=sum(rows),
                    bad=0,
                    tombstones=0,
                    bytes=sum(table.nbytes for table in tables),
                )
            )
        return Read(table=pa.concat_tables(parts), offsets=np.concatenate(offsets), counts=tuple(counts))

    def close(self) -> None:
        """Nothing to let go of."""
