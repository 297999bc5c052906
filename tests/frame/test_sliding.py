from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

import microstream as ms
from microstream.errors import PlanError
from microstream.plan.nodes import Sliding, Tumbling

FRAME = pd.DataFrame({"key": ["a", "b", "a", "a"], "n": [1, 2, 3, 4], "ts": pd.to_datetime([1, 12, 25, 27], unit="s")})


def events(batches: int = 1) -> ms.StreamFrame:
    return ms.from_pandas(FRAME, event_time="ts", watermark="5s", batches=batches)


@pytest.mark.parametrize("batches", [1, 4])
def test_each_key_comes_out_once_per_window_that_holds_a_row_of_it(batches: int) -> None:
    windows = events(batches).groupby("key").window(ms.sliding("20s", every="10s", offset="-2s"))

    result = windows.agg(total=("n", "sum"), last=ms.agg("n", "last", where=ms.col("n") < 4)).compute()

    seconds = (result["window_end"] - pd.Timestamp(0)).dt.total_seconds()
    found = list(zip(result["key"], seconds, result["total"], result["last"], strict=True))
    assert found == [
        ("a", 8, 1, 1), ("a", 18, 1, 1), ("b", 18, 2, 2), ("a", 28, 7, 3), ("b", 28, 2, 2), ("a", 38, 7, 3)
    ]  # fmt: skip
    assert ((result["window_end"] - result["window_start"]) == pd.Timedelta("20s")).all()


def test_a_frame_without_keys_slides_too() -> None:
    result = events().window(ms.sliding("20s", every="10s"))["n"].sum().compute()

    assert result["n"].to_list() == [1, 3, 9, 7]


def test_windows_side_by_side_are_tumbling_windows() -> None:
    assert ms.sliding("20s", every="20s", offset="1s") == ms.tumbling("20s", offset="1s")
    assert isinstance(ms.sliding("20s", every="20s"), Tumbling)
    assert ms.sliding("20s", every="7s") == Sliding(size_us=20_000_000, every_us=7_000_000)


def test_the_plan_tells_size_and_step() -> None:
    plan = events().groupby("key").window(ms.sliding("1min", every="7s", offset="-1s")).size().explain()

    assert "in sliding(60s, every=7s, offset=-1s)" in plan or "in sliding(1min, every=7s, offset=-1s)" in plan


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ms.sliding(10, every=2), "count rows are not available"),
        (lambda: ms.tumbling(10), "count rows are not available"),
        (lambda: ms.sliding("10s", every=2), "every=2 is not a duration"),
        (lambda: ms.sliding("10s", every="20s"), "every <= size"),
        (lambda: ms.sliding("10s", every="0s"), "at least 1 us"),
        (lambda: events().groupby("key").window("10s"), r"ms\.sliding"),
        (lambda: events().window(ms.sliding("10s", every="5s"), on="n").size(), "event time of this frame is 'ts'"),
    ],
)
def test_windows_that_cannot_be_are_refused_when_written(make: Any, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        make()
