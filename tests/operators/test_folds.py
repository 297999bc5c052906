"""Aggregates that keep more than a number, against pandas over the rows in row order."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import rows_of, source

from microstream.clock import BEGINNING_US
from microstream.operators.aggregate import finish, merge, partial, partial_schema
from microstream.operators.order import Places, partition_text
from microstream.operators.rows import Rows
from microstream.operators.window import split_late
from microstream.plan.expr import Call, Column, Literal
from microstream.plan.nodes import Aggregate, Tumbling, WindowAggregate

EVENTS = source(
    word=pa.large_string(), i=pa.int64(), f=pa.float64(), s=pa.large_string(), b=pa.bool_(), keep=pa.bool_()
)
NUMBERS = ["count", "sum", "min", "max", "mean", "std", "var", "any", "all", "first", "last", "list", "nunique"]
HOWS = {"i": NUMBERS, "f": NUMBERS, "b": NUMBERS, "s": ["count", "min", "max", "first", "last", "list", "nunique"]}
PLAIN = tuple(Aggregate(name=f"{how}_{c}", column=c, how=how) for c, hows in HOWS.items() for how in hows)
KEEP = Call("eq", (Column("keep"), Literal(True)))
MASKED = tuple(Aggregate(name=f"if_{a.name}", column=a.column, how=a.how, where=KEEP) for a in PLAIN)
SIZES = (
    Aggregate(name="size", column=None, how="size"),
    Aggregate(name="if_size", column="i", how="size", where=KEEP),
    Aggregate(name="all_var", column="i", how="var", params=(("ddof", 0),)),
)
ALL = (*SIZES, *PLAIN, *MASKED)
NODE = WindowAggregate(child=EVENTS, keys=("word",), window=Tumbling(size_us=10), on="at", aggregates=ALL)
PARTITIONS = ("topic-2", "topic-10", "other-0")

events = st.fixed_dictionaries(
    {
        "word": st.sampled_from(["a", "b", None]),
        "i": st.one_of(st.none(), st.integers(-9, 9)),
        "f": st.one_of(st.none(), st.sampled_from([math.nan, 0.25, -0.0, 0.0, 1e9, 1e9 + 1])),
        "s": st.one_of(st.none(), st.text(max_size=2)),
        "b": st.one_of(st.none(), st.booleans()),
        "keep": st.one_of(st.none(), st.booleans()),
        "at": st.integers(-12, 12),
        "partition": st.sampled_from(PARTITIONS),
    }
)
Row = dict[str, Any]


def numbered(rows: Sequence[Row]) -> list[Row]:
    """With an offset, which ascends in each partition."""
    return [{**row, "offset": at} for at, row in enumerate(rows)]


def partial_of(rows: Sequence[Row], node: WindowAggregate) -> pa.Table:
    """Of rows read in any order."""
    columns = {name: [row[name] for row in rows] for name in node.child.schema.names}
    windowed, _ = split_late(
        rows_of(node.child, **columns), node, "op", watermark_us=BEGINNING_US, closed_before_us=BEGINNING_US
    )
    if windowed is None:
        return partial_schema(node).empty_table()
    text = pa.array([partition_text("events", row["partition"]) for row in rows], pa.large_string())
    places = Places.of(text, np.array([row["offset"] for row in rows]))
    table = partial(windowed, node, lambda: places)
    assert table.schema.equals(partial_schema(node))
    return table


def result_of(parts: Sequence[pa.Table], node: WindowAggregate) -> list[Row]:
    # A group of one part is not merged: that must not matter.
    only = parts[0] if len(parts) == 1 else None
    table = finish(only if only is not None else merge(pa.concat_tables(parts), node), node)
    if only is not None:
        assert table.equals(finish(merge(only, node), node))
    assert table.schema.equals(node.schema)
    return table.to_pylist()


def in_order(rows: Sequence[Row]) -> list[Row]:
    rank = {"other-0": 0, "topic-2": 1, "topic-10": 2}
    return sorted(rows, key=lambda row: (row["at"], rank[row["partition"]], row["offset"]))


def plain(value: Any) -> Any:
    return None if value is pd.NA or (isinstance(value, float) and math.isnan(value)) else value


def by_pandas(series: pd.Series[Any], aggregate: Aggregate) -> Any:
    """One aggregate of one group, whose rows are in order."""
    left = series.dropna()
    match aggregate.how:
        case "first" | "last":
            return None if left.empty else plain(left.iloc[0 if aggregate.how == "first" else -1])
        case "list":
            return [plain(value) for value in series]
        case "nunique" | "count" | "size" | "any" | "all" if aggregate.how != "size":
            return getattr(left, aggregate.how)()
        case "size":
            return len(series)
        case "std" | "var":
            floats = left.astype("float64")
            return plain(getattr(floats, aggregate.how)(**dict(aggregate.params)))
        case how:
            return None if left.empty and how != "sum" else plain(getattr(left, how)())


def expected(rows: Sequence[Row], node: WindowAggregate) -> list[Row]:
    dtypes = {"i": "Int64", "f": "float64", "s": "str", "b": "boolean"}
    groups: dict[tuple[int, bool, str], list[Row]] = {}
    for row in in_order(rows):
        groups.setdefault((row["at"] // 10, row["word"] is None, row["word"] or ""), []).append(row)
    result = []
    for (start, null, word), found in sorted(groups.items()):
        out: Row = {"word": None if null else word, "window_start": start * 10, "window_end": start * 10 + 10}
        for aggregate in node.aggregates:
            used = [row for row in found if aggregate.where is None or row["keep"]]
            column = aggregate.column or "i"
            series = pd.Series([row[column] for row in used], dtype=dtypes[column])
            out[aggregate.name] = by_pandas(series, aggregate)
        result.append(out)
    return result


def assert_same(found: list[Row], wanted: list[Row]) -> None:
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        for name, value in theirs.items():
            mine = ours[name]
            if isinstance(mine, datetime.datetime):
                mine = round((mine - datetime.datetime(1970, 1, 1)).total_seconds() * 1e6)
            if isinstance(mine, float) and value is not None:
                assert math.isclose(mine, value, rel_tol=1e-9, abs_tol=1e-9), name
            else:
                assert mine == value, (name, mine, value)


some = st.lists(st.sampled_from(ALL), min_size=1, max_size=6, unique=True)


@settings(deadline=None, max_examples=80)
@given(rows=st.lists(events, min_size=1, max_size=20).map(numbered), aggregates=some, data=st.data())
def test_any_cut_in_any_order_gives_what_pandas_gives_of_the_rows_in_order(
    rows: list[Row], aggregates: list[Aggregate], data: st.DataObject
) -> None:
    node = replace(NODE, aggregates=tuple(aggregates))
    shuffled = data.draw(st.permutations(rows), label="read")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=3), label="cuts"))
    parts = [partial_of(shuffled[a:b], node) for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    early = data.draw(st.integers(1, len(parts)), label="merged early")

    found = result_of([merge(pa.concat_tables(parts[:early]), node), *parts[early:]], node)

    assert_same(found, expected(rows, node))


def one(how: str, kind: pa.DataType, parts: Sequence[Sequence[Any]], **params: Any) -> Any:
    """`how` of one group, whose values come in `parts`."""
    child = source(k="int64", v=kind)
    aggregates = (Aggregate(name="out", column="v", how=how, params=tuple(params.items())),)
    node = WindowAggregate(child=child, keys=("k",), window=Tumbling(size_us=10), on="at", aggregates=aggregates)
    offsets = iter(range(100))
    rows = [
        [{"k": 1, "v": v, "at": 0, "partition": "t-0", "offset": next(offsets)} for v in values] for values in parts
    ]
    return result_of([partial_of(part, node) for part in rows], node)[0]["out"]


@pytest.mark.parametrize(
    ("how", "kind", "parts", "wanted"),
    [
        ("first", pa.list_(pa.int64()), [[None, [1]], [[2]]], [1]),
        ("last", pa.struct([("a", pa.int64())]), [[{"a": 1}], [{"a": 2}, None]], {"a": 2}),
        ("last", pa.duration("us"), [[datetime.timedelta(1)], [None]], datetime.timedelta(1)),
        ("list", pa.list_(pa.int64()), [[[1], None], [[]]], [[1], None, []]),
        ("list", pa.timestamp("us"), [[datetime.datetime(2000, 1, 1)], [None]], [datetime.datetime(2000, 1, 1), None]),
        ("nunique", pa.timestamp("us"), [[datetime.datetime(2000, 1, 1)] * 2, [None]], 1),
        ("nunique", pa.date32(), [[datetime.date(2000, 1, 1)], [datetime.date(2000, 1, 2)]], 2),
        ("nunique", pa.duration("us"), [[datetime.timedelta(1)], [datetime.timedelta(1)]], 1),
        ("nunique", pa.float64(), [[0.0, -0.0, math.nan], [None]], 1),
        ("nunique", pa.large_string(), [["a", "b"], ["b", "c"], [None]], 3),
        ("any", pa.float64(), [[0.0, math.nan]], False),
        ("all", pa.int64(), [[None], [None]], True),
        ("var", pa.float64(), [[1.0], [None]], None),
        ("std", pa.float64(), [[math.inf, 1.0], [2.0]], None),
    ],
)
def test_types_and_nulls(how: str, kind: pa.DataType, parts: list[list[Any]], wanted: Any) -> None:
    assert one(how, kind, parts) == wanted


def test_the_variance_of_large_numbers_close_together_keeps_its_digits() -> None:
    values = [1e15 + k for k in range(8)]

    found = one("var", pa.float64(), [values[:3], values[3:4], values[4:]])

    assert math.isclose(found, 6.0, rel_tol=1e-9)


@settings(deadline=None, max_examples=40)
@given(values=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20), cut=st.integers(0, 20), ddof=st.integers(0, 3))
def test_variance_is_that_of_numpy(values: list[float], cut: int, ddof: int) -> None:
    found = one("var", pa.float64(), [values[:cut], values[cut:]], ddof=ddof)

    wanted = np.var(values, ddof=ddof) if len(values) > ddof else None
    assert found is None if wanted is None else math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-3)


def test_elements_of_one_row_keep_their_order() -> None:
    node = WindowAggregate(
        child=source(v=pa.int64()),
        keys=(),
        window=Tumbling(size_us=10),
        on="at",
        aggregates=(Aggregate(name="all", column="v", how="list"), Aggregate(name="end", column="v", how="last")),
    )
    table = rows_of(node.child, v=[3, 1, 2, 9], at=[0, 0, 0, 0]).table
    windowed, _ = split_late(
        Rows(table=table, origin=np.array([1, 1, 1, 0])),
        node,
        "op",
        watermark_us=BEGINNING_US,
        closed_before_us=BEGINNING_US,
    )
    places = Places.of(pa.array(["p", "p"], pa.large_string()), np.array([7, 8]))
    assert windowed is not None

    found = result_of([partial(windowed, node, lambda: places)], node)

    assert (found[0]["all"], found[0]["end"]) == ([9, 3, 1, 2], 2)
