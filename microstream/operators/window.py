"""Which window a row belongs to, and which rows are late for theirs. Times are int64 microseconds, UTC."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from microstream.errors import InternalError
from microstream.operators.rows import Rows
from microstream.plan.nodes import (
    LATE_COLUMNS,
    TIME,
    Late,
    RunningAggregate,
    Sliding,
    Stateful,
    Tumbling,
    WindowAggregate,
    event_time_shift_us,
)

__all__ = ["Times", "Windowed", "event_times_us", "split_late", "window_ends_us"]

Times = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Windowed:
    """Rows in time, the end of each row's window (of its pane, if windows slide), and event times.

    `end_us` is None where there are no windows; then event times may be unknown and all 0.
    """

    rows: Rows
    end_us: Times | None
    at_us: Times

    @property
    def table(self) -> pa.Table:
        """The rows without their origins."""
        return self.rows.table


def window_ends_us(times_us: Times, window: Tumbling) -> Times:
    """End of the window that holds each time; windows are half-open, also before 1970.

    >>> window_ends_us(np.array([-1, 0, 9, 10]), Tumbling(size_us=10))
    array([ 0, 10, 10, 20])
    """
    ends = times_us - window.offset_us
    np.floor_divide(ends, window.size_us, out=ends)
    ends += 1
    ends *= window.size_us
    ends += window.offset_us
    return ends


def event_times_us(table: pa.Table, node: Stateful) -> Times:
    """Event time of each row of the input, or 1 us less when its column is the end of an upstream window."""
    name = node.child.event_time
    if name is None:
        return np.zeros(table.num_rows, np.int64)
    column = table.column(name)
    if column.null_count:
        raise InternalError(f"{column.null_count} rows without event time {name!r} reached an aggregate")
    times = column.cast(pa.int64()).to_numpy()
    shift = event_time_shift_us(node.child)
    return times + shift if shift else times


def split_late(
    rows: Rows, node: Stateful, operator: str, *, watermark_us: int, closed_before_us: int
) -> tuple[Windowed | None, Rows | None]:
    """Rows in time, and late rows: those whose window ended at or before `closed_before_us`.

    A row that is late for some of its sliding windows only is in time, and late once per window lost (semantics 12).
    Without windows no row is late.

    Parameters
    ----------
    rows
        Rows of `node.child`.
    node
        The aggregation.
    operator
        Its id, for column `_operator`.
    watermark_us
        W(N-1) of its input, for column `_watermark`: a row older than that is in time while its window takes rows
        (semantics 10).
    closed_before_us
        Windows that ended at or before it take no more rows: W(N-1), or less by the lateness that is allowed.

    Returns
    -------
    tuple
        Rows in time with their window ends, and late rows with the columns of `Late`; None for no rows.
    """
    if not len(rows):
        return None, None
    times = event_times_us(rows.table, node)
    if isinstance(node, RunningAggregate):
        return Windowed(rows=rows, end_us=None, at_us=times), None

    def lost(rows: Rows, ends: Times) -> Rows:
        return _late_rows(rows, ends, node, watermark_us, operator)

    if isinstance(node.window, Sliding):
        return _split_sliding(rows, times, node.window, closed_before_us, lost)
    ends = window_ends_us(times, node.window)
    late = ends <= closed_before_us
    if not late.any():
        return Windowed(rows=rows, end_us=ends, at_us=times), None
    dropped = lost(rows.keep(late), ends[late])
    if late.all():
        return None, dropped
    return Windowed(rows=rows.keep(~late), end_us=ends[~late], at_us=times[~late]), dropped


def _split_sliding(
    rows: Rows, times: Times, window: Sliding, closed_us: int, lost: Callable[[Rows, Times], Rows]
) -> tuple[Windowed | None, Rows | None]:
    panes = window.pane_of(times)
    first, closed_through = window.first_windows(panes), window.closed_through(closed_us)
    count = np.maximum(np.minimum(window.last_windows(panes), closed_through) - first + 1, 0)
    late = None
    if count.any():
        which = np.repeat(np.arange(len(count)), count)
        windows = first[which] + np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
        late = lost(rows.take(which), window.window_ends_us(windows))
    used = window.last_windows(panes) > closed_through
    if not used.any():
        return None, late
    return Windowed(rows=rows.keep(used), end_us=window.pane_ends_us(panes[used]), at_us=times[used]), late


def _late_rows(rows: Rows, ends: Times, node: WindowAggregate, watermark_us: int, operator: str) -> Rows:
    added: tuple[pa.Array[Any], ...] = (
        pa.repeat(pa.scalar(operator, LATE_COLUMNS[0].type), len(rows)),
        pa.repeat(pa.scalar(watermark_us, TIME), len(rows)),
        pa.array(ends).cast(TIME),
    )
    schema = Late(operator=node).schema
    columns: list[Any] = [*rows.table.select(node.child.schema.names).columns, *added]
    return rows.carry(pa.Table.from_arrays(columns, schema=schema))
