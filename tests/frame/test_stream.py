from __future__ import annotations

from collections.abc import Callable

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings

import microstream as ms
from microstream.errors import PlanError, UserFunctionError

BIDS = pd.DataFrame(
    {
        "auction": [1, 2, 1, 3],
        "price": [120.0, 80.0, np.nan, 300.0],
        "tags": [["a", "b"], [], None, ["c"]],
        "ts": pd.date_range("2026-01-01", periods=4, freq="30s"),
    }
)


def bids(batches: int = 1) -> ms.StreamFrame:
    return ms.from_pandas(BIDS, event_time="ts", watermark="10s", batches=batches)


def test_a_frame_tells_its_columns_dtypes_schema_and_event_time() -> None:
    frame = bids().assign(n=ms.col("auction").where(ms.col("price") > 100))

    assert list(frame.columns) == ["auction", "price", "tags", "ts", "n"]
    assert frame.dtypes.astype(str).to_dict() == {
        "auction": "int64",
        "price": "float64",
        "tags": "list<item: large_string>[pyarrow]",
        "ts": "datetime64[us]",
        "n": "Int64",
    }
    assert not frame.schema.field("ts").nullable
    assert frame.event_time == "ts"


@given(numbers=st.lists(st.integers(-5, 5), max_size=12), batches=st.integers(1, 4), limit=st.integers(-5, 5))
@settings(deadline=None, max_examples=25)
def test_a_row_wise_chain_gives_what_pandas_gives_however_batches_are_cut(
    numbers: list[int], batches: int, limit: int
) -> None:
    data = pd.DataFrame({"n": pd.array(numbers, dtype="int64"), "unused": "x"})

    def chain(frame: ms.StreamFrame | pd.DataFrame) -> ms.StreamFrame | pd.DataFrame:
        kept = frame[frame["n"] > limit].assign(d=lambda f: f["n"] * 2, h=pd.col("n") / 2)
        return kept.rename(columns={"d": "double"})[["double", "h"]]

    streamed = chain(ms.from_pandas(data, batches=batches)).compute()

    wanted = chain(data).sort_values(["double", "h"], ignore_index=True)
    pd.testing.assert_frame_equal(streamed, wanted)


def test_assign_takes_expressions_callables_values_and_earlier_columns() -> None:
    frame = bids().assign(
        eur=ms.col("price") * 0.5, twice=lambda f: f["eur"] * 2, one=1, day=pd.Timestamp("2026-01-01")
    )

    found = frame.select("eur", "twice", "one", "day").compute()

    assert found["twice"].tolist()[:2] == [80.0, 120.0]
    assert found.dtypes.astype(str).tolist() == ["float64", "float64", "int64", "datetime64[us]"]


def test_explode_gives_a_row_per_element_and_null_for_empty_lists() -> None:
    found = bids().explode("tags").select("auction", "tags").compute()

    assert found.fillna("-").to_numpy().tolist() == [[1, "a"], [1, "b"], [1, "-"], [2, "-"], [3, "c"]]


PARTS = st.lists(st.tuples(st.none() | st.integers(0, 9), st.none() | st.sampled_from("xy")), max_size=3)


@given(rows=st.lists(st.tuples(PARTS, st.booleans(), st.booleans()), min_size=1, max_size=8), batches=st.integers(1, 3))
@settings(deadline=None, max_examples=50)
def test_several_lists_explode_side_by_side_as_in_pandas(
    rows: list[tuple[list[tuple[int | None, str | None]], bool, bool]], batches: int
) -> None:
    """Lists of no or one element may also be null: in pandas, all of these become one row."""
    lists = {"a": pd.ArrowDtype(pa.list_(pa.int64())), "b": pd.ArrowDtype(pa.list_(pa.large_string()))}
    data = pd.DataFrame({"id": range(len(rows))})
    data["a"] = [None if no_a and not parts else [a for a, _ in parts] for parts, no_a, _ in rows]
    data["b"] = [None if no_b and len(parts) < 2 else [b for _, b in parts] for parts, _, no_b in rows]

    found = ms.from_pandas(data.astype(lists), batches=batches).explode(["b", "a"]).compute()

    assert plain_rows(found) == plain_rows(data.explode(["b", "a"]))


def test_lists_of_one_row_that_differ_in_length_are_told_with_the_record() -> None:
    data = pd.DataFrame({"a": [["x"], ["x", "y"], []], "b": [[1], [2], None]})

    with pytest.raises(UserFunctionError) as caught:
        ms.from_pandas(data, batches=3).explode(["a", "b"]).compute()

    assert caught.value.operator == "explode"
    assert caught.value.position.endswith("offset 1")
    assert "must have one length to stand side by side, but 'a' has 2, 'b' has 1 elements" in str(caught.value)


def plain_rows(frame: pd.DataFrame) -> list[list[str]]:
    rows = frame.itertuples(index=False, name=None)
    return sorted(["" if pd.isna(value) else str(value) for value in row] for row in rows)


def test_map_batches_learns_its_columns_or_is_told_them() -> None:
    def totals(frame: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"rows": [len(frame)]})

    class Count:
        def __call__(self, table: pa.Table) -> pa.Table:
            return pa.table({"rows": [table.num_rows]})

    inferred = bids().map_batches(totals)
    told = bids().map_batches(Count, schema={"rows": "int64"}, batch_format="arrow")

    assert inferred.schema.equals(told.schema)
    assert inferred.compute()["rows"].sum() == told.compute()["rows"].sum() == 4


