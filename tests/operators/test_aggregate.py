from __future__ import annotations

import datetime
import json
import math
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
from microstream.errors import PlanError
from microstream.operators.aggregate import finish, merge, partial, partial_schema, shape
from microstream.operators.window import split_late
from microstream.plan.nodes import Aggregate, Tumbling, WindowAggregate

WINDOW = Tumbling(size_us=10)
EVENTS = source(
    word=pa.large_string(), real=pa.float64(), i=pa.int64(), f=pa.float64(), s=pa.large_string(), b=pa.bool_()
)
HOWS = {
    "i": "count sum min max mean",
    "f": "count sum min max mean",
    "s": "count min max",
    "b": "count sum min max mean",
}
AGGREGATES = (
    Aggregate(name="n", column=None, how="size"),
    *(Aggregate(name=f"{how}_{c}", column=c, how=how) for c, hows in HOWS.items() for how in hows.split()),
)
NODE = WindowAggregate(child=EVENTS, keys=("word", "real"), window=WINDOW, on="at", aggregates=AGGREGATES)

events = st.fixed_dictionaries(
    {
        "word": st.sampled_from(["a", "b", None]),
        "real": st.sampled_from([0.0, -0.0, 1.5, None, math.nan]),
        "i": st.one_of(st.none(), st.integers(-9, 9), st.just(2**63 - 1)),
        "f": st.one_of(st.none(), st.sampled_from([math.nan, 0.25, -4.0, 1e3])),
        "s": st.one_of(st.none(), st.text(max_size=2)),
        "b": st.one_of(st.none(), st.booleans()),
        "at": st.integers(-30, 30),
    }
)


def partial_of(node: WindowAggregate, rows: list[dict[str, Any]]) -> pa.Table:
    columns = {name: [row[name] for row in rows] for name in node.child.schema.names}
    windowed, _ = split_late(
        rows_of(node.child, **columns), node, "op", watermark_us=BEGINNING_US, closed_before_us=BEGINNING_US
    )
    return partial_schema(node).empty_table() if windowed is None else partial(windowed, node)


def result_of(node: WindowAggregate, parts: list[pa.Table]) -> pa.Table:
    return finish(merge(pa.concat_tables(parts), node), node)


def one(how: str, kind: pa.DataType, values: list[Any]) -> Any:
    """`how` of `values` of one key and window."""
    child = source(k="int64", v=kind)
    aggregates = (Aggregate(name="out", column="v", how=how),)
    node = WindowAggregate(child=child, keys=("k",), window=WINDOW, on="at", aggregates=aggregates)
    rows = [{"k": 1, "v": value, "at": 0} for value in values]
    table = result_of(node, [partial_of(node, rows[:1]), partial_of(node, rows[1:])])
    assert table.schema.equals(node.schema)
    return table["out"].to_pylist()[0]


def pandas_result(rows: list[dict[str, Any]]) -> pd.DataFrame:
    dtypes = {"word": "str", "real": "float64", "i": "Int64", "f": "float64", "s": "str", "b": "Int64", "at": "int64"}
    frame = pd.DataFrame({name: pd.array([row[name] for row in rows], dtype=dtype) for name, dtype in dtypes.items()})
    frame["real"] += 0.0
    frame["window_end"] = frame["at"] // 10 * 10 + 10
    groups = frame.groupby(["window_end", "word", "real"], dropna=False, sort=True)
    wanted = {a.name: (a.column or "at", a.how) for a in AGGREGATES}
    return groups.agg(**wanted).reset_index()


def same(ours: Any, theirs: Any) -> bool:
    if ours is None or pd.isna(theirs):
        return ours is None and pd.isna(theirs)
    return math.isclose(ours, theirs) if isinstance(ours, float) else ours == theirs


@settings(deadline=None, max_examples=80)
@given(rows=st.lists(events, min_size=1, max_size=25))
def test_results_are_those_of_pandas(rows: list[dict[str, Any]]) -> None:
    expected = pandas_result(rows)

    table = result_of(NODE, [partial_of(NODE, rows)])

    assert table.schema.equals(NODE.schema)
    assert table["window_end"].cast(pa.int64()).to_pylist() == expected["window_end"].to_list()
    for name in ("word", "real", *(a.name for a in AGGREGATES)):
        ours, theirs = table[name].to_pylist(), expected[name].to_list()
        assert all(same(a, b) for a, b in zip(ours, theirs, strict=True)), (name, ours, theirs)


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(events, max_size=25), data=st.data())
def test_any_cut_merged_in_any_order_or_grouping_gives_the_same(
    rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4), label="cuts"))
    bounds = zip([0, *cuts], [*cuts, len(rows)], strict=True)
    parts = data.draw(st.permutations([partial_of(NODE, rows[a:b]) for a, b in bounds]), label="order")
    early = data.draw(st.integers(1, len(parts)), label="merged early")

    at_once = result_of(NODE, [partial_of(NODE, rows)])
    in_steps = result_of(NODE, [merge(pa.concat_tables(parts[:early]), NODE), *parts[early:]])

    # The values are such that no float sum is rounded.
    exact = [name for name in NODE.schema.names if name != "mean_i"]
    assert in_steps.select(exact).equals(at_once.select(exact))
    np.testing.assert_allclose(in_steps["mean_i"].to_numpy(), at_once["mean_i"].to_numpy())


