"""The time at which a row is read as its event time: what the frame has, what is refused, and what comes out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pandas as pd
import pytest
from hypothesis import given, settings

import microstream as ms
from microstream.plan.nodes import Source
from microstream.testing.kafka import Broker, produce, unique

TIME = "_processing_time"
EVER = ms.tumbling("36500D")
"""One window that ends long after every batch of a test: only the end of the input closes it."""


def letters(*batches: str) -> ms.StreamFrame:
    frames = [pd.DataFrame({"k": pd.array(list(batch), dtype="str")}) for batch in batches]
    return ms.from_pandas(frames, event_time=TIME)


def kafka(**changed: Any) -> ms.StreamFrame:
    return ms.read_kafka(
        "bids", **{"bootstrap_servers": "k:9092", "schema": {"k": "str"}, "event_time": TIME, **changed}
    )


def json_lines(folder: Path, *lines: object) -> Path:
    path = folder / "in.json"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def test_the_column_comes_last_is_never_null_and_is_the_event_time() -> None:
    frame = kafka(metadata=["_offset"])

    assert frame.columns.tolist() == ["k", "_offset", TIME]
    assert frame.dtypes.astype("str").to_dict()[TIME] == "datetime64[us]"
    assert not frame.schema.field(TIME).nullable
    assert frame.event_time == TIME


def test_a_connector_does_not_see_the_column() -> None:
    node = kafka(metadata=["_offset"])._node

    assert isinstance(node, Source)
    assert node.read_schema.names == ["k", "_offset"]


def test_other_sources_are_read_whole() -> None:
    node = ms.from_pandas(pd.DataFrame({TIME: pd.to_datetime(["2026-01-01"])}))._node

    assert isinstance(node, Source)
    assert node.read_schema.names == [TIME]
    assert not node.takes_batch_time


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda: kafka(schema={TIME: "timestamp[ms]"}), "has such a column itself"),
        (lambda: ms.from_pandas(pd.DataFrame({TIME: [1]}), event_time=TIME), "has such a column itself"),
        (lambda: ms.read_files("in.json", schema={TIME: "str"}, event_time=TIME), "has such a column itself"),
        (lambda: kafka(watermark="10s"), "watermark is that time itself"),
        (lambda: ms.from_pandas(pd.DataFrame({"n": [1]}), event_time=TIME, watermark="1s"), "that time itself"),
        (lambda: ms.read_files("in.json", schema={"n": "int64"}, event_time=TIME, watermark="1s"), "that time itself"),
        (lambda: kafka().with_watermark(TIME, "1s"), "source 'bids' has event_time='_processing_time'"),
        (lambda: kafka(schema={"ts": "timestamp[ms]"}).with_watermark("ts", "1s"), "Leave event_time= out"),
        (lambda: ms.from_pandas(pd.DataFrame({"n": [1]}))[[TIME]], f"no column '{TIME}'"),
        (lambda: ms.from_pandas(pd.DataFrame({"n": [1]}), event_time="_processing"), "no column '_processing'"),
    ],
)
def test_what_makes_no_sense_fails_when_it_is_written(write: Callable[[], object], says: str) -> None:
    with pytest.raises(ms.PlanError, match=says):
        write()


@given(batches=st.lists(st.text("abc", max_size=5), min_size=1, max_size=4))
@settings(deadline=None, max_examples=10)
def test_rows_of_one_batch_have_one_time_and_each_batch_a_later_one(batches: list[str]) -> None:
    found = letters(*batches).compute()

    times = found.groupby(TIME, sort=True)["k"].agg(lambda keys: "".join(keys))
    assert times.tolist() == ["".join(sorted(batch)) for batch in batches if batch]


@given(batches=st.lists(st.text("abc", max_size=5), min_size=1, max_size=4))
@settings(deadline=None, max_examples=10)
def test_the_end_of_the_input_closes_all_windows_and_no_row_is_late(batches: list[str]) -> None:
    counts = letters(*batches).groupby("k").window(ms.tumbling("1ms")).agg(n=("k", "size"))
    again = counts.groupby("k").window(EVER).agg(n=("n", "sum"))

    each, late, late_again, sums = ms.compute(counts, counts.late, again.late, again)

    whole = "".join(batches)
    assert dict(zip(sums["k"], sums["n"], strict=True)) == {k: whole.count(k) for k in set(whole)}
    assert each["n"].sum() == len(whole)
    assert late.empty
    assert late_again.empty
    assert TIME in late.columns


def test_a_sliding_window_takes_each_row_once_per_window() -> None:
    frame = letters("ab", "a", "", "b")

    found = frame.window(ms.sliding("20s", every="5s")).agg(n=("k", "size")).compute()

    assert found["n"].sum() == 4 * 4


def test_a_plan_that_reads_nothing_of_the_source_still_counts_its_rows() -> None:
    found = letters("ab", "c").select(TIME).window(EVER).size().compute()

    assert found["size"].tolist() == [3]


def test_the_time_may_be_renamed_and_used_as_any_column() -> None:
    frame = letters("ab", "c").rename(columns={TIME: "read_at"}).assign(year=ms.col("read_at").dt.year)

    found = frame.compute()

    assert frame.event_time == "read_at"
    assert (found["year"] >= 2026).all()
    assert found["read_at"].nunique() == 2


def test_two_sources_by_the_clock_can_be_read_as_one() -> None:
    both = ms.concat([letters("a", "b"), letters("cd", "", "e")])

    found = both.window(EVER).agg(n=("k", "size"), least=(TIME, "min"), last=(TIME, "max")).compute()

    assert found["n"].tolist() == [5]
    assert found["least"][0] < found["last"][0]


def test_a_source_by_the_clock_and_one_by_its_own_time_can_be_read_as_one() -> None:
    old = pd.DataFrame({"k": pd.array(["x"], dtype="str"), "ts": pd.to_datetime(["2026-01-01"]).as_unit("us")})
    timed = ms.from_pandas([old, old], event_time="ts")
    both = ms.concat([letters("a").rename(columns={TIME: "ts"}), timed])
    counts = both.groupby("k").window(ms.tumbling("1D")).size()

    found, late = ms.compute(counts, counts.late)

    # The second old row is not late although the first source was at the time of today: the least counts.
    assert found[["k", "size"]].to_dict("records") == [{"k": "x", "size": 2}, {"k": "a", "size": 1}]
    assert late.empty


def test_the_name_without_its_underscore_is_put_right(tmp_path: Path) -> None:
    with pytest.raises(ms.PlanError, match="Did you mean '_processing_time'"):
        ms.read_files(json_lines(tmp_path, {"n": 1}), schema={"n": "int64"}, event_time="processing_time")


def test_files_are_read_by_the_clock_and_bad_lines_dropped(tmp_path: Path) -> None:
    path = json_lines(tmp_path, {"n": 1}, "no json", {"n": 3})

    frame = ms.read_files(path, schema={"n": "int64"}, event_time=TIME, on_bad_record="drop")
    found = frame.compute()

    assert found["n"].tolist() == [1, 3]
    assert found[TIME].nunique() == 1


def test_the_schema_of_files_that_is_inferred_is_what_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = ms.read_files(json_lines(tmp_path, {"n": 1, "s": "x"}), event_time=TIME)

    printed = capsys.readouterr().out
    assert frame.columns.tolist() == ["n", "s", TIME]
    assert "'n': 'Int64'" in printed
    assert TIME not in printed
    assert frame.compute()["n"].tolist() == [1]


def test_the_schema_of_files_that_is_inferred_may_not_have_the_column(tmp_path: Path) -> None:
    with pytest.raises(ms.PlanError, match="leave it out of schema="):
        ms.read_files(json_lines(tmp_path, {TIME: "x"}), event_time=TIME)


def test_head_shows_the_time() -> None:
    found = letters("ab", "c").head(2)

    assert found["k"].tolist() == ["a", "b"]
    assert found[TIME].nunique() == 1


def test_a_plan_says_whose_time_it_is() -> None:
    text = letters("a").window(EVER).size().explain()

    assert f"event time {TIME} is that of its batch" in text
    assert "watermark: the time of each batch, also of one without rows; never idle" in text


@pytest.mark.broker
def test_records_tombstones_and_record_columns_have_the_time_of_their_batch(broker: Broker) -> None:
    topic = unique("clocked")
    broker.create_topic(topic, partitions=2)
    produce(broker, topic, [b'{"n": 1}', b"no json", b'{"n": 2}'], partition=0)
    produce(broker, topic, [b'{"n": 3}', None], partition=1)

    frame = ms.read_kafka(
        topic,
        bootstrap_servers=broker.bootstrap_servers,
        schema={"n": "int64"},
        event_time=TIME,
        end="latest",
        metadata=["_key", "_offset"],
        on_bad_record="drop",
    )
    found, counts = ms.compute(frame, frame.window(EVER).size())

    assert sorted(found["n"].dropna()) == [1, 2, 3]
    assert found["n"].isna().sum() == 1
    assert found.columns.tolist() == ["n", "_offset", "_key", TIME]
    assert found[TIME].nunique() == 1
    assert counts["size"].tolist() == [4]
