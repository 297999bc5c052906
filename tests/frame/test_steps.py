"""The stateless steps of a frame give what they give in pandas, for every cut into batches."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from by_pandas import SMALL, WORDS, assert_same, frames, streamed
from hypothesis import given, settings

import microstream as ms
from microstream.errors import PlanError, UserFunctionError
from microstream.testing import check_cuts

BOUND = 1
NAMES = ["a", "ß"]
STEPS: dict[str, Callable[[Any], Any]] = {
    "dropna": lambda f: f.dropna(),
    "dropna all": lambda f: f.dropna(how="all", subset=["n", "f", "m", "s"]),
    "dropna subset": lambda f: f.dropna(subset=["s", "n"]),
    "dropna one": lambda f: f.dropna(subset="t"),
    "dropna thresh": lambda f: f.dropna(thresh=7),
    "fillna": lambda f: f.fillna({"n": 0, "f": 0.5, "s": "none", "t": pd.Timestamp("2026-01-01")}),
    "fillna scalar": lambda f: f[["row", "i", "n"]].fillna(7),
    "astype": lambda f: f.astype({"i": "float64", "n": "float64", "b": "int64", "f": "float32"}),
    "astype one": lambda f: f[["row", "i"]].astype("float64"),
    "rename": lambda f: f.rename(columns={"i": "j", "s": "text"}),
    "rename callable": lambda f: f.rename(columns=str.upper).rename(columns={"ROW": "row"}),
    "rename ignore": lambda f: f.rename(columns={"nope": "x"}, errors="ignore"),
    "drop": lambda f: f.drop(columns=["s", "f"]),
    "drop axis": lambda f: f.drop("s", axis=1).drop("nope", axis="columns", errors="ignore"),
    "mask": lambda f: f[(f["i"] > 0) | f["s"].isna()],
    "columns": lambda f: f[["row", "t", "i"]],
    "assign": lambda f: f.assign(x=f["i"] * 2, y=lambda d: d["x"] + 1, z=1, i=pd.col("i") % 2),
    "pipe": lambda f: f.pipe(lambda d, most: d[d["i"] < most], most=2).pipe(
        (lambda n, frame: frame[[n]], "frame"), "row"
    ),
    "query": lambda f: f.query("i > @BOUND or s in @NAMES and not b"),
    "query text": lambda f: f.query("s.str.contains('a') and f <= 2 and -1 < i <= 2"),
    "query list": lambda f: f.query("s == ['a', 'a b'] | i != [1, 2]"),
    "query quoted": lambda f: f.rename(columns={"i": "my i"}).query("`my i` * 2 > n & b == True"),
}


@pytest.mark.parametrize("name", STEPS)
@given(data=frames(), batches=st.integers(1, 3))
@settings(deadline=None, max_examples=4)
def test_a_step_gives_what_pandas_gives(name: str, data: pd.DataFrame, batches: int) -> None:
    assert_same(STEPS[name], data, batches)


@st.composite
def conditions(draw: st.DrawFn, depth: int = 2) -> str:
    """A text of pandas' query language."""
    if depth and draw(st.booleans()):
        left, right = draw(conditions(depth - 1)), draw(conditions(depth - 1))
        return draw(
            st.sampled_from([f"({left}) and ({right})", f"{left} or {right}", f"not ({left})", f"({left}) & {right}"])
        )
    sign = draw(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
    number, word = draw(SMALL), draw(WORDS)
    return draw(
        st.sampled_from(
            [
                f"i {sign} {number}",
                f"{number} {sign} i + 1",
                f"f {sign} i",
                f"s == {word!r}",
                f"s not in [{word!r}]",
                "b",
                "~b",
            ]
        )
    )


@given(data=frames(), text=conditions(), batches=st.integers(1, 2))
@settings(deadline=None, max_examples=25)
def test_a_query_keeps_the_rows_that_pandas_keeps(data: pd.DataFrame, text: str, batches: int) -> None:
    found = streamed(lambda frame: frame.query(text), data, batches)

    assert found["row"].tolist() == data.query(text, engine="python")["row"].tolist()


def test_a_query_can_be_looked_into_so_that_sources_decode_only_what_it_names() -> None:
    frame = ms.from_pandas(pd.DataFrame({"a": [1], "b": [2], "c": [3]})).query("a > 0 and b < 5")[["a"]]

    assert "reads a: int64 not null, b: int64 not null\n" in frame.explain()


def test_variables_of_a_query_can_be_given() -> None:
    frame = ms.from_pandas(pd.DataFrame({"a": [1, 2, 3]}))

    assert frame.query("a > @least", local_dict={"least": 2}).compute()["a"].tolist() == [3]


FRAME = pd.DataFrame(
    {
        "n": pd.array([1, None], dtype="Int64"),
        "s": ["a", None],
        "x": [1, 2],
        "ts": pd.date_range("2026-01-01", periods=2),
        "tags": [["a"], ["b", "c"]],
    }
)


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda f: f.query("nope > 1"), "no column 'nope'"),
        (lambda f: f.query("np > 1"), "For the variable write @np"),
        (lambda f: f.query("x > @nope"), "no variable 'nope'"),
        (lambda f: f.query("x >"), "cannot be read"),
        (lambda f: f.query("x = 1"), "cannot be read"),
        (lambda f: f.query("index > 1"), "no index"),
        (lambda f: f.query("1 > 2"), "not about any column"),
        (lambda f: f.query("x + 1"), "not true or false"),
        (lambda f: f.query("[y for y in x]"), "not part of the language"),
        (lambda f: f.query("'a' in s"), "write a column in a list"),
        (lambda f: f.query(""), "give a condition"),
        (lambda f: f.query("x.mean() > 1"), "mean is not available"),
        (lambda f: f.filter("x > 1"), r"goes to query\("),
        (lambda f: f.groupby(f["x"] + 1), "give names"),
        (lambda f: f.groupby("x").window(ms.tumbling("1s")).agg({"n": "sum"}), "name at least one output column"),
        (lambda f: f.dropna(subset="nope"), "no column 'nope'"),
        (lambda f: f.dropna(how="some"), "'any' or 'all'"),
        (lambda f: f.dropna(how="all", thresh=1), "not both"),
        (lambda f: f.fillna("none"), "does not fit column 'n'"),
        (lambda f: f.fillna({"s": 1}), "does not fit column 's'"),
        (lambda f: f.fillna({"nope": 1}), "no column 'nope'"),
        (lambda f: f.astype("int65"), "int65"),
        (lambda f: f.astype({"nope": "str"}), "no column 'nope'"),
        (lambda f: f.rename(columns={"nope": "y"}), "no column 'nope'"),
        (lambda f: f.rename(columns={"x": 1}), "must be text"),
        (lambda f: f.rename(columns={"x": "s"}), "two output columns"),
        (lambda f: f.rename(columns=str.upper, axis="index"), "no index"),
        (lambda f: f.drop("x", axis=0), "no index"),
        (lambda f: f.drop("x", errors="coerce"), "'raise' or 'ignore'"),
        (lambda f: f.explode([]), "at least one list column"),
        (lambda f: f.explode(["tags", "tags"]), "'tags' is named twice"),
        (lambda f: f.explode(["tags", "x"]), "int64, not a list"),
        (lambda f: f.select(f["x"] + 1), "what is computed needs one"),
        (lambda f: f.assign(y=[1, 2]), "list has no rows"),
        (lambda f: f[pd.Series([True, False])], "Series has no rows"),
        (lambda f: f.assign(y=lambda d: d["x"].iloc[:1]), "1 values for 2 rows"),
        (lambda f: f.compute(output_mode="complete"), "whole result of an aggregate"),
        (lambda f: ms.compute(f, output_mode="total"), "must be one of 'append'"),
        (lambda f: f.head(-1), "at least 0"),
        (lambda f: f[0], "no .iloc"),
    ],
)
def test_a_wrong_step_fails_when_it_is_written(write: Callable[[ms.StreamFrame], object], says: str) -> None:
    frame = ms.from_pandas(FRAME, event_time="ts")

    with pytest.raises(PlanError, match=says):
        write(frame)


