"""Window state of one (operator, lane): immutable runs of partial aggregates, and the step to the next batch.

A run is sorted by window end, so that closing a window reads exactly its rows, as slices without a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from microstream.errors import InternalError
from microstream.state.tiers import MOST, tier

__all__ = ["END", "LaneRun", "Merge", "Step", "WindowState", "add", "merged", "step"]

END: Final = "window_end"
"""Column of partials that says when a row's window ends, int64 microseconds."""

Merge: TypeAlias = Callable[[pa.Table], pa.Table]
"""Partials with several rows per key and window -> one each; associative and commutative."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LaneRun:
    """What is still open of the rows that a batch left. (`batch`, `lo`) names the run in the manifest.

    Attributes
    ----------
    table
        Partials sorted by `window_end`.
    ends_us
        The distinct window ends, ascending.
    bounds
        Rows `[bounds[i], bounds[i + 1])` belong to `ends_us[i]`.
    buffer_rows
        Rows that the table's memory holds, closed ones included.
    nbytes
        Bytes of the table's rows.
    unique
        Whether the table has one row per key and window, so that there is nothing to merge in it.
    """

    batch: int
    lo: int
    level: int
    table: pa.Table
    ends_us: npt.NDArray[np.int64]
    bounds: npt.NDArray[np.int64]
    buffer_rows: int
    nbytes: int
    unique: bool

    @classmethod
    def of(cls, table: pa.Table, *, batch: int, lo: int, level: int, unique: bool, by: str = END) -> LaneRun:
        """A run of `table`, which is sorted by column `by` unless it is already."""
        ends = table.column(by).to_numpy()
        if (ends[1:] < ends[:-1]).any():
            order = np.argsort(ends, kind="stable")
            table, ends = table.take(order), ends[order]
        begins = np.ones(len(ends), np.bool_)
        np.not_equal(ends[1:], ends[:-1], out=begins[1:])
        first, table = np.flatnonzero(begins), table.combine_chunks()
        return cls(
            batch=batch,
            lo=lo,
            level=level,
            table=table,
            ends_us=ends[first],
            bounds=np.append(first, len(ends)),
            buffer_rows=len(ends),
            nbytes=table.nbytes,
            unique=unique,
        )

    @property
    def key(self) -> tuple[int, int]:
        """(`batch`, `lo`), unique within an operator."""
        return self.batch, self.lo

    @property
    def rows(self) -> int:
        """Rows of windows that are open."""
        return self.table.num_rows

    @property
    def min_end_us(self) -> int:
        """First window end; the run is not empty."""
        return int(self.ends_us[0])

    @property
    def max_end_us(self) -> int:
        """Last window end; the run is not empty."""
        return int(self.ends_us[-1])

    def lasts_beyond(self, watermark_us: int) -> bool:
        """Whether `after` has rows."""
        return bool(self.rows) and self.max_end_us > watermark_us

    def until(self, watermark_us: int) -> pa.Table:
        """Rows of windows that end at or before `watermark_us`; no copy."""
        return self.table.slice(0, int(self.bounds[self._closed(watermark_us)]))

    def between(self, after_us: int, until_us: int) -> pa.Table:
        """Rows of windows that end after `after_us` and at or before `until_us`; no copy."""
        first = int(self.bounds[self._closed(after_us)])
        return self.table.slice(first, max(0, int(self.bounds[self._closed(until_us)]) - first))

    def after(self, watermark_us: int) -> LaneRun:
        """The run without the rows of `until`; copied once more than half of its memory is closed rows."""
        closed = self._closed(watermark_us)
        if not closed:
            return self
        first = int(self.bounds[closed])
        table, buffer_rows = self.table.slice(first), self.buffer_rows
        if 2 * table.num_rows < buffer_rows:
            table = table.take(np.arange(table.num_rows))
            buffer_rows = table.num_rows
        ends, bounds = self.ends_us[closed:], self.bounds[closed:] - first
        return replace(self, table=table, ends_us=ends, bounds=bounds, buffer_rows=buffer_rows, nbytes=table.nbytes)

    def _closed(self, watermark_us: int) -> int:
        return int(self.ends_us.searchsorted(watermark_us, side="right"))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowState:
    """Everything one lane of one operator remembers between two batches.

    Attributes
    ----------
    lo
        First hash of the lane.
    runs
        What is open, in order of (batch, lo).
    closed_before_us
        Rows of windows that end at or before this have been emitted.
    """

    lo: int
    closed_before_us: int
    runs: tuple[LaneRun, ...] = ()

    @property
    def rows(self) -> int:
        """Partial rows held; one key and window may have one in several runs."""
        return sum(run.rows for run in self.runs)

    @property
    def nbytes(self) -> int:
        """Bytes of the rows held; closed rows keep at most as much again alive."""
        return sum(run.nbytes for run in self.runs)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """What one batch does to a lane.

    Attributes
    ----------
    state
        After the batch.
    closed
        Merged partials of the windows that closed, one row per key and window; None when none did.
    added
        The one run to store, also the newest of `state`; None when the batch leaves none.
    dropped
        (batch, lo) of runs to remove from the manifest: closed entirely, or merged into `added`.
    """

    state: WindowState
    closed: pa.Table | None
    added: LaneRun | None
    dropped: tuple[tuple[int, int], ...]


def step(
    state: WindowState,
    delta: pa.Table | None,
    *,
    watermark_us: int,
    batch: int,
    merge: Merge,
    most_runs: int = MOST,
    unique: bool = False,
) -> Step:
    """Take in a batch's partials, close windows that end at or before `watermark_us` (semantics 15).

    Rows of `delta` that close at once never become a run. At most one run is added; `tiers` says which older
    runs it swallows. The cost is that of the rows that come, close or are due for merging, never of all held.

    Parameters
    ----------
    state
        After the previous batch; not changed.
    delta
        Partials of the batch for this lane, in any order, also several per key and window; None for none.
    watermark_us
        W(N) of the operator's input; it never falls.
    batch
        Id of the batch, greater than that of any run.
    merge
        Of the operator.
    most_runs
        How many runs the lane may have.
    unique
        Whether `delta` has one row per key and window.
    """
    if watermark_us < state.closed_before_us:
        raise InternalError(f"batch {batch}: watermark fell from {state.closed_before_us} to {watermark_us}")
    fresh = None
    if delta is not None and delta.num_rows:
        fresh = LaneRun.of(delta, batch=batch, lo=state.lo, level=0, unique=unique)
    if fresh is not None and fresh.min_end_us <= state.closed_before_us:
        raise InternalError(f"batch {batch} has rows of a window that closed at {fresh.min_end_us}")
    before = state.runs if fresh is None else (*state.runs, fresh)
    closing = [run for run in before if run.rows and run.min_end_us <= watermark_us]
    closed = merged([run.until(watermark_us) for run in closing], merge, unique=all(run.unique for run in closing))
    still_open = tuple(run.after(watermark_us) for run in state.runs if run.lasts_beyond(watermark_us))
    left = None if fresh is None or not fresh.lasts_beyond(watermark_us) else fresh.after(watermark_us)
    added, kept = add(still_open, left, merge, most_runs)
    runs = kept if added is None else (*kept, added)
    names = {run.key for run in runs}
    return Step(
        state=replace(state, closed_before_us=watermark_us, runs=runs),
        closed=closed,
        added=added,
        dropped=tuple(run.key for run in state.runs if run.key not in names),
    )


def add(
    runs: tuple[LaneRun, ...], fresh: LaneRun | None, merge: Merge, most_runs: int, *, by: str = END
) -> tuple[LaneRun | None, tuple[LaneRun, ...]]:
    """The run that the batch adds (None where there is no `fresh`), and the older ones that stay beside it."""
    if fresh is None:
        return None, runs
    swallowed, level = tier([run.level for run in runs], most_runs - 1)
    if fresh.unique and not swallowed:
        return replace(fresh, level=level), runs
    table = merged([*(runs[at].table for at in swallowed), fresh.table], merge)
    if table is None:
        raise InternalError(f"merging the run of batch {fresh.batch} lost its rows")
    added = LaneRun.of(table, batch=fresh.batch, lo=fresh.lo, level=level, unique=True, by=by)
    return added, tuple(run for at, run in enumerate(runs) if at not in swallowed)


def merged(tables: Sequence[pa.Table], merge: Merge, *, unique: bool = False) -> pa.Table | None:
    """All rows of `tables`, one per key and window; None where there are none. `unique`: each table has one already."""
    filled = [table for table in tables if table.num_rows]
    if unique and len(filled) == 1:
        return filled[0]
    return merge(pa.concat_tables(filled)) if filled else None
