from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pandas as pd
import pyarrow as pa
import pytest
from by_pandas import WORDS, frames, plain, streamed
from hypothesis import given, settings

import microstream as ms
from microstream.errors import PlanError, UserFunctionError

WORD = {"row": "int64", "word": "str"}


def words(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"row": row["row"], "word": word} for word in (row["s"] or "").split()]


@given(texts=st.lists(st.none() | WORDS, max_size=6), batches=st.integers(1, 3))
@settings(deadline=None, max_examples=20)
def test_a_row_becomes_none_one_or_several(texts: list[str | None], batches: int) -> None:
    data = pd.DataFrame({"row": range(len(texts)), "s": pd.array(texts, dtype="str")})

    found = streamed(lambda frame: frame.map_rows(words, schema=WORD), data, batches)

    wanted = data.assign(word=data["s"].str.split()).explode("word").dropna(subset="word")
    assert list(zip(found["row"], found["word"], strict=True)) == list(zip(wanted["row"], wanted["word"], strict=True))


@given(data=frames(min_size=1), batches=st.integers(1, 2))
@settings(deadline=None, max_examples=10)
def test_rows_that_are_handed_back_are_the_rows_that_came(data: pd.DataFrame, batches: int) -> None:
    frame = ms.from_pandas(data, batches=batches)

    mapped = frame.map_rows(lambda row: row)

    assert mapped.schema.equals(frame.schema)
    found = mapped.compute().sort_values("row", ignore_index=True)
    assert all(plain(found[name]) == plain(data[name]) for name in data.columns)


def test_values_are_plain_python() -> None:
    data = pd.DataFrame(
        {"n": pd.array([1, None], "Int64"), "f": [0.5, None], "t": pd.to_datetime(["2026-01-01", None])}
    )
    seen: list[dict[str, Any]] = []

    ms.from_pandas(data).map_rows(lambda row: seen.append(row), schema={"n": "int64"}).compute()

    assert seen == [
        {"n": 1, "f": 0.5, "t": datetime.datetime(2026, 1, 1)},
        {"n": None, "f": None, "t": None},
    ]


class Counting:
    made = 0

    def __init__(self) -> None:
        type(self).made += 1

    def __call__(self, row: dict[str, Any]) -> dict[str, Any] | None:
        return {"n": row["n"] + 1} if row["n"] % 2 else None


def test_a_class_is_instantiated_once_and_none_drops_the_row() -> None:
    frame = ms.from_pandas(pd.DataFrame({"n": [1, 2, 3]}), batches=3).map_rows(Counting, schema={"n": "int64"})
    Counting.made = 0

    assert frame.compute()["n"].tolist() == [2, 4]
    assert Counting.made == 1


def test_event_time_survives_and_windows_follow() -> None:
    data = pd.DataFrame({"n": [1, 2], "ts": pd.to_datetime(["2026-01-01", "2026-01-02"])})
    frame = ms.from_pandas(data, event_time="ts").map_rows(lambda row: [row, row])

    assert frame.event_time == "ts"
    assert frame.window(ms.tumbling("1D")).size().compute()["size"].tolist() == [2, 2]


def raises(row: dict[str, Any]) -> dict[str, Any]:
    if row["n"] == 13:
        raise ArithmeticError("13 is unlucky")
    return row


@pytest.mark.parametrize(
    ("fn", "says"),
    [
        (raises, "13 is unlucky"),
        (lambda row: {} if row["n"] == 13 else row, "missing: n; not declared: none"),
        (lambda row: {**row, "m": 1} if row["n"] == 13 else row, "missing: none; not declared: m"),
        (lambda row: "text" if row["n"] == 13 else row, "returned str. Return a dict"),
        (lambda row: [row, 1] if row["n"] == 13 else row, "returned int. Return a dict"),
        (lambda row: {"n": "x"} if row["n"] == 13 else [row, row], "'n' is declared int64, but a value does not fit"),
        (lambda row: {"n": None} if row["n"] == 13 else row, "never null"),
    ],
)
def test_the_row_that_fails_is_named(fn: Callable[..., Any], says: str) -> None:
    data = [pd.DataFrame({"n": [1, 2]}), pd.DataFrame({"n": [13]}), pd.DataFrame({"n": [3]})]
    frame = ms.from_pandas(data).filter(ms.col("n") != 2).map_rows(fn, schema={"n": "int64"})

    with pytest.raises(UserFunctionError, match=says) as caught:
        frame.compute()

    assert caught.value.position == "frames-0 offset 1"
    assert "map_rows" in caught.value.operator


@pytest.mark.parametrize(
    ("fn", "says"),
    [
        (lambda row: None, "gives no row for them"),
        (lambda row: {"x": None}, "only ever holds null"),
        (lambda row: row["nope"], "sample of two rows"),
        (lambda row: 5, "returned int"),
        (7, "give a function"),
    ],
)
def test_a_function_whose_columns_cannot_be_told_asks_for_them(fn: Any, says: str) -> None:
    with pytest.raises(PlanError, match=says):
        ms.from_pandas(pd.DataFrame({"n": [1]})).map_rows(fn)


def test_nested_values_come_and_go() -> None:
    data = pa.table({"tags": [["a"], None], "who": [{"id": 1}, {"id": None}]}).to_pandas(types_mapper=pd.ArrowDtype)
    frame = ms.from_pandas(data).map_rows(lambda row: {"who": row["who"], "n": len(row["tags"] or [])})

    assert frame.dtypes.astype(str).to_dict() == {"who": "struct<id: int64>[pyarrow]", "n": "int64"}
    assert frame.compute()["n"].tolist() == [1, 0]
