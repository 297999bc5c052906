from __future__ import annotations

from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import microstream as ms
from microstream.errors import PlanError, UserFunctionError

FRAME = pd.DataFrame(
    {
        "page": ["a", "a", "b", "a"],
        "ms": [30, 10, 20, 50],
        "ok": [True, False, False, True],
        "ts": pd.to_datetime(
            ["2026-01-01 00:00:03", "2026-01-01 00:00:01", "2026-01-01 00:00:02", "2026-01-01 00:00:04"]
        ),
    }
)


def minutes(batches: int = 2) -> Any:
    clicks = ms.from_pandas(FRAME, event_time="ts", watermark="1min", batches=batches)
    return clicks.groupby("page").window(ms.tumbling("1min"))


@pytest.mark.parametrize("batches", [1, 2, 4])
def test_every_aggregate_and_condition_in_one_result(batches: int) -> None:
    ok = ms.col("ok")

    result = minutes(batches).agg(
        n=("ms", "size"),
        kept=ms.agg("ms", "size", where=ok),
        least=ms.agg("ms", "min", where=lambda frame: frame["ok"]),
        most=ms.agg("ms", "max", where=pd.col("ok")),
        total=ms.agg("ms", "sum", where=ok),
        spread=("ms", "std"),
        whole=ms.agg("ms", "var", ddof=0),
        some=("ok", "any"),
        every=("ok", "all"),
        open=("ms", "first"),
        close=("ms", "last"),
        values=("ms", "list"),
        different=("ok", "nunique"),
    )

    found = result.compute()
    assert result.dtypes.astype(str).to_dict() == found.dtypes.astype(str).to_dict()
    assert found.dtypes[["least", "most", "total", "open"]].astype(str).to_list() == [
        "Int64",
        "Int64",
        "int64",
        "int64",
    ]
    a, b = (row._asdict() for row in found.itertuples(index=False))
    assert (a["n"], a["kept"], a["least"], a["most"], a["total"]) == (3, 2, 30, 50, 80)
    assert (a["spread"], a["whole"]) == pytest.approx((20.0, 800 / 3))
    assert (a["some"], a["every"], a["different"]) == (True, False, 2)
    assert (a["open"], a["close"], list(a["values"])) == (10, 50, [10, 30, 50])
    assert (b["n"], b["kept"], b["total"], pd.isna(b["least"])) == (1, 0, 0, True)
    assert (b["some"], b["every"], pd.isna(b["spread"]), b["whole"]) == (False, False, True, 0.0)


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ("count", [3, 1]), ("sum", [90, 20]), ("min", [10, 20]), ("max", [50, 20]), ("mean", [30.0, 20.0]),
        ("any", [True, True]), ("all", [True, True]), ("first", [10, 20]), ("last", [50, 20]), ("nunique", [3, 1]),
    ],
)  # fmt: skip
def test_selected_columns_keep_their_names(how: str, wanted: list[Any]) -> None:
    result = getattr(minutes()["ms"], how)().compute()

    assert list(result.columns) == ["page", "window_start", "window_end", "ms"]
    assert result["ms"].to_list() == wanted


def test_several_selected_columns_are_aggregated_alike() -> None:
    result = minutes()[["ms", "ok"]].var(ddof=0).compute()

    assert list(result.columns) == ["page", "window_start", "window_end", "ms", "ok"]
    assert minutes()["ms"].list().compute()["ms"].map(list).to_list() == [[10, 30, 50], [20]]
    assert minutes()["ms"].std().compute()["ms"].iloc[0] == pytest.approx(20.0)


