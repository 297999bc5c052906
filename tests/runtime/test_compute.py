from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from queries import ALL, SCHEMA, Row, frames, to_memory, totals, tuples

import microstream as ms
from microstream.errors import PlanError, UserFunctionError
from microstream.plan.expr import Call, Column, Literal
from microstream.plan.nodes import Aggregate, Assign, Concat, Explode, Filter, Late, MapBatches, Project, Source
from microstream.runtime.query import compute

DISORDER_US = 20

keys = st.one_of(st.none(), st.sampled_from(["a", "b", "ü"]))
values = st.one_of(st.none(), st.integers(-100, 100))
any_rows = st.lists(st.tuples(keys, values, st.integers(-50, 150)), max_size=20)


@st.composite
def disordered(draw: st.DrawFn) -> list[Row]:
    """Rows in the order in which they come: none is more than `DISORDER_US` older than one before it."""
    rows, newest = [], 0
    for key, value, step in draw(st.lists(st.tuples(keys, values, st.integers(0, 30)), max_size=25)):
        newest += step
        rows.append((key, value, newest - draw(st.integers(0, DISORDER_US))))
        newest = max(newest, rows[-1][2])
    return rows


def cut_somewhere(data: st.DataObject, rows: Sequence[Row]) -> list[Sequence[Row]]:
    """`rows` as frames, some of them empty."""
    bounds = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    return [rows[a:b] for a, b in zip([0, *bounds], [*bounds, len(rows)], strict=True)]


