"""What a level-0 task reads: rows of its ranges, what the ledger learns from them, and where each row came from."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microstream.clock import BEGINNING_US, END_US
from microstream.connectors.protocol import RangeCount, Read, Reader
from microstream.operators.rows import Rows
from microstream.plan.nodes import Source
from microstream.plan.processing_time import FIELD
from microstream.runtime.task import PartitionMeta, StageTask

__all__ = ["Incoming", "read_sources"]

SHOWN: Final = 300
"""Characters of a row that an error shows at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """Rows by id() of the source node; row k of source s has origin `first[s] + k`, consecutive over all sources.

    `sources`, `reads` and `first` belong together, one per source that was read.
    """

    rows: dict[int, Rows | None]
    metas: tuple[PartitionMeta, ...]
    reads: tuple[Read, ...]
    first: tuple[int, ...]
    asked: str
    names: tuple[str, ...] = ()
    """Source of each of `reads`."""

    def position_of(self, origin: int | None) -> str:
        """topic-partition-offset of the row with that origin; the ranges of the task if it is not known."""
        record = self.record_of(origin)
        if record is None:
            return self.asked or "rows of an upstream operator"
        return f"{record[1]} offset {record[2]}"

    def record_of(self, origin: int | None) -> tuple[str, str, int] | None:
        """(source, partition, offset) of the row with that origin, where it is known."""
        if origin is None or not self.reads:
            return None
        which, row = self._row(origin)
        read = self.reads[which]
        ends = np.cumsum([count.rows for count in read.counts])
        partition = read.counts[int(np.searchsorted(ends, row, side="right"))].partition
        return self.names[which], partition, int(read.offsets[row])

    def values_of(self, origin: int) -> str:
        """The row with that origin, which was read, as text: at most `SHOWN` characters."""
        which, row = self._row(origin)
        (values,) = self.reads[which].table.slice(row, 1).to_pylist()
        shown = ", ".join(f"{name}={_shown(value)}" for name, value in values.items())
        return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."

    def _row(self, origin: int) -> tuple[int, int]:
        """Which of `reads` the row with that origin is in, and where."""
        which = bisect_right(self.first, origin) - 1
        return which, origin - self.first[which]


def read_sources(sources: Sequence[Source], task: StageTask, reader: Callable[[str, int], Reader]) -> Incoming:
    """Read the ranges of `task`, source by source."""
    rows: dict[int, Rows | None] = {}
    metas: dict[tuple[str, str], PartitionMeta] = {}
    reads, names, first, total = [], [], [], 0
    for source in sources:
        mine = [r for r in task.ranges if r.source == source.name]
        if not mine:
            continue
        batch_time_us = task.attempt.batch_time_us
        read = reader(source.name, task.lane).read(mine, batch_time_us=batch_time_us)
        if source.takes_batch_time:
            read = _at(batch_time_us, read)
        count = read.table.num_rows
        rows[id(source)] = Rows(table=read.table, origin=np.arange(total, total + count)) if count else None
        names.append(source.name)
        reads.append(read)
        first.append(total)
        total += count
        metas |= {(source.name, meta.partition): meta for meta in _metas(source, read)}
    asked = ", ".join(f"{r.partition} offsets {r.start} to {r.end - 1}" for r in task.ranges)
    return Incoming(
        rows=rows,
        metas=tuple(metas[r.source, r.partition] for r in task.ranges),
        reads=tuple(reads),
        first=tuple(first),
        asked=asked,
        names=tuple(names),
    )


def _at(batch_time_us: int, read: Read) -> Read:
    """`read`, whose rows all have that processing time."""
    times = pa.repeat(pa.scalar(batch_time_us, FIELD.type), read.table.num_rows)
    return replace(read, table=read.table.append_column(FIELD, times))


def _metas(source: Source, read: Read) -> list[PartitionMeta]:
    metas, start = [], 0
    for count in read.counts:
        earliest, latest = _event_times_us(source, read, start, count)
        start += count.rows
        metas.append(
            PartitionMeta(
                source=source.name,
                partition=count.partition,
                start=count.start,
                end=count.end,
                rows=count.rows,
                bad=count.bad,
                tombstones=count.tombstones,
                bytes=count.bytes,
                max_event_time_us=latest,
                min_event_time_us=earliest,
            )
        )
    return metas


def _event_times_us(source: Source, read: Read, start: int, count: RangeCount) -> tuple[int, int]:
    """The least and the greatest of the range."""
    if source.event_time is None or not count.rows:
        return END_US, BEGINNING_US
    times = read.table.column(source.event_time).slice(start, count.rows)
    ends: Any = pc.min_max(times)
    return int(ends["min"].value), int(ends["max"].value)


def _shown(value: object) -> str:
    return str(value) if isinstance(value, date) else repr(value)