def test_named_aggregates_of_pandas_are_taken_as_they_are() -> None:
    found = minutes().agg(
        total=pd.NamedAgg("ms", "sum"),
        most=pd.NamedAgg(column="ms", aggfunc="max"),
        spread=pd.NamedAgg("ms", "std", ddof=0),
    )

    wanted = minutes().agg(total=("ms", "sum"), most=("ms", "max"), spread=ms.agg("ms", "std", ddof=0))
    pd.testing.assert_frame_equal(found.compute(), wanted.compute())


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (("ms", "median"), "There are: count, size, sum, min, max, mean, std, var, any, all, first, last, list"),
        (("nothing", "sum"), "nothing"),
        (("page", "std"), "needs numbers"),
        (("page", "any"), "true and false"),
        ("sum", r"ms\.agg\("),
        (pd.NamedAgg("ms", "median"), "no aggregate 'median'"),
        (pd.NamedAgg("ms", sum), "give a column and what to do with it"),
        (pd.NamedAgg("ms", "std", 0), "give a column and what to do with it"),
        (pd.NamedAgg("ms", "std", q=0), "It takes: ddof"),
        (ms.agg("ms", "sum", ddof=1), "It takes none"),
        (ms.agg("ms", "std", q=1), "It takes: ddof"),
        (ms.agg("ms", "std", ddof=0.5), "whole number"),
        (ms.agg("ms", "sum", where=ms.col("ms")), "not true or false"),
        (ms.agg("ms", "sum", where=ms.col("nothing") > 1), "nothing"),
    ],
)
def test_wrong_aggregates_are_refused_when_written(wanted: Any, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        minutes().agg(x=wanted)


def test_a_method_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(PlanError, match=r"\[columns\]\.sum\(\)"):
        minutes().sum()
    with pytest.raises(PlanError, match="nunique"):
        minutes()["ms"].median()
    with pytest.raises(PlanError, match="nothing"):
        minutes()["nothing"]


def test_a_condition_that_fails_names_the_row() -> None:
    def positive(frame: pd.DataFrame) -> pd.Series[bool]:
        if (frame["ms"] == 50).any():
            raise ValueError("fifty")
        return frame["ms"] > 0

    with pytest.raises(UserFunctionError, match="fifty"):
        minutes(batches=1).agg(x=ms.agg("ms", "sum", where=positive)).compute()


def test_a_condition_is_part_of_the_plan() -> None:
    plan = minutes().agg(x=ms.agg("ms", "var", where=ms.col("ok"), ddof=0)).explain()

    assert "x = var(ms, ddof=0, where=ok)" in plan


@given(
    rows=st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.0, -0.0, 0.5, 1.0, 1.5, None])), min_size=1),
    batches=st.integers(1, 4),
    step=st.sampled_from(["10s", "5s"]),
)
@settings(deadline=None, max_examples=25)
def test_distinct_floats_are_counted_as_pandas_counts_them(
    rows: list[tuple[int, float | None]], batches: int, step: str
) -> None:
    frame = pd.DataFrame(rows, columns=["g", "x"]).astype({"x": "float64"})
    frame["ts"] = pd.Timestamp("2026-01-01") + pd.to_timedelta(range(len(frame)), unit="ms")
    stream = ms.from_pandas(frame, event_time="ts", batches=batches)

    found = stream.groupby("g").window(ms.sliding("10s", every=step)).agg(n=("x", "nunique")).compute()

    expected = frame.groupby("g")["x"].nunique()
    last = found[found["window_end"] == found["window_end"].max()]
    assert dict(zip(last["g"], last["n"], strict=True)) == expected.to_dict()


def test_sums_of_unsigned_and_of_decimals_keep_their_kind() -> None:
    frame = pd.DataFrame({"u": pd.array([2**63, 1], "uint64"), "ts": pd.date_range("2026-01-01", periods=2, freq="1s")})
    frame["d"] = pd.array([Decimal("1.25"), Decimal("2.50")], dtype=pd.ArrowDtype(pa.decimal128(10, 2)))
    stream = ms.from_pandas(frame, event_time="ts")

    found = stream.window(ms.tumbling("1h")).agg(u=("u", "sum"), d=("d", "sum"), m=("d", "mean")).compute()

    assert found[["u", "d", "m"]].iloc[0].tolist() == [2**63 + 1, Decimal("3.75"), 1.875]
