"""`from_pandas` as the rules of event time see it: a list is one batch per frame (semantics 37)."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

import microstream as ms

START = pd.Timestamp("2026-01-01")


def at(*seconds: int) -> pd.DataFrame:
    times = [START + pd.Timedelta(second, "s") for second in seconds]
    return pd.DataFrame({"second": pd.array(seconds, "int64"), "ts": pd.Series(times, dtype="datetime64[us]")})


def numbered(batch: pd.DataFrame) -> pd.DataFrame:
    return batch.assign(rows=len(batch))


def counted(*lists: list[pd.DataFrame]) -> tuple[int, int]:
    """Rows in windows of 10 s, and late rows, of several sources together."""
    source = ms.concat([ms.from_pandas(frames, event_time="ts") for frames in lists])
    windows = source.window(ms.tumbling("10s")).agg(n=("second", "size"))
    closed, late = ms.compute(windows, windows.late)
    return int(closed["n"].sum()), len(late)


@settings(deadline=None, max_examples=20)
@given(lengths=st.lists(st.integers(0, 4), min_size=1, max_size=5))
def test_a_list_is_one_batch_per_frame_and_loses_nothing(lengths: list[int]) -> None:
    frames = [at(*range(10 * place, 10 * place + length)) for place, length in enumerate(lengths)]

    found = ms.from_pandas(frames).map_batches(numbered).compute()

    expected = pd.concat(frames, ignore_index=True)
    assert_frame_equal(found[["second", "ts"]], expected)
    assert found["rows"].tolist() == [length for length in lengths for _ in range(length)]


def test_the_ith_frames_of_sources_come_together() -> None:
    slow, fast = [at(0), at(50)], [at(100), at(150)]

    assert counted(slow, fast) == (4, 0)  # the watermark is 0 s when the row of 50 s comes


def test_a_shorter_list_is_finished_and_holds_nothing_back() -> None:
    assert counted([at(0)], [at(100), at(50)]) == (2, 1)


def test_an_empty_frame_is_a_batch_without_rows_and_not_an_end() -> None:
    assert counted([at(0), at()], [at(100), at(50)]) == (3, 0)
    assert counted([at(0)], [at(), at(100)]) == (2, 0)


@pytest.mark.parametrize(
    ("frames", "dtype"),
    [
        ([pd.DataFrame({"x": ["a"]}), pd.DataFrame({"x": []})], "str"),
        ([pd.DataFrame(columns=["x"]), pd.DataFrame({"x": [1]})], "int64"),
        ([pd.DataFrame({"x": [1]}), pd.DataFrame({"x": [1.5]})], "float64"),
        ([pd.DataFrame({"x": [True]}), pd.DataFrame({"x": [None]})], "boolean"),
        ([pd.DataFrame({"x": pd.Series([], dtype="int32")})], "int32"),
    ],
)
def test_frames_with_rows_decide_the_types(frames: list[pd.DataFrame], dtype: str) -> None:
    found = ms.from_pandas(frames).compute()

    assert str(found["x"].dtype) == dtype
    assert len(found) == sum(map(len, frames))


def test_columns_are_matched_by_name() -> None:
    frames = [pd.DataFrame({"a": [1], "b": [2]}), pd.DataFrame({"b": [4], "a": [3]})]

    assert ms.from_pandas(frames).compute().to_dict("list") == {"a": [1, 3], "b": [2, 4]}


@pytest.mark.parametrize("batches", [1, 2, 3, 7])
def test_a_frame_may_be_cut_into_more_batches_than_it_has_rows(batches: int) -> None:
    rows: Any = at(0, 1, 2)

    assert_frame_equal(ms.from_pandas(rows, batches=batches).compute(), rows)
