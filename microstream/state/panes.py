"""State of sliding windows of one (operator, lane): a partial per key and *pane*, and sums of panes for closing.

Stored are runs of panes, as of windows in `state/lane.py`. Kept in memory beside them, and made again after loading,
are *blocks*: block (level, j) merges panes `[j * 2**level, (j + 1) * 2**level)` once the watermark has passed them. A
window is a row of panes, so at most 2 log2(panes) blocks and single panes, wherever it begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from microstream.errors import InternalError
from microstream.plan.windows import Ints, Sliding
from microstream.state.lane import END, LaneRun, Merge, Step, WindowState, add, merged
from microstream.state.tiers import MOST

__all__ = ["MOST_RUNS", "PANE", "PaneState", "per_window", "step"]

PANE: Final = "pane_end"
"""Column of partials that says when a row's pane ends, int64 microseconds."""

MOST_RUNS: Final = 32
"""Stored runs of a lane; merged runs then cover longer and longer ranges of panes."""

CHUNK_ROWS: Final = 2**20
"""Windows that close together are merged in chunks of about so many partials, which bounds memory in a backlog."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PaneState(WindowState):
    """`runs` hold panes; `blocks[level - 1]` holds the blocks of a level, as runs by the end of their last pane."""

    blocks: tuple[tuple[LaneRun, ...], ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of panes and blocks."""
        blocks = (run for level in self.blocks for run in level)
        return sum(run.nbytes for run in (*self.runs, *blocks))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Ranges:
    """Rows `[first[i], first[i] + count[i])` of `run` belong to `window[i]`."""

    run: LaneRun
    window: Ints
    first: Ints
    count: Ints

    def table(self, wanted: Any, window: Sliding) -> pa.Table:
        """The rows of the ranges `wanted`, with the end of their window instead of their pane."""
        first, count = self.first[wanted], self.count[wanted]
        starts = np.cumsum(count) - count
        rows = np.arange(int(count.sum())) + np.repeat(first - starts, count)
        ends = window.window_ends_us(np.repeat(self.window[wanted], count))
        return _relabelled(self.run.table.take(rows), END, ends)


def step(
    state: WindowState,
    delta: pa.Table | None,
    *,
    window: Sliding,
    watermark_us: int,
    batch: int,
    merge: Merge,
    most_runs: int = MOST_RUNS,
    blocks: bool = True,
    unique: bool = False,
) -> Step:
    """Take in a batch's partials, close windows that end at or before `watermark_us` (semantics 15).

    As `state.lane.step`, but a partial serves several windows. Rows of panes that the watermark has passed, whose later
    windows are open, are added to the blocks that there are.

    Parameters
    ----------
    state
        After the previous batch, or as loaded; not changed.
    delta
        Partials of the batch by pane, in any order; None for none.
    window
        Of the operator.
    watermark_us, batch, merge, most_runs, unique
        See `state.lane.step`.
    blocks
        Whether to keep blocks: not where merging does not make states smaller (lists).
    """
    if watermark_us < state.closed_before_us:
        raise InternalError(f"batch {batch}: watermark fell from {state.closed_before_us} to {watermark_us}")
    height = _height(window) if blocks else 0
    before = state.blocks if isinstance(state, PaneState) else _built(state, window, height, merge)
    fresh = None
    if delta is not None and delta.num_rows:
        fresh = LaneRun.of(delta, batch=batch, lo=state.lo, level=0, by=PANE, unique=unique)
        if fresh.min_end_us <= window.expired_us(state.closed_before_us):
            raise InternalError(f"batch {batch} has rows of a pane whose windows closed: {fresh.min_end_us}")
    levels = _rolled(
        (state.runs, *before), fresh, window, merge, since_us=state.closed_before_us, until_us=watermark_us
    )
    here = state.runs if fresh is None else (*state.runs, fresh)
    closed = _closed((here, *levels), window, merge, since_us=state.closed_before_us, until_us=watermark_us)
    expired_us = window.expired_us(watermark_us)
    still_open = tuple(run.after(expired_us) for run in state.runs if run.lasts_beyond(expired_us))
    left = None if fresh is None or not fresh.lasts_beyond(expired_us) else fresh.after(expired_us)
    added, kept = add(still_open, left, merge, min(most_runs, MOST_RUNS), by=PANE)
    runs = kept if added is None else (*kept, added)
    names = {run.key for run in runs}
    return Step(
        state=PaneState(
            lo=state.lo,
            closed_before_us=watermark_us,
            runs=runs,
            blocks=_alive(levels, window, window.closed_through(watermark_us)),
        ),
        closed=closed,
        added=added,
        dropped=tuple(run.key for run in state.runs if run.key not in names),
    )


