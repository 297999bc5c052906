from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import rows_of, source

from microstream.clock import BEGINNING_US
from microstream.errors import InternalError, PlanError
from microstream.operators.rows import Rows
from microstream.operators.window import event_times_us, split_late, window_ends_us
from microstream.plan.expr import Column, Literal
from microstream.plan.nodes import (
    TIME,
    Aggregate,
    Concat,
    Filter,
    Late,
    Node,
    Project,
    Tumbling,
    WindowAggregate,
    event_time_shift_us,
)

EVENTS = source(k="int64")
SIZE = (Aggregate(name="n", column=None, how="size"),)


def windowed(child: Node, on: str = "at", size_us: int = 10, offset_us: int = 0) -> WindowAggregate:
    window = Tumbling(size_us=size_us, offset_us=offset_us)
    return WindowAggregate(child=child, keys=("k",), window=window, on=on, aggregates=SIZE)


@given(
    times=st.lists(st.integers(-(10**15), 10**15), min_size=1),
    size_us=st.integers(1, 10**12),
    offset_us=st.integers(-(10**12), 10**12),
)
def test_each_time_lies_in_its_half_open_aligned_window(times: list[int], size_us: int, offset_us: int) -> None:
    given_times = np.array(times)

    ends = window_ends_us(given_times, Tumbling(size_us=size_us, offset_us=offset_us))

    for time, end in zip(times, ends.tolist(), strict=True):
        assert end - size_us <= time < end
        assert (end - offset_us) % size_us == 0
    assert given_times.tolist() == times


@settings(deadline=None)
@given(times=st.lists(st.integers(-30, 30), min_size=1, max_size=20), watermark_us=st.integers(-30, 30))
def test_a_row_is_late_iff_its_window_ended_at_or_before_the_watermark(times: list[int], watermark_us: int) -> None:
    rows = rows_of(EVENTS, 100, k=list(range(len(times))), at=times)
    is_late = [time // 10 * 10 + 10 <= watermark_us for time in times]

    in_time, late = split_late(rows, windowed(EVENTS), "op", watermark_us=watermark_us, closed_before_us=watermark_us)

    found = [] if in_time is None else list(zip(in_time.table["k"].to_pylist(), in_time.end_us.tolist(), strict=True))
    assert found == [(at, time // 10 * 10 + 10) for at, time in enumerate(times) if not is_late[at]]
    lost = [] if late is None else late.table["k"].to_pylist()
    assert lost == [at for at, dropped in enumerate(is_late) if dropped]
    assert late is None or [late.origin_of(row) for row in range(len(late))] == [100 + at for at in lost]


def test_late_rows_say_which_operator_dropped_them_at_which_watermark_and_for_which_window() -> None:
    node = windowed(EVENTS)

    in_time, late = split_late(
        rows_of(EVENTS, k=[1, 2], at=[-1, 12]), node, "totals", watermark_us=0, closed_before_us=0
    )

    assert in_time is not None
    assert in_time.table["k"].to_pylist() == [2]
    assert late is not None
    assert late.table.schema.equals(Late(operator=node).schema)
    row = late.table.set_column(3, "_watermark", late.table["_watermark"].cast(pa.int64())).to_pylist()[0]
    assert (row["k"], row["_operator"], row["_watermark"]) == (1, "totals", 0)
    assert late.table["_window_end"].cast(pa.int64()).to_pylist() == [0]


def test_nothing_is_late_before_the_first_watermark_and_no_rows_are_neither() -> None:
    node = windowed(EVENTS)

    assert (
        split_late(
            rows_of(EVENTS, k=[1], at=[-(10**15)]), node, "op", watermark_us=BEGINNING_US, closed_before_us=BEGINNING_US
        )[1]
        is None
    )
    assert split_late(rows_of(EVENTS, k=[], at=[]), node, "op", watermark_us=5, closed_before_us=5) == (None, None)


def test_the_end_of_a_window_counts_as_its_last_microsecond_through_filters_and_renames() -> None:
    inner = windowed(EVENTS)
    kept = Filter(child=inner, predicate=Literal(True))
    schema = pa.schema([inner.schema.field("k"), pa.field("closed", TIME)])
    renamed = Project(child=kept, exprs=(Column("k"), Column("window_end")), schema=schema, event_time="closed")
    outer = windowed(renamed, on="closed", size_us=20)
    table = pa.table([[1, 1], pa.array([20, 30], TIME)], schema=schema)

    times = event_times_us(table, outer)

    assert times.tolist() == [19, 29]
    assert window_ends_us(times, outer.window).tolist() == [20, 40]


def test_late_rows_have_the_event_time_of_what_was_dropped() -> None:
    inner = windowed(EVENTS)

    assert event_time_shift_us(Late(operator=inner)) == 0
    assert event_time_shift_us(Late(operator=windowed(inner, on="window_end"))) == -1


def test_window_ends_and_plain_times_do_not_concatenate() -> None:
    inner = windowed(EVENTS)
    plain = source(k="int64")
    columns = tuple(Column(name) for name in ("k", "window_start", "window_end", "n"))
    schema = inner.schema
    fake = Project(
        child=plain, exprs=(columns[0], Column("at"), Column("at"), columns[0]), schema=schema, event_time="window_end"
    )

    with pytest.raises(PlanError, match="closed windows"):
        Concat(children=(inner, fake))


def test_a_row_without_event_time_in_a_window_is_our_bug() -> None:
    rows = Rows(table=rows_of(EVENTS, k=[1], at=[None]).table, origin=None)

    with pytest.raises(InternalError, match="without event time"):
        split_late(rows, windowed(EVENTS), "op", watermark_us=0, closed_before_us=0)
