from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import microstream as ms
from microstream.errors import PlanError
from microstream.frame.columns import Column

FRAME = pd.DataFrame({"x": [1, 2, 3], "y": [0.5, np.nan, 2.0], "s": ["a b", None, "c"], "u": [3, 2, 1]})


def computed(column: Any) -> list[Any]:
    """Values of `column` on FRAME, in its order."""
    result = ms.from_pandas(FRAME).select(out=column, x=ms.col("x")).compute()
    return [None if pd.isna(value) else value for value in result.sort_values("x")["out"]]


def expected(series: pd.Series[Any]) -> list[Any]:
    return [None if pd.isna(value) else value for value in series]


@pytest.mark.parametrize(
    "build",
    [
        lambda f: 10 - f["x"],
        lambda f: 2 / f["x"] + 1.5 * f["x"],
        lambda f: 7 // f["x"] + 7 % f["x"] + 2 ** f["x"],
        lambda f: -f["x"] * abs(f["y"] - 1),
        lambda f: (f["x"] > 1) & ~(f["y"] > 1) | (f["u"] == 3),
        lambda f: True ^ (f["x"] != f["u"]),
        lambda f: f["x"].isin([1, 3]),
        lambda f: f["y"].fillna(f["x"]).round(1).clip(upper=1.0),
        lambda f: f["y"].isna() | f["s"].notna(),
        lambda f: f["x"].between(2, 3, inclusive="left"),
        lambda f: f["x"].astype("float64").add(1).div(2),
        lambda f: f["s"].str.upper().str.replace("A", "z", regex=False),
        lambda f: f["s"].str[0] + "!",
        lambda f: f["s"].str[1:],
        lambda f: f["x"].where(f["u"] > 1, other=-1),
        lambda f: f["x"].map(lambda n: n * 10),
        lambda f: np.float64(2) * f["x"],
    ],
)
def test_columns_behave_as_pandas_series(build: Callable[[Any], Any]) -> None:
    found = computed(build({name: ms.col(name) for name in FRAME.columns}))

    assert found == expected(build(FRAME))


@pytest.mark.parametrize("name", ["mean", "sum", "shift", "cumsum", "diff", "rank", "rolling", "sort_values"])
def test_a_method_that_looks_across_rows_is_refused_and_names_the_window(name: str) -> None:
    with pytest.raises(PlanError, match="window"):
        getattr(ms.col("x"), name)


def test_a_name_that_series_does_not_have_is_an_attribute_error() -> None:
    assert not hasattr(ms.col("x"), "_repr_html_")
    assert not hasattr(ms.col("x"), "no_such_method")


@pytest.mark.parametrize("use", [bool, list, lambda c: c and True, lambda c: 1 in c, lambda c: 0 < c < 2, len])
def test_a_column_is_neither_a_truth_value_nor_a_list(use: Callable[[Any], Any]) -> None:
    with pytest.raises((PlanError, TypeError)):
        use(ms.col("x"))


def test_the_error_for_and_or_not_names_the_operators_to_use() -> None:
    with pytest.raises(PlanError, match=r"& \| ~"):
        bool(ms.col("x") > 1)


def test_accessors_offer_row_wise_members_only() -> None:
    assert "upper" in dir(ms.col("s").str)
    with pytest.raises(PlanError, match=r"\.str\.cat is not available"):
        _ = ms.col("s").str.cat
    with pytest.raises(PlanError, match=r"only \.str and \.list"):
        _ = ms.col("s").dt[0]


def test_parts_of_times_are_properties_and_roundings_are_methods() -> None:
    assert repr(ms.col("ts").dt.hour) == "<column ts.dt.hour>"
    assert repr(ms.col("ts").dt.floor("1h")) == "<column ts.dt.floor('1h')>"


def test_a_series_is_refused_where_a_column_is_needed() -> None:
    with pytest.raises(PlanError, match=r"ms\.col"):
        operator.add(FRAME["x"], ms.col("x"))


def test_bound_columns_stay_valid_on_row_wise_descendants() -> None:
    frame = ms.from_pandas(FRAME)

    found = frame[frame["x"] > 1].assign(z=frame.x + frame["u"]).select("z", "x").filter(frame["x"] < 3).compute()

    assert found.to_dict("list") == {"z": [4], "x": [2]}


@pytest.mark.parametrize(
    "use",
    [
        lambda frame: frame.assign(x=1)[frame["x"] > 1],
        lambda frame: frame.select(x=ms.col("u"))[frame["x"] > 1],
        lambda frame: frame.map_batches(lambda f: f)[frame["x"] > 1],
        lambda frame: ms.from_pandas(FRAME)[frame["x"] > 1],
        lambda frame: ms.from_pandas(FRAME)[(ms.col("u") + frame["x"]) > 1],
    ],
)
def test_a_bound_column_is_refused_where_it_changed_or_never_was(use: Callable[[ms.StreamFrame], object]) -> None:
    with pytest.raises(PlanError, match=r"ms\.col\('x'\)"):
        use(ms.from_pandas(FRAME))


def test_a_column_named_like_a_method_is_reached_by_brackets() -> None:
    frame = ms.from_pandas(pd.DataFrame({"filter": [1]}))

    assert isinstance(frame["filter"], Column)
    assert not isinstance(frame.filter, Column)