@given(rows=st.lists(events, min_size=1, max_size=25))
@settings(deadline=None, max_examples=30)
def test_rows_come_sorted_by_window_then_keys_with_null_last(rows: list[dict[str, Any]]) -> None:
    table = result_of(NODE, [partial_of(NODE, rows)])

    found = list(
        zip(table["window_end"].to_pylist(), table["word"].to_pylist(), table["real"].to_pylist(), strict=True)
    )
    ranks = [(end, word is None, word or "", real is None, real or 0.0) for end, word, real in found]
    assert ranks == sorted(set(ranks))


@pytest.mark.parametrize(
    ("how", "kind", "values", "expected"),
    [
        ("sum", pa.int64(), [None, None], 0),
        ("sum", pa.float64(), [None, math.nan], 0.0),
        ("mean", pa.float64(), [None, math.nan], None),
        ("min", pa.float64(), [math.nan, math.nan], None),
        ("count", pa.float64(), [math.nan, 1.0], 1),
        ("sum", pa.int64(), [2**63 - 1, 1], -(2**63)),
        ("sum", pa.uint64(), [2**64 - 1, 2], 1),
        ("sum", pa.int8(), [127, 127], 254),
        ("sum", pa.bool_(), [True, True, None], 2),
        ("sum", pa.float64(), [math.inf, -math.inf], None),
        ("mean", pa.int64(), [2**62, 2**62], float(2**62)),
        ("mean", pa.bool_(), [True, False], 0.5),
        ("max", pa.large_string(), ["a", None, "b"], "b"),
        ("min", pa.duration("us"), [datetime.timedelta(2), datetime.timedelta(1)], datetime.timedelta(1)),
        ("max", pa.timestamp("us"), [datetime.datetime(1, 1, 1), None], datetime.datetime(1, 1, 1)),
        ("min", pa.date32(), [datetime.date(2000, 1, 2), datetime.date(2000, 1, 1)], datetime.date(2000, 1, 1)),
        ("max", pa.bool_(), [False, None], False),
        ("count", pa.list_(pa.int64()), [[1], None], 1),
    ],
)
def test_nulls_and_wrapping_follow_pandas(how: str, kind: pa.DataType, values: list[Any], expected: Any) -> None:
    assert one(how, kind, values) == expected


def test_a_window_over_windows_counts_each_inner_window_once() -> None:
    inner = replace(NODE, keys=("word",), aggregates=(Aggregate(name="n", column=None, how="size"),))
    outer = WindowAggregate(
        child=inner,
        keys=("word",),
        window=Tumbling(size_us=20),
        on="window_end",
        aggregates=(Aggregate(name="windows", column=None, how="size"), Aggregate(name="rows", column="n", how="sum")),
    )
    at = [0, 1, 10, 19, 20]
    rows = [{"word": "a", "real": 0.0, "i": 1, "f": 1.0, "s": "", "b": True, "at": time} for time in at]
    closed = result_of(inner, [partial_of(inner, rows)])

    found = result_of(outer, [partial_of(outer, closed.to_pylist())])

    assert found.select(["windows", "rows"]).to_pylist() == [{"windows": 2, "rows": 4}, {"windows": 1, "rows": 1}]


def test_a_frame_without_keys_has_one_row_per_window() -> None:
    node = replace(NODE, keys=(), aggregates=(Aggregate(name="n", column=None, how="size"),))
    rows = [{"word": "a", "real": 0.0, "i": 1, "f": 1.0, "s": "", "b": True, "at": time} for time in (1, 2, 11)]

    assert result_of(node, [partial_of(node, rows)])["n"].to_pylist() == [2, 1]


def test_partials_have_the_schema_that_is_stored() -> None:
    rows = [{"word": "a", "real": 0.0, "i": 1, "f": 1.0, "s": "", "b": True, "at": 5}]

    assert partial_of(NODE, rows).schema.equals(partial_schema(NODE))
    assert {"mean_i:sum", "mean_i:count", "window_end"} <= set(partial_schema(NODE).names)


def test_a_key_named_like_a_column_of_the_state_is_refused() -> None:
    child = source(**{"avg:sum": "int64", "v": "int64"})
    aggregates = (Aggregate(name="avg", column="v", how="mean"),)
    node = WindowAggregate(child=child, keys=("avg:sum",), window=WINDOW, on="at", aggregates=aggregates)

    with pytest.raises(PlanError, match="avg:sum"):
        partial_schema(node)


def test_the_shape_tells_keys_types_windows_and_aggregates_apart_and_nothing_else() -> None:
    others = [
        replace(NODE, keys=("word",)),
        replace(NODE, keys=("real", "word")),
        replace(NODE, window=Tumbling(size_us=11)),
        replace(NODE, window=Tumbling(size_us=10, offset_us=1)),
        replace(NODE, aggregates=AGGREGATES[:-1]),
        replace(NODE, child=replace(EVENTS, schema=EVENTS.schema.set(2, pa.field("i", pa.int32())))),
    ]

    shapes = {shape(node) for node in (NODE, *others)}

    assert len(shapes) == 1 + len(others)
    assert shape(replace(NODE, id="renamed", child=replace(EVENTS, delay_us=5))) == shape(NODE)
    assert json.loads(shape(NODE))["keys"] == [["word", "large_string"], ["real", "double"]]