def per_window(panes: pa.Table, window: Sliding, *, after_us: int) -> pa.Table:
    """Partials of `panes` for each of their windows that ends after `after_us`, so several per key and window."""
    numbers = window.pane_of(panes.column(PANE).to_numpy() - 1)
    first = np.maximum(window.first_windows(numbers), window.closed_through(after_us) + 1)
    count = np.maximum(window.last_windows(numbers) - first + 1, 0)
    which = np.repeat(np.arange(len(count)), count)
    windows = np.arange(len(which)) + np.repeat(first - (np.cumsum(count) - count), count)
    return _relabelled(panes.take(which), END, window.window_ends_us(windows))


def _built(state: WindowState, window: Sliding, height: int, merge: Merge) -> tuple[tuple[LaneRun, ...], ...]:
    """The blocks of a state that was loaded."""
    table = merged([run.table for run in state.runs], merge, unique=True)
    held = None if table is None else LaneRun.of(table, batch=0, lo=state.lo, level=0, unique=True, by=PANE)
    empty: tuple[tuple[LaneRun, ...], ...] = ((),) * (1 + height)
    return _rolled(empty, held, window, merge, since_us=state.closed_before_us, until_us=state.closed_before_us)


def _height(window: Sliding) -> int:
    """Level of the largest blocks that fit into a window."""
    return window.panes.bit_length() - 1