def test_windows_close_and_late_rows_leave_by_their_own_way() -> None:
    times = pd.to_datetime(["2026-01-01 00:00:05", "2026-01-01 00:02:00", "2026-01-01 00:00:06", "2026-01-01 00:02:01"])
    frames = [pd.DataFrame({"k": ["a"], "v": [n], "ts": [t]}) for n, t in enumerate(times)]
    totals = (
        ms.from_pandas(frames, event_time="ts").groupby("k").window(ms.tumbling("1min")).agg(v=("v", "sum")).named("t")
    )

    assert totals.compute()["v"].tolist() == [0, 4]
    late = totals.late.compute()
    assert late["v"].tolist() == [2]
    assert late["_operator"].tolist() == ["t"]
    assert late["_window_end"].tolist() == [pd.Timestamp("2026-01-01 00:01:00")]


def test_a_window_over_a_window_takes_its_end_as_event_time() -> None:
    per_minute = bids().groupby("auction").window(ms.tumbling("1min")).agg(top=("price", "max"))

    found = per_minute.groupby("auction").window(ms.tumbling("1h")).agg(n=("top", "size"), top=("top", "max"))

    assert found.event_time == "window_end"
    result = found.compute()
    assert result["n"].tolist() == [2, 1, 1]
    assert result["window_end"].unique().tolist() == [pd.Timestamp("2026-01-01 01:00")]


def test_concat_reads_all_its_frames() -> None:
    both = ms.concat([bids(), bids().assign(price=ms.col("price") + 1)])

    assert len(both.compute()) == 8


def test_event_time_follows_a_rename_and_ends_with_the_column() -> None:
    assert bids().rename(columns={"ts": "at"}).event_time == "at"
    assert bids().drop("ts").event_time is None
    assert bids().assign(ts=ms.col("ts")).event_time is None
    assert bids().select("ts", copy=ms.col("ts")).event_time == "ts"


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda f: f["prize"], "Did you mean 'price'"),
        (lambda f: f[["price", "nope"]], "no column 'nope'"),
        (lambda f: f[ms.col("nope") > 1], "no column 'nope'.*auction"),
        (lambda f: f.filter(ms.col("price")), "gives double, not true or false"),
        (lambda f: f.assign(x=lambda d: d["nope"]), "sample of two rows"),
        (lambda f: f.drop("nope"), "no column 'nope'"),
        (lambda f: f.drop(list(f.columns)), "no column would be left"),
        (lambda f: f.rename(columns={"price": "ts"}), "two output columns are named 'ts'"),
        (lambda f: f.explode("price"), "not a list"),
        (lambda f: f.map_batches(lambda d: d["price"]), "returned Series"),
        (lambda f: f.groupby("nope"), "no column 'nope'"),
        (lambda f: f.groupby("auction").sum(), r"say of which columns, as in \[columns\].sum"),
        (lambda f: f.groupby("auction").window("1min"), "ms.tumbling"),
        (lambda f: f.drop("ts").groupby("auction").window(ms.tumbling("1min")), "no event time"),
        (lambda f: f.groupby("auction").window(ms.tumbling("0s")).size(), "at least 1 us"),
        (
            lambda f: f.groupby("auction").window(ms.tumbling("1min")).agg(n=("price", "median")),
            "no aggregate 'median'",
        ),
        (lambda f: f.groupby("auction").window(ms.tumbling("1min")).agg(n="price"), "what to do with it"),
        (lambda f: f.groupby("auction").window(ms.tumbling("1min")).agg(window_end=("price", "sum")), "two output"),
        (lambda f: f.late, "late belongs to"),
        (lambda f: f.named("x"), "named.. belongs to"),
        (lambda f: f.groupby("auction").window(ms.tumbling("1min")).size().named("a b"), "an id has"),
        (lambda f: ms.concat([f, f.drop("price")]), "same columns and types"),
        (lambda f: ms.concat([f, f.assign(ts=ms.col("ts"))]), "event time is"),
        (lambda f: f.resample("1min"), "groupby.keys..window"),
        (lambda f: f.sort_values("price"), "no order"),
        (lambda f: f.iloc[0], "no .iloc"),
        (lambda f: f[1:2], "no .iloc"),
        (lambda f: f.apply(len), "map_batches"),
        (len, "no length"),
        (list, "cannot be looped"),
        (bool, "neither true nor false"),
        (lambda f: f.__setitem__("x", 1), "immutable: write frame = frame.assign"),
    ],
)
def test_a_wrong_plan_fails_when_it_is_written(write: Callable[[ms.StreamFrame], object], says: str) -> None:
    frame = bids()

    with pytest.raises(PlanError, match=says):
        write(frame)


def test_an_unknown_attribute_is_an_attribute_error_that_names_the_columns() -> None:
    with pytest.raises(AttributeError, match="Did you mean 'price'"):
        _ = bids().prize
    assert "price" in dir(bids())


def test_a_property_that_is_mistyped_is_not_called_a_method() -> None:
    with pytest.raises(AttributeError) as caught:
        _ = bids().colums
    assert "columns()" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("to_parqet", "to_parquet"), ("group_by", "groupby"), ("filtre", "filter"), ("asign", "assign")],
)
def test_a_method_that_is_mistyped_is_named_as_it_is_written(wrong: str, right: str) -> None:
    with pytest.raises(AttributeError, match=rf"frame\.{wrong}: .* Did you mean \.{right}\(\)\?"):
        getattr(bids(), wrong)


def test_results_are_sorted_by_event_time_then_keys() -> None:
    found = bids(batches=4).groupby("auction").window(ms.tumbling("1D")).size().compute()

    assert found["auction"].tolist() == [1, 2, 3]
    assert isinstance(found.index, pd.RangeIndex)