def test_types_follow_from_the_plan_and_not_from_the_data() -> None:
    frame = ms.from_pandas(FRAME)

    found = frame.fillna({"n": 0}).assign(w=ms.col("x").where(ms.col("x") > 5), y=ms.col("x") // ms.col("x"))

    assert found.dtypes.astype(str).to_dict() == {
        "n": "Int64",
        "s": "str",
        "x": "int64",
        "ts": "datetime64[us]",
        "tags": "list<item: large_string>[pyarrow]",
        "w": "Int64",
        "y": "float64",
    }
    assert found.compute().dtypes.equals(found.dtypes)
    assert found.head(1).dtypes.equals(found.dtypes)


def test_event_time_survives_every_step_that_leaves_its_column() -> None:
    frame = ms.from_pandas(FRAME, event_time="ts")

    kept = frame.query("x > 0").dropna(subset="s").fillna({"n": 0}).astype({"x": "float64", "ts": "datetime64"})

    assert kept.event_time == "ts"
    assert kept.rename(columns=str.upper).event_time == "TS"
    assert kept.select(frame["ts"], ms.col("x")).event_time == "ts"
    assert frame.astype({"ts": "str"}).event_time is None


def test_compute_of_several_frames_takes_the_mode() -> None:
    frame = ms.from_pandas(FRAME)

    one, two = ms.compute(frame, frame[frame["x"] > 1], output_mode="append")

    assert (len(one), len(two)) == (2, 1)


def test_a_value_that_does_not_fit_a_new_type_is_blamed_on_its_row() -> None:
    frame = ms.from_pandas(pd.DataFrame({"s": ["1", "2", "x", "4"]}), batches=2).astype({"s": "int64"})

    with pytest.raises(UserFunctionError, match="frames-0 offset 1.*'x'"):
        frame.compute()


def test_an_unchanged_plan_passes_the_check_of_cuts() -> None:
    times = pd.date_range("2026-01-01", periods=6, freq="20s")
    data = pd.DataFrame({"k": list("abcabc"), "x": range(6), "ts": times})

    check_cuts(lambda f: f.query("x > 0").groupby("k").window(ms.tumbling("1min")).size(), data, event_time="ts")


def test_the_whole_of_an_aggregate_without_a_window_passes_the_check_of_cuts() -> None:
    check_cuts(lambda f: f.groupby("k").agg(last=("x", "last")), pd.DataFrame({"k": list("abcabc"), "x": range(6)}))


@pytest.mark.parametrize(
    "across",
    [
        lambda f: f.assign(y=lambda d: d["x"].mean()),
        lambda f: f.assign(y=lambda d: d["x"].cumsum()),
        lambda f: f[lambda d: d["x"] == d["x"].max()],
        lambda f: f.map_batches(lambda d: d.head(1)),
    ],
)
def test_what_looks_across_rows_fails_the_check_of_cuts(across: Callable[[ms.StreamFrame], ms.StreamFrame]) -> None:
    with pytest.raises(AssertionError, match="depends on how batches are cut"):
        check_cuts(across, pd.DataFrame({"x": [3.0, 1.0, 2.0, 5.0, 4.0]}))


def test_steps_with_indices_ignore_them() -> None:
    data = pd.DataFrame({"x": [3, 1, 2]}, index=[7, 8, 9])

    found = ms.from_pandas(data).assign(y=lambda d: d["x"].set_axis(range(9, 9 + len(d))), z=lambda d: d.index)

    assert found.head(3).to_dict("list") == {"x": [3, 1, 2], "y": [3, 1, 2], "z": [0, 1, 2]}


def test_names_of_columns_complete_in_notebooks() -> None:
    frame = ms.from_pandas(FRAME)

    assert {"x", "ts", "query", "head"} <= set(dir(frame))
    assert operator.attrgetter("x")(frame) is not None
    assert np.dtype("int64") == frame.dtypes["x"]
