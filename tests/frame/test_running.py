"""Aggregates without a window, and output modes, as their user calls them; pandas is the oracle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import microstream as ms
from microstream.errors import PlanError

BIDS = pd.DataFrame(
    {
        "auction": [1, 2, 1, 1, 3],
        "price": [10.0, 20.0, 5.0, 30.0, 1.0],
        "ts": pd.date_range("2026-01-01", periods=5, freq="30s"),
    }
)
rows = st.lists(st.tuples(st.sampled_from("abc"), st.integers(-9, 9)), max_size=8)


def bids(batches: int = 5) -> ms.StreamFrame:
    return ms.from_pandas(BIDS, event_time="ts", batches=batches)


def by_auction(frame: ms.StreamFrame, **aggregates: Any) -> ms.StreamFrame:
    return frame.groupby("auction").agg(**(aggregates or {"n": ("price", "size"), "high": ("price", "max")}))


def to_topic(frame: ms.StreamFrame, **given: Any) -> ms.StreamSink:
    return frame.to_kafka("out", bootstrap_servers="host:1", **given)


def in_minutes(frame: ms.StreamFrame) -> ms.StreamFrame:
    return frame.groupby("auction").window(ms.tumbling("1min")).agg(n=("price", "size"))


@settings(deadline=None, max_examples=15)
@given(batches=st.lists(rows, min_size=1, max_size=4))
def test_the_whole_result_is_that_of_pandas(batches: list[list[tuple[str, int]]]) -> None:
    frames = [pd.DataFrame(batch, columns=["k", "v"]).astype({"k": "str", "v": "int64"}) for batch in batches]
    keyed = ms.from_pandas(frames).groupby("k")
    whole = pd.concat(frames, ignore_index=True)
    expected = whole.groupby("k", as_index=False).agg(n=("v", "size"), total=("v", "sum"), last=("v", "last"))

    found = keyed.agg(n=("v", "size"), total=("v", "sum"), last=("v", "last")).compute(output_mode="complete")

    assert found.values.tolist() == expected.values.tolist()
    assert list(found.columns) == list(expected.columns)


def test_rows_that_changed_come_with_their_batch() -> None:
    found = by_auction(bids()).compute()

    assert found.to_dict("list") == {
        "auction": [1, 1, 1, 2, 3],
        "n": [1, 2, 3, 1, 1],
        "high": [10.0, 10.0, 30.0, 20.0, 1.0],
        "_batch": [0, 2, 3, 1, 4],
    }


def test_a_row_whose_values_did_not_change_is_not_given_again() -> None:
    found = by_auction(bids(), high=("price", "max")).compute()

    assert found[["auction", "high", "_batch"]].values.tolist() == [[1, 10, 0], [1, 30, 3], [2, 20, 1], [3, 1, 4]]


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda f: f.agg(n=("price", "size"), mean=("price", "mean")), [[5, 13.2]]),
        (lambda f: f.groupby("auction").size(), [[1, 3], [2, 1], [3, 1]]),
        (lambda f: f.groupby(["auction"])[["price"]].sum(), [[1, 45.0], [2, 20.0], [3, 1.0]]),
        (lambda f: f[f["price"] > 100].agg(n=("price", "size")), []),
        (lambda f: by_auction(f).filter(ms.col("n") > 1)[["auction"]], [[1]]),
        (lambda f: in_minutes(f)[["auction", "n"]], [[1, 1], [1, 2], [2, 1], [3, 1]]),
    ],
    ids=["no keys", "size", "columns", "no rows", "steps after it", "windows"],
)
def test_the_whole_result_of(write: Callable[[ms.StreamFrame], ms.StreamFrame], expected: list[list[Any]]) -> None:
    assert write(bids()).compute(output_mode="complete").values.tolist() == expected


def test_rows_of_no_aggregate_are_all_new() -> None:
    found = bids(2)[["auction"]].compute(output_mode="update")

    assert sorted(found.values.tolist()) == [[1, 0], [1, 1], [1, 1], [2, 0], [3, 1]]


def test_windows_in_update_mode_give_what_changed_before_they_close() -> None:
    found = in_minutes(bids()).compute(output_mode="update")

    assert found[["auction", "n", "_batch"]].values.tolist() == [[1, 1, 0], [2, 1, 1], [1, 1, 2], [1, 2, 3], [3, 1, 4]]


def test_a_running_result_takes_closed_windows() -> None:
    minutes = in_minutes(bids())

    found = minutes.groupby("auction").agg(most=("n", "max"), minutes=("n", "size")).compute(output_mode="complete")

    assert found.values.tolist() == [[1, 2, 2], [2, 1, 1], [3, 1, 1]]


def test_a_whole_result_that_becomes_empty_leaves_an_empty_table() -> None:
    few = by_auction(bids()).filter(ms.col("n") < 3).filter(ms.col("auction") == 1)
    query = few.to_memory(output_mode="complete").start(trigger=ms.available_now())
    query.await_termination()

    assert query.table().empty
    assert list(query.table().columns) == ["auction", "n", "high"]


def test_the_table_of_a_query_has_every_value_in_update_mode() -> None:
    query = by_auction(bids()).to_memory().start(trigger=ms.available_now())
    query.await_termination()

    found = query.table().sort_values(["auction", "_batch"])

    pd.testing.assert_frame_equal(found.reset_index(drop=True), by_auction(bids()).compute())


def test_several_frames_have_one_mode() -> None:
    totals, minutes = ms.compute(by_auction(bids()), in_minutes(bids()), output_mode="complete")

    assert (len(totals), len(minutes)) == (3, 4)


def test_the_head_of_what_changes() -> None:
    assert by_auction(bids()).head(2)[["auction", "n"]].values.tolist() == [[1, 1], [2, 1]]


def revised(frame: ms.StreamFrame) -> ms.StreamFrame:
    return frame.window(ms.tumbling("1min"), allowed_lateness="1min").agg(n=("price", "size"))


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda f: by_auction(f).compute(output_mode="append"), "an aggregate without a window never ends"),
        (lambda f: by_auction(f).to_memory(output_mode="append"), "an aggregate without a window never ends"),
        (lambda f: by_auction(f).to_parquet("out"), "never replaced"),
        (lambda f: in_minutes(f).to_parquet("out", output_mode="update"), "never replaced"),
        (lambda f: to_topic(by_auction(f)), "Name the columns that identify a row, as in key="),
        (lambda f: to_topic(by_auction(f), key="n"), "'auction' is missing. Write key='auction'"),
        (
            lambda f: to_topic(by_auction(f).rename(columns={"auction": "a"})[["n", "a"]], key="n"),
            "does not tell rows of the aggregate by auction apart",
        ),
        (
            lambda f: to_topic(in_minutes(f), key="window_end", output_mode="update"),
            r"Write key=\['auction', 'window_end'\]",
        ),
        (lambda f: f.to_memory(output_mode="updat"), "Did you mean 'update'"),
        (lambda f: to_topic(by_auction(f), key="auction", delivery="at_least_once"), "with an old value"),
        (lambda f: f.to_memory(output_mode="complete"), "there is none here"),
        (
            lambda f: ms.concat([by_auction(f)[["auction", "n"]], f.assign(n=1)[["auction", "n"]]]).to_memory(
                output_mode="complete"
            ),
            "some of these rows come from none",
        ),
        (lambda f: revised(f)[ms.col("_revision") > 0].to_memory(output_mode="update"), "filter: column '_revision'"),
        (lambda f: revised(f).assign(r=ms.col("_revision") + 1).to_memory(output_mode="update"), "assign: column"),
        (lambda f: revised(f)[["n", "_revision"]].to_memory(output_mode="complete"), "project: column '_revision'"),
        (lambda f: f.window(ms.tumbling("1min"), allowed_lateness="soon"), "allowed_lateness='soon' is not a duration"),
        (lambda f: f.window(ms.tumbling("1min"), allowed_lateness="-1s"), "must be zero or more"),
        (
            lambda f: f.window(ms.tumbling("1min"), allowed_lateness="1s").size().agg(n=("size", "sum")),
            "whose rows may come again",
        ),
        (
            lambda f: f.window(ms.tumbling("1min"), allowed_lateness="1s").agg(_revision=("price", "sum")),
            "two output columns are named '_revision'",
        ),
        (lambda f: f.to_memory(output_mode="replace"), "must be one of 'append', 'update', 'complete'"),
        (lambda f: by_auction(f).groupby("n").agg(auctions=("auction", "size")), "never final"),
        (lambda f: by_auction(f).agg(auctions=("auction", "size")), "never final"),
        (lambda f: by_auction(f).late, "late"),
        (lambda f: f.agg(), "name at least one output column"),
        (lambda f: f.agg(n=("nope", "sum")), "no column 'nope'"),
        (lambda f: by_auction(f, _batch=("price", "sum")).compute(), "column '_batch'"),
        (lambda f: f.groupby("auction").sum(), r"say of which columns"),
    ],
)
def test_what_cannot_be_is_said_when_it_is_written(write: Callable[[ms.StreamFrame], object], says: str) -> None:
    with pytest.raises(PlanError, match=says):
        write(bids())


@pytest.mark.parametrize(
    "write",
    [
        lambda f: to_topic(by_auction(f), key="auction"),
        lambda f: to_topic(by_auction(f), key=["n", "auction"]),
        lambda f: to_topic(by_auction(f)[ms.col("n") > 1].rename(columns={"auction": "a"}), key="a"),
        lambda f: to_topic(ms.concat([by_auction(f)[ms.col("n") > 1], by_auction(f)]), key="auction"),
        lambda f: to_topic(by_auction(f).assign(id=ms.col("auction").astype("str")), key="id"),
        lambda f: to_topic(by_auction(f).map_batches(lambda rows: rows, schema=by_auction(f).schema), key="n"),
        lambda f: to_topic(f.agg(n=("price", "size")), key="n"),
        lambda f: to_topic(in_minutes(f), key="n"),
        lambda f: to_topic(in_minutes(f), key=["auction", "window_end"], output_mode="update"),
        lambda f: to_topic(in_minutes(f), key="auction", output_mode="update"),
        lambda f: to_topic(by_auction(f), key="n", output_mode="complete"),
    ],
)
def test_keys_that_tell_rows_apart_or_need_not(write: Callable[[ms.StreamFrame], object]) -> None:
    assert write(bids())


def test_two_sinks_of_one_aggregate_have_one_mode() -> None:
    totals = by_auction(bids())
    sinks = totals.to_memory("all", output_mode="complete"), totals.to_memory("changes")

    with pytest.raises(PlanError, match="'update' for sink 'changes', and in mode 'complete' for sink 'all'"):
        ms.start(*sinks)


def test_windows_that_feed_another_aggregate_cannot_change() -> None:
    minutes = in_minutes(bids())
    sinks = minutes.to_memory("minutes", output_mode="update"), by_auction(minutes, n=("n", "sum")).to_memory("totals")

    with pytest.raises(PlanError, match="takes final rows only"):
        ms.start(*sinks)


def test_the_state_is_there_to_open(tmp_path: Path) -> None:
    totals, minutes = by_auction(bids()).named("totals"), in_minutes(bids()).named("minutes")
    held = bids().window(ms.tumbling("1min"), allowed_lateness="1h").size().named("held")
    sinks = totals.to_memory("totals"), minutes.to_memory("minutes", output_mode="complete"), held.to_memory("held")
    query = ms.start(*sinks, checkpoint=str(tmp_path), trigger=ms.available_now())
    query.await_termination()

    checkpoint = ms.open_checkpoint(str(tmp_path))

    assert checkpoint.state("totals").sort_values("auction").values.tolist() == [[1, 3, 30], [2, 1, 20], [3, 1, 1]]
    assert len(checkpoint.state("minutes")) == 4
    assert checkpoint.state("held")[["size", "_revision"]].empty  # the input has ended


def late_clicks() -> ms.StreamFrame:
    """One row per batch: the third and fifth come after their minute, the fifth too late for five minutes."""
    at = pd.to_datetime("2026-01-01 12:00") + pd.to_timedelta([10, 90, 50, 600, 20], unit="s")
    return ms.from_pandas(pd.DataFrame({"page": "a", "ts": at}), event_time="ts", batches=5)


def test_windows_that_closed_come_again_while_lateness_is_allowed() -> None:
    minutes = late_clicks().groupby("page").window(ms.tumbling("1min"), allowed_lateness="5min").size()
    closed, late = ms.compute(minutes, minutes.late)

    ends = (closed["window_end"] - pd.Timestamp("2026-01-01 12:00")).dt.total_seconds() / 60
    found = list(zip(ends, closed["size"], closed["_revision"], strict=True))
    assert found == [(1, 1, 0), (1, 2, 1), (2, 1, 0), (11, 1, 0)]
    assert late["_window_end"].tolist() == [pd.Timestamp("2026-01-01 12:01")]
    assert late["_watermark"].tolist() == [pd.Timestamp("2026-01-01 12:10")]


def test_in_update_mode_lateness_adds_no_revision() -> None:
    minutes = late_clicks().window(ms.tumbling("1min"), allowed_lateness="5min").size()

    found = minutes.compute(output_mode="update")

    assert list(found.columns) == ["window_start", "window_end", "size", "_batch"]
    assert found[["size", "_batch"]].values.tolist() == [[1, 0], [2, 2], [1, 1], [1, 3]]


@pytest.mark.parametrize("lateness", [None, "0s", pd.Timedelta(0)])
def test_no_lateness_is_no_revision(lateness: Any) -> None:
    minutes = late_clicks().window(ms.tumbling("1min"), allowed_lateness=lateness).size()

    assert "_revision" not in minutes.columns


def test_revisions_go_to_files(tmp_path: Path) -> None:
    minutes = late_clicks().window(ms.sliding("2min", every="1min"), allowed_lateness="5min").size()
    query = minutes.to_parquet(str(tmp_path / "out")).start(
        checkpoint=str(tmp_path / "checkpoint"), trigger=ms.available_now()
    )
    query.await_termination()

    found = ms.open_parquet(str(tmp_path / "out")).to_table().to_pandas()

    expected = minutes.compute()
    order = ["window_end", "_revision"]
    assert found.sort_values(order)["size"].tolist() == expected.sort_values(order)["size"].tolist()


def test_another_mode_needs_another_state(tmp_path: Path) -> None:
    def run(mode: Any, **given: Any) -> None:
        sink = in_minutes(bids()).named("minutes").to_memory("out", output_mode=mode)
        sink.start(checkpoint=str(tmp_path), trigger=ms.available_now(), **given).await_termination()

    run("append")
    with pytest.raises(PlanError, match=r"'minutes' was \{\"mode\": null\} and is now \{\"mode\": \"update\"\}"):
        run("update")
    run("update", on_change={"minutes": "reset"})