def by_hand(rows: Iterable[Row], size_us: int = 10) -> list[tuple[Any, ...]]:
    """The windowed aggregates `ALL`, in plain Python."""
    groups: dict[tuple[str | None, int], list[int | None]] = {}
    for key, value, at in rows:
        groups.setdefault((key, at // size_us * size_us), []).append(value)
    result = []
    for (key, start), found in groups.items():
        real = [v for v in found if v is not None]
        least, most = (min(real), max(real)) if real else (None, None)
        average = sum(real) / len(real) if real else None
        result.append((key, start, start + size_us, len(found), len(real), sum(real), least, most, average))
    return sorted(result, key=repr)


@settings(deadline=None, max_examples=40)
@given(rows=disordered(), data=st.data())
def test_rows_in_disorder_below_the_delay_give_the_same_result_for_any_cut(
    rows: list[Row], data: st.DataObject
) -> None:
    operator = totals(frames(*cut_somewhere(data, rows), delay_us=DISORDER_US))

    result = compute(to_memory(out=operator, late=Late(operator=operator)))

    assert tuples(result["out"]) == by_hand(rows)
    assert result["late"].num_rows == 0
    assert result["out"].schema.equals(operator.schema)


@settings(deadline=None, max_examples=40)
@given(batches=st.lists(any_rows, min_size=1, max_size=4), delay=st.integers(0, 30))
def test_every_row_is_used_or_late_and_late_exactly_when_its_window_was_closed(
    batches: list[list[Row]], delay: int
) -> None:
    operator = totals(frames(*batches, delay_us=delay))
    used: list[Row] = []
    late: list[Row] = []
    watermark = None
    for batch in batches:
        for row in batch:
            (late if watermark is not None and row[2] // 10 * 10 + 10 <= watermark else used).append(row)
        newest = max((at for _, _, at in batch), default=None)
        if newest is not None:
            watermark = max(newest - delay, watermark if watermark is not None else newest - delay)

    result = compute(to_memory(out=operator, late=Late(operator=operator)))

    assert tuples(result["out"]) == by_hand(used)
    assert Counter(tuples(result["late"].select(SCHEMA.names))) == Counter(late)


SUM = (Aggregate(name="value", column="total", how="sum"),)


@settings(deadline=None, max_examples=25)
@given(rows=disordered(), data=st.data())
def test_a_window_over_a_window_loses_nothing(rows: list[Row], data: st.DataObject) -> None:
    inner = totals(frames(*cut_somewhere(data, rows), delay_us=DISORDER_US), id="inner")
    outer = totals(inner, size_us=30, id="outer", aggregates=SUM)

    result = compute(to_memory(out=outer, late=Late(operator=outer)))

    expected: Counter[tuple[str | None, int]] = Counter()
    for key, start, _, _, _, total, *_ in by_hand(rows):
        expected[key, start // 30 * 30] += total
    assert {(key, start): value for key, start, _, value in tuples(result["out"])} == expected
    assert result["late"].num_rows == 0


@settings(deadline=None, max_examples=25)
@given(rows=disordered(), others=disordered(), data=st.data())
def test_two_sources_are_as_one_and_one_that_ends_earlier_holds_nobody_up(
    rows: list[Row], others: list[Row], data: st.DataObject
) -> None:
    first = frames(*cut_somewhere(data, rows), name="first", delay_us=DISORDER_US)
    second = frames(*cut_somewhere(data, others), name="second", delay_us=DISORDER_US)
    operator = totals(Concat(children=(first, second)))

    result = compute(to_memory(out=operator, late=Late(operator=operator), all=operator.child))

    assert Counter(tuples(result["all"])) == Counter([*rows, *others])
    assert tuples(result["out"]) == by_hand([*rows, *others])
    assert result["late"].num_rows == 0


def as_rows(child: Any, *columns: str) -> Project:
    """`columns` of `child` as (key, value, at), without event time: results and plain rows then go together."""
    return Project(child=child, exprs=tuple(map(Column, columns)), schema=SCHEMA, event_time=None)


@settings(deadline=None, max_examples=25)
@given(rows=disordered(), data=st.data())
def test_rows_and_results_leave_through_one_sink(rows: list[Row], data: st.DataObject) -> None:
    source = frames(*cut_somewhere(data, rows), delay_us=DISORDER_US)
    plain, results = as_rows(source, *SCHEMA.names), as_rows(totals(source), "key", "total", "window_end")

    result = compute(to_memory(out=Concat(children=(plain, results))))

    closed = [(key, total, end) for key, _, end, _, _, total, *_ in by_hand(rows)]
    assert Counter(tuples(result["out"])) == Counter([*rows, *closed])


@settings(deadline=None, max_examples=25)
@given(rows=disordered(), data=st.data())
def test_windows_of_two_operators_meet_in_a_third(rows: list[Row], data: st.DataObject) -> None:
    source = frames(*cut_somewhere(data, rows), delay_us=DISORDER_US)
    deep = totals(totals(source, id="a"), size_us=30, id="b", aggregates=(Aggregate(name="n", column="n", how="sum"),))
    flat = totals(source, size_us=30, id="c", aggregates=(Aggregate(name="n", column=None, how="size"),))
    both = totals(
        Concat(children=(deep, flat)), size_us=60, id="d", aggregates=(Aggregate(name="n", column="n", how="sum"),)
    )

    result = compute(to_memory(out=both, late=Late(operator=both)))

    expected = Counter((key, at // 60 * 60) for key, _, at in rows)
    assert {(key, start): n for key, start, _, n in tuples(result["out"])} == {k: 2 * n for k, n in expected.items()}
    assert result["late"].num_rows == 0


def doubled(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(value=frame["value"] * 2)


@settings(deadline=None, max_examples=25)
@given(batches=st.lists(any_rows, min_size=1, max_size=3))
def test_stateless_steps_keep_rows_as_pandas_does(batches: list[list[Row]]) -> None:
    source = frames(*batches)
    positive = Filter(child=source, predicate=Call("gt", (Column("value"), Literal(0))))
    mapped = MapBatches(child=positive, fn=doubled, schema=SCHEMA)
    more = Assign(child=mapped, name="more", expr=Call("add", (Column("value"), Literal(1))), dtype=pa.int64())

    result = compute(to_memory(out=more))

    kept = [(key, 2 * value, at) for batch in batches for key, value, at in batch if value is not None and value > 0]
    assert Counter(tuples(result["out"])) == Counter((key, value, at, value + 1) for key, value, at in kept)


def listed(frame: pd.DataFrame) -> pd.DataFrame:
    lists = [list(range(v)) if v is not None and v > 0 else None for v in frame["value"].astype(object)]
    return frame.assign(value=pd.Series(lists, index=frame.index, dtype=pd.ArrowDtype(pa.list_(pa.int64()))))


def test_lists_become_rows_before_they_are_counted() -> None:
    schema = SCHEMA.set(1, pa.field("value", pa.list_(pa.int64())))
    lists = MapBatches(child=frames([("a", 3, 1), ("a", 2, 2)], [("b", 0, 3)]), fn=listed, schema=schema)

    result = compute(to_memory(out=totals(Explode(child=lists, columns=("value",)))))

    assert [row[:6] for row in tuples(result["out"])] == [("a", 0, 10, 5, 5, 4), ("b", 0, 10, 1, 0, 0)]


def test_two_sinks_of_one_operator_get_the_same_rows() -> None:
    operator = totals(frames([("a", 1, 1)], [("b", 2, 50)]))

    result = compute(to_memory(first=operator, second=operator))

    assert tuples(result["first"]) == tuples(result["second"]) == by_hand([("a", 1, 1), ("b", 2, 50)])


@pytest.mark.parametrize("batches", [(), ([],), ([], [])], ids=["no frame", "an empty frame", "empty frames"])
def test_a_source_without_rows_ends_at_once(batches: tuple[list[Row], ...]) -> None:
    operator = totals(frames(*batches))

    result = compute(to_memory(out=operator, late=Late(operator=operator)))

    assert {name: table.num_rows for name, table in result.items()} == {"out": 0, "late": 0}
    assert result["out"].schema.equals(operator.schema)


def test_a_frame_of_only_late_rows_changes_nothing() -> None:
    late = [("a", 9, 1), ("a", 9, 2)]
    operator = totals(frames([("a", 1, 95)], late, [("a", 2, 96)]))

    result = compute(to_memory(out=operator, late=Late(operator=operator)))

    assert tuples(result["out"]) == by_hand([("a", 1, 95), ("a", 2, 96)])
    assert tuples(result["late"].select(SCHEMA.names)) == late
    assert set(result["late"].column("_watermark").cast(pa.int64()).to_pylist()) == {95}
    assert set(result["late"].column("_window_end").cast(pa.int64()).to_pylist()) == {10}


def test_null_keys_are_a_group_of_their_own() -> None:
    result = compute(to_memory(out=totals(frames([(None, 1, 1), ("a", 2, 1)], [(None, 3, 2)]))))

    assert [(row[0], row[5]) for row in tuples(result["out"])] == [("a", 2), (None, 4)]


def unlucky(frame: pd.DataFrame) -> pd.DataFrame:
    raise ZeroDivisionError("division by zero")


def test_an_error_of_the_user_s_ends_the_computation_with_their_exception_as_cause() -> None:
    plan = MapBatches(child=frames([("a", 1, 1)]), fn=unlucky, schema=SCHEMA, name="ratio")

    with pytest.raises(UserFunctionError, match="ratio failed at frames-0 offset 0: ZeroDivisionError") as caught:
        compute(to_memory(out=plan))

    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_the_row_that_fails_is_shown() -> None:
    def halved(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "n": row["n"] // (row["n"] - 17)}

    rows = pd.DataFrame({"n": range(40), "day": pd.Timestamp("2026-01-02"), "text": ["x" * 400] * 40})
    frame = ms.from_pandas(rows).map_rows(halved, schema={"n": "int64", "day": "datetime64[us]", "text": "str"})

    with pytest.raises(UserFunctionError, match=r"The row: n=17, day=2026-01-02 00:00:00, text='x+\.\.\.\.") as caught:
        frame.compute()

    assert str(caught.value).count("x") < 310


class Endless:
    """A source that never ends."""

    kind, target, finite = "rate", "rate", False


def test_what_never_ends_is_not_computed() -> None:
    endless = Source(name="ticks", spec=Endless(), schema=SCHEMA, event_time="at")

    with pytest.raises(PlanError, match="'ticks' never ends"):
        compute(to_memory(out=endless))


def test_many_frames_give_what_one_frame_gives() -> None:
    rows: list[Row] = [(f"key-{n % 5}", n, 3 * n) for n in range(60)]

    many = compute(to_memory(out=totals(frames(*([row] for row in rows)), aggregates=ALL)))

    assert tuples(many["out"]) == by_hand(rows)
