from __future__ import annotations

import math
from functools import partial as bind
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lane_driver import NODE, Driver, delta_of, table_of

from microstream.clock import BEGINNING_US
from microstream.errors import InternalError
from microstream.operators.aggregate import merge
from microstream.state.lane import WindowState, step

MERGE = bind(merge, node=NODE)
EMPTY = WindowState(lo=0, closed_before_us=BEGINNING_US)

rows = st.tuples(
    st.sampled_from(["a", "b", "user-1", "user-2", "user-3", None]),
    st.sampled_from([0.0, -0.0, 1.5, None, math.nan]),
    st.one_of(st.none(), st.integers(-5, 5), st.just(2**62)),
    st.integers(-60, 60),
)


def oracle(events: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """DuckDB over all events at once; it sums without wrapping, and takes NaN and null for two keys."""
    null_is_nan = [(w, None if r is None or math.isnan(r) else r + 0.0, v, t) for w, r, v, t in events]
    connection = duckdb.connect()
    connection.register("events", table_of(null_is_nan))
    found = connection.sql(
        """
        with timed as (select *, epoch_us("at") - 3 as t from events),
        placed as (select *, t - ((t % 10) + 10) % 10 + 3 as start from timed)
        select word, "real", start, count(*), count(value), coalesce(sum(value::hugeint), 0)::varchar,
               min(value), max(value), avg(value::double)
        from placed group by word, "real", start
        """
    ).fetchall()
    return sorted(
        (
            (word, real, _time(start), _time(start + 10), n, filled, _wrapped(int(total)), least, most, average)
            for word, real, start, n, filled, total, least, most, average in found
        ),
        key=repr,
    )


def _time(time_us: int) -> Any:
    return np.datetime64(time_us, "us").item()


def _wrapped(total: int) -> int:
    return (total + 2**63) % 2**64 - 2**63


def close_to(found: list[tuple[Any, ...]], expected: list[tuple[Any, ...]]) -> bool:
    """Equal but for the rounding of the mean."""
    exact = [row[:-1] for row in found] == [row[:-1] for row in expected]
    means = [(a[-1], b[-1]) for a, b in zip(found, expected, strict=False)]
    return exact and all(a == b if None in (a, b) else math.isclose(a, b, abs_tol=1e-6) for a, b in means)


@settings(deadline=None, max_examples=60)
@given(
    batches=st.lists(st.lists(rows, max_size=12), max_size=12),
    bits=st.sampled_from([64, 4, 0]),
    data=st.data(),
)
def test_results_depend_on_the_rows_only_not_on_cuts_lanes_hashes_reloads_or_merges(
    batches: list[list[tuple[Any, ...]]], bits: int, data: st.DataObject
) -> None:
    events = [row for batch in batches for row in batch]
    driver = Driver(lanes=data.draw(st.integers(1, 4), label="lanes"), bits=bits)

    for at, batch in enumerate(batches):
        ahead = [row[-1] for later in batches[at + 1 :] for row in later]
        driver.run(batch, max(driver.watermark_us, min(ahead, default=-60)))
        if data.draw(st.booleans(), label="reload"):
            driver.reload(data.draw(st.integers(1, 4), label="lanes"))
    results = driver.finish()

    assert driver.late_rows == 0
    assert close_to(results, oracle(events))
    assert driver.runs == ()


@settings(deadline=None, max_examples=60)
@given(
    batches=st.lists(st.tuples(st.lists(rows, max_size=12), st.integers(-60, 80)), max_size=10),
    lanes=st.integers(1, 3),
)
def test_a_row_counts_unless_its_window_had_ended_by_the_previous_watermark(
    batches: list[tuple[list[tuple[Any, ...]], int]], lanes: int
) -> None:
    driver, in_time, late = Driver(lanes=lanes), [], 0
    for batch, watermark_us in batches:
        for row in batch:
            if (row[-1] - 3) // 10 * 10 + 13 <= driver.watermark_us:
                late += 1
            else:
                in_time.append(row)

        driver.run(batch, max(driver.watermark_us, watermark_us))

    assert close_to(driver.finish(), oracle(in_time))
    assert driver.late_rows == late


def test_a_window_closes_with_the_batch_whose_watermark_reaches_its_end() -> None:
    driver = Driver()

    driver.run([("a", 1.0, 7, 4)], 12)
    before = list(driver.results)
    driver.run([], 13)

    assert before == []
    assert [row[:2] + row[4:7] for row in driver.results] == [("a", 1.0, 1, 1, 7)]


def test_two_thousand_batches_leave_few_runs_each_adds_one_and_few_rows_are_written_again() -> None:
    state, runs, written = EMPTY, [], 0

    for batch in range(2_000):
        delta = delta_of([(f"user-{batch}", 1.0, 1, 0)])
        done = step(state, delta, watermark_us=BEGINNING_US, batch=batch, merge=MERGE)
        assert done.added is done.state.runs[-1]
        assert len(done.state.runs) == len(state.runs) + 1 - len(done.dropped)
        state, written = done.state, written + done.added.rows
        runs.append(len(state.runs))

    assert max(runs) <= 28
    assert written <= 2_000 * 5
    assert state.rows == 2_000


def test_partials_whose_windows_close_in_their_own_batch_never_become_a_run() -> None:
    delta = delta_of([("a", 1.0, 1, 0), ("b", 1.0, 1, 0)])

    done = step(EMPTY, delta, watermark_us=3, batch=0, merge=MERGE)

    assert done.added is None
    assert done.state.runs == ()
    assert done.closed is not None
    assert done.closed.num_rows == 2


def test_a_run_with_an_open_window_stays_listed_and_gives_the_memory_of_closed_rows_back() -> None:
    delta = delta_of([(f"user-{k}", 1.0, 1, 0) for k in range(100)] + [("a", 1.0, 1, 1_000)])
    first = step(EMPTY, delta, watermark_us=BEGINNING_US, batch=0, merge=MERGE)

    second = step(first.state, None, watermark_us=3, batch=1, merge=MERGE)

    assert second.dropped == ()
    assert [run.key for run in second.state.runs] == [(0, 0)]
    assert second.state.rows == 1
    assert second.state.runs[0].buffer_rows == 1
    assert second.state.runs[0].table.get_total_buffer_size() < delta.get_total_buffer_size() / 10


def test_a_retried_batch_starts_from_the_same_state_and_gives_the_same() -> None:
    before = step(EMPTY, delta_of([("a", 1.0, 1, 0)]), watermark_us=BEGINNING_US, batch=0, merge=MERGE).state

    tries = [
        step(before, delta_of([("a", 1.0, 2, 1), ("b", 1.0, 2, 9)]), watermark_us=3, batch=1, merge=MERGE)
        for _ in range(2)
    ]

    assert tries[0].dropped == tries[1].dropped == ((0, 0),)
    assert tries[0].closed is not None
    assert tries[0].closed.equals(tries[1].closed)
    assert before.rows == 1


def test_a_batch_without_rows_and_without_a_new_window_end_changes_nothing() -> None:
    before = step(EMPTY, delta_of([("a", 1.0, 1, 0)]), watermark_us=-9, batch=0, merge=MERGE).state

    done = step(before, None, watermark_us=2, batch=1, merge=MERGE)

    assert (done.closed, done.added, done.dropped) == (None, None, ())
    assert done.state.runs == before.runs


def test_a_falling_watermark_and_rows_of_closed_windows_are_our_bugs() -> None:
    state = step(EMPTY, None, watermark_us=13, batch=0, merge=MERGE).state

    with pytest.raises(InternalError, match="watermark fell"):
        step(state, None, watermark_us=12, batch=1, merge=MERGE)
    with pytest.raises(InternalError, match="closed"):
        step(state, delta_of([("a", 1.0, 1, 12)]), watermark_us=13, batch=1, merge=MERGE)


def test_what_has_one_row_per_key_and_window_is_not_merged_again() -> None:
    delta = delta_of([("a", 1.0, 1, 0), ("b", 2.0, 1, 9)])
    merges: list[int] = []

    def counted(partials: pa.Table) -> pa.Table:
        merges.append(partials.num_rows)
        return MERGE(partials)

    first = step(EMPTY, delta, watermark_us=BEGINNING_US, batch=0, merge=counted, unique=True)
    second = step(first.state, None, watermark_us=99, batch=1, merge=counted)

    assert merges == []
    assert first.added is not None
    assert second.closed is not None
    assert second.closed.equals(MERGE(delta))
