from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microstream.clock import BEGINNING_US
from microstream.errors import InternalError
from microstream.plan.windows import Sliding
from microstream.state.lane import Step, WindowState
from microstream.state.panes import MOST_RUNS, PANE, PaneState, _cover, _height, step

MINUTE = Sliding(size_us=60, every_us=1)


def merge(partials: pa.Table, reads: list[int] | None = None) -> pa.Table:
    """Sums of `n` per key and pane or window."""
    if reads is not None:
        reads.append(partials.num_rows)
    end = partials.column_names[1]
    merged = partials.group_by(["key", end], use_threads=False).aggregate([("n", "sum")])
    return merged.rename_columns(["key", end, "n"])


def panes(window: Sliding, times: Sequence[int], key: str = "k") -> pa.Table:
    ends = window.pane_ends_us(window.pane_of(np.array(times, np.int64)))
    return pa.table({"key": [key] * len(times), PANE: ends, "n": np.ones(len(times), np.int64)})


def run(window: Sliding, batches: Sequence[tuple[Sequence[int], int]]) -> list[Step]:
    state, steps = WindowState(lo=0, closed_before_us=BEGINNING_US), []
    for batch, (times, watermark_us) in enumerate(batches):
        done = step(state, panes(window, times), window=window, watermark_us=watermark_us, batch=batch, merge=merge)
        state = done.state
        steps.append(done)
    return steps


@settings(deadline=None)
@given(size=st.integers(1, 10**6), every=st.integers(1, 10**6), number=st.integers(-(10**9), 10**9))
def test_a_window_is_at_most_two_blocks_per_level_whichever_pane_it_begins_with(
    size: int, every: int, number: int
) -> None:
    window = Sliding(size_us=max(size, every), every_us=min(size, every))

    cover = _cover(np.array([number]), window, _height(window))

    spans = sorted((int(b) << level, int(b) + 1 << level) for level, (_, blocks) in enumerate(cover) for b in blocks)
    assert spans[0][0] == number * window.per_step
    assert spans[-1][1] == number * window.per_step + window.panes
    assert all(a[1] == b[0] for a, b in pairwise(spans))
    assert len(spans) <= max(1, 2 * math.log2(window.panes))


def test_a_minute_by_the_second_reads_a_few_partials_per_key_and_window() -> None:
    state: WindowState = WindowState(lo=0, closed_before_us=BEGINNING_US)
    closings = []
    for second in range(200):
        reads: list[int] = []
        done = step(
            state,
            panes(MINUTE, [second, second]),
            window=MINUTE,
            watermark_us=second,
            batch=second,
            merge=partial(merge, reads=reads),
        )
        state = done.state
        if done.closed is not None:
            assert done.closed.to_pylist() == [{"key": "k", "window_end": second, "n": 2 * min(second, 60)}]
            closings.append(max(reads))
        assert len(state.runs) <= MOST_RUNS

    assert len(closings) == 199
    # Single panes of the newest run may not be merged yet: two rows each here, besides one per block.
    assert np.percentile(closings, 90) <= 2 * math.log2(60) + 4
    assert isinstance(state, PaneState)
    assert sum(run.rows for level in state.blocks for run in level) <= state.rows + len(state.blocks)


times = st.lists(st.integers(0, 60), max_size=6)


@settings(deadline=None, max_examples=80)
@given(
    blocks=st.booleans(),
    window=st.builds(
        lambda size, every: Sliding(size_us=max(size, every), every_us=min(size, every)),
        st.integers(1, 25),
        st.integers(1, 25),
    ),
    batches=st.lists(st.tuples(times, st.integers(0, 15)), min_size=1, max_size=6),
)
def test_only_panes_are_stored_and_blocks_come_back_from_them(
    blocks: bool, window: Sliding, batches: list[tuple[list[int], int]]
) -> None:
    kept: WindowState = WindowState(lo=0, closed_before_us=BEGINNING_US)
    reloaded, watermark_us = kept, 0
    for batch, (found, forward) in enumerate(batches):
        used = [
            t
            for t in found
            if window.pane_end_us(int(window.pane_of(np.array([t]))[0])) > window.expired_us(kept.closed_before_us)
        ]
        watermark_us += forward
        delta = panes(window, used)
        arguments = {"window": window, "watermark_us": watermark_us, "batch": batch, "merge": merge}
        a, b = step(kept, delta, **arguments), step(reloaded, delta, blocks=blocks, **arguments)  # type: ignore[arg-type]

        assert (a.closed is None) == (b.closed is None)
        if a.closed is not None and b.closed is not None:
            order = [("window_end", "ascending")]
            assert a.closed.sort_by(order).equals(b.closed.sort_by(order))
        kept = a.state
        reloaded = WindowState(lo=0, closed_before_us=watermark_us, runs=a.state.runs)


def test_a_run_goes_when_the_last_window_of_its_last_pane_has_closed() -> None:
    window = Sliding(size_us=30, every_us=10)

    steps = run(window, [([5, 15], 0), ([], 20), ([], 39), ([], 40)])

    assert [len(s.state.runs) for s in steps] == [1, 1, 1, 0]
    assert steps[-1].dropped == ((0, 0),)
    assert [c.column("window_end").to_pylist() for s in steps if (c := s.closed) is not None] == [[10, 20], [30], [40]]


def test_a_row_of_a_pane_whose_windows_closed_and_a_falling_watermark_are_our_bugs() -> None:
    window = Sliding(size_us=30, every_us=10)
    [done] = run(window, [([5], 100)])

    with pytest.raises(InternalError, match="whose windows closed"):
        step(done.state, panes(window, [60]), window=window, watermark_us=100, batch=1, merge=merge)
    with pytest.raises(InternalError, match="fell"):
        step(done.state, None, window=window, watermark_us=99, batch=1, merge=merge)