def _rolled(
    levels: Sequence[tuple[LaneRun, ...]],
    fresh: LaneRun | None,
    window: Sliding,
    merge: Merge,
    *,
    since_us: int,
    until_us: int,
) -> tuple[tuple[LaneRun, ...], ...]:
    """Blocks of levels 1 and up after the watermark rose from `since_us` to `until_us` and rows `fresh` came.

    `levels` begins with the panes, without those of `fresh`. A block that becomes full takes all that its halves hold;
    one that was full takes what is fresh.
    """
    needed = window.per_step * (window.closed_through(since_us) + 1)
    was_full, is_full = window.full_panes(since_us), window.full_panes(until_us)
    found = []
    for level in range(1, len(levels)):
        width = 1 << level
        first = -(-needed // width) * width
        old, new = max(was_full // width * width, first), is_full // width * width
        parts = []
        if old < new:
            parts = [run.between(*_span(window, old, new)) for run in levels[level - 1]]
        if fresh is not None and first < new:
            parts.append(fresh.between(*_span(window, first, new)))
        fresh = _block(parts, level, window, merge)
        found.append(levels[level] if fresh is None else _with(levels[level], fresh, merge))
    return tuple(found)


def _span(window: Sliding, first: int, end: int) -> tuple[int, int]:
    """Bounds of panes `[first, end)` for `LaneRun.between`."""
    return window.pane_end_us(first - 1), window.pane_end_us(end - 1)


def _block(parts: Sequence[pa.Table], level: int, window: Sliding, merge: Merge) -> LaneRun | None:
    filled = [part for part in parts if part.num_rows]
    if not filled:
        return None
    table = pa.concat_tables(filled)
    panes = window.pane_of(table.column(PANE).to_numpy() - 1)
    last = ((panes >> level) + 1 << level) - 1
    table = merge(_relabelled(table, PANE, window.pane_ends_us(last)))
    return LaneRun.of(table, batch=0, lo=0, level=0, unique=True, by=PANE)


def _with(runs: tuple[LaneRun, ...], fresh: LaneRun, merge: Merge) -> tuple[LaneRun, ...]:
    added, kept = add(runs, fresh, merge, MOST, by=PANE)
    return kept if added is None else (*kept, added)


def _alive(
    levels: Sequence[tuple[LaneRun, ...]], window: Sliding, closed_through: int
) -> tuple[tuple[LaneRun, ...], ...]:
    """Blocks that begin no earlier than a window that is open."""
    needed = window.per_step * (closed_through + 1)
    found = []
    for level, runs in enumerate(levels, 1):
        gone_us = window.pane_end_us((-(-needed >> level) << level) - 1)
        found.append(tuple(run.after(gone_us) for run in runs if run.lasts_beyond(gone_us)))
    return tuple(found)


def _closed(
    levels: Sequence[tuple[LaneRun, ...]], window: Sliding, merge: Merge, *, since_us: int, until_us: int
) -> pa.Table | None:
    """Merged partials of the windows that close, one row per key and window; None when none does."""
    windows = _closing(levels[0], window, window.closed_through(since_us), window.closed_through(until_us))
    if not len(windows):
        return None
    ranges = [
        found
        for level, (which, block) in enumerate(_cover(windows, window, len(levels) - 1))
        for run in levels[level]
        if (found := _ranges(run, windows[which], window.pane_ends_us((block + 1 << level) - 1))) is not None
    ]
    rows = np.zeros(len(windows), np.int64)
    for found in ranges:
        np.add.at(rows, np.searchsorted(windows, found.window), found.count)
    chunk = (np.cumsum(rows) - rows) // CHUNK_ROWS
    tables = []
    for number in np.unique(chunk):
        first, last = windows[chunk == number][[0, -1]]
        parts = [found.table((found.window >= first) & (found.window <= last), window) for found in ranges]
        tables.append(merge(pa.concat_tables([part for part in parts if part.num_rows])))
    return pa.concat_tables(tables)


def _closing(runs: Sequence[LaneRun], window: Sliding, since: int, through: int) -> Ints:
    """Windows after `since` and through `through` that contain a pane with rows, ascending."""
    ends = [run.ends_us for run in runs if run.rows]
    if not ends or since >= through:
        return np.zeros(0, np.int64)
    panes = window.pane_of(np.unique(np.concatenate(ends)) - 1)
    first = np.maximum(window.first_windows(panes), since + 1)
    last = np.minimum(window.last_windows(panes), through)
    # Each pane adds the windows that no pane before it has.
    first[1:] = np.maximum(first[1:], np.maximum.accumulate(last)[:-1] + 1)
    count = np.maximum(last - first + 1, 0)
    found: Ints = np.arange(int(count.sum())) + np.repeat(first - (np.cumsum(count) - count), count)
    return found


def _cover(windows: Ints, window: Sliding, height: int) -> list[tuple[Ints, Ints]]:
    """Per level up to `height`, (position in `windows`, block): together exactly the panes of each window."""
    first = windows * window.per_step
    end = first + window.panes
    found = []
    for _ in range(height):
        left = np.flatnonzero((first < end) & (first & 1 == 1))
        blocks = [first[left]]
        first[left] += 1
        right = np.flatnonzero((first < end) & (end & 1 == 1))
        end[right] -= 1
        found.append((np.concatenate([left, right]), np.concatenate([*blocks, end[right]])))
        first >>= 1
        end >>= 1
    count = end - first
    which = np.repeat(np.arange(len(windows)), count)
    found.append((which, np.arange(len(which)) + np.repeat(first - (np.cumsum(count) - count), count)))
    return found


def _ranges(run: LaneRun, windows: Ints, ends_us: Ints) -> _Ranges | None:
    """Where `run` holds the blocks that end at `ends_us`."""
    if not run.rows or not len(ends_us):
        return None
    at = np.minimum(np.searchsorted(run.ends_us, ends_us), len(run.ends_us) - 1)
    there = run.ends_us[at] == ends_us
    at = at[there]
    if not len(at):
        return None
    return _Ranges(run=run, window=windows[there], first=run.bounds[at], count=run.bounds[at + 1] - run.bounds[at])


def _relabelled(table: pa.Table, name: str, ends_us: Ints) -> pa.Table:
    """`table` with other ends of panes, or with ends of windows instead."""
    at = table.schema.get_field_index(PANE)
    return table.set_column(at, pa.field(name, pa.int64(), nullable=False), pa.chunked_array([pa.array(ends_us)]))
