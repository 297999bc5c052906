"""What the ledger learns of sources whose event time the plan sets (`with_watermark`). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from microstream.clock import BEGINNING_US, END_US, iso
from microstream.errors import BadRecordError, InternalError
from microstream.operators.rows import Rows
from microstream.runtime.incoming import Incoming
from microstream.runtime.task import PartitionMeta

__all__ = ["timed_metas"]


def timed_metas(
    incoming: Incoming, timed: Sequence[tuple[Rows, str]], limits_us: Mapping[str, int]
) -> tuple[PartitionMeta, ...]:
    """`incoming.metas`, in which the greatest event time of a partition is that of its rows among `timed`.

    Parameters
    ----------
    timed
        Rows that got their event time in this task, each with the name of its column.
    limits_us
        Source -> latest event time that is believed (semantics: `max_ahead`); other sources keep their metas.

    Raises
    ------
    BadRecordError
        An event time lies beyond its limit: believed, it would make its partition late for ever.
    """
    lines = [
        (name, c.partition) for name, read in zip(incoming.names, incoming.reads, strict=True) for c in read.counts
    ]
    ends = np.cumsum([count.rows for read in incoming.reads for count in read.counts], dtype=np.int64)
    latest = np.full(len(lines), BEGINNING_US, np.int64)
    earliest = np.full(len(lines), END_US, np.int64)
    limits = np.array([limits_us.get(name, np.iinfo(np.int64).max) for name, _ in lines], np.int64)
    for rows, column in timed:
        if rows.origin is None or (len(rows) and rows.origin.min() < 0):
            raise InternalError(f"rows with event time {column!r} do not know their partition")
        times = rows.table.column(column).cast(pa.int64()).to_numpy()
        line = np.searchsorted(ends, rows.origin, side="right")
        beyond = times > limits[line]
        if beyond.any():
            at = int(beyond.argmax())
            position = incoming.position_of(int(rows.origin[at]))
            raise BadRecordError(
                f"{position}: event time {column} = {iso(int(times[at]))} is further ahead of the clock than max_ahead "
                "allows. Filter such rows before with_watermark, pass over the record with skip=, or raise max_ahead=.",
                partition=lines[int(line[at])][1],
                position=position,
                reason="event time is too far ahead",
            )
        np.maximum.at(latest, line, times)
        np.minimum.at(earliest, line, times)
    found = dict(zip(lines, zip(earliest.tolist(), latest.tolist(), strict=True), strict=True))
    return tuple(
        _timed(meta, *found[meta.source, meta.partition]) if meta.source in limits_us else meta
        for meta in incoming.metas
    )


def _timed(meta: PartitionMeta, earliest_us: int, latest_us: int) -> PartitionMeta:
    return replace(meta, min_event_time_us=earliest_us, max_event_time_us=latest_us)
