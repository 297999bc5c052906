"""Event time that is set in the plan: results, late rows and the ledger are those of a source that has it itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import dask.config
import hypothesis.strategies as st
import pandas as pd
import pytest
from hypothesis import given, settings

import microstream as ms
from microstream.errors import BadRecordError, PlanError, UserFunctionError
from microstream.testing import check_cuts
from microstream.testing.kafka import Broker, produce, unique

START = pd.Timestamp("2026-01-01")
SECONDS = st.integers(0, 300)


def events(seconds: list[int], keys: str = "ab") -> pd.DataFrame:
    times = [START + pd.Timedelta(seconds=s) for s in seconds]
    return pd.DataFrame(
        {
            "k": pd.array([keys[at % len(keys)] for at in range(len(seconds))], dtype="str"),
            "text": pd.array([str(time) for time in times], dtype="str"),
            "ts": pd.array(times, dtype="datetime64[us]"),
        }
    )


def sums(frame: ms.StreamFrame) -> ms.StreamFrame:
    return frame.groupby("k").window(ms.tumbling("1min")).agg(n=("k", "size")).named("sums")


def by_text(frame: ms.StreamFrame, delay: str) -> ms.StreamFrame:
    return frame.drop("ts").assign(ts=ms.col("text").astype("datetime64")).with_watermark("ts", delay)


@given(batches=st.lists(st.lists(SECONDS, max_size=4), min_size=1, max_size=4), delay_s=st.integers(0, 90))
@settings(deadline=None, max_examples=15)
def test_a_parsed_time_does_what_the_same_time_of_the_source_does(batches: list[list[int]], delay_s: int) -> None:
    data, delay = [events(seconds) for seconds in batches], f"{delay_s}s"
    own = sums(ms.from_pandas(data, event_time="ts", watermark=delay))
    parsed = sums(by_text(ms.from_pandas(data), delay))

    wanted, wanted_late = ms.compute(own, own.late)
    found, late = ms.compute(parsed, parsed.late)

    pd.testing.assert_frame_equal(found, wanted)
    pd.testing.assert_frame_equal(late[wanted_late.columns], wanted_late)


def test_the_result_does_not_depend_on_cuts() -> None:
    data = events([1, 20, 10, 70, 65, 130])

    check_cuts(lambda frame: sums(by_text(frame, "20s")), data)


def test_only_rows_that_pass_move_the_watermark() -> None:
    data = [events([200]).assign(k="x"), events([1]), events([250]), events([2])]
    frame = ms.from_pandas(data)
    before = sums(frame[ms.col("k") != "x"].with_watermark("ts", "0s"))
    after = sums(frame.with_watermark("ts", "0s")[ms.col("k") != "x"])

    assert before.late.compute()["text"].tolist() == ["2026-01-01 00:00:02"]
    assert after.late.compute()["text"].tolist() == ["2026-01-01 00:00:01", "2026-01-01 00:00:02"]


def test_a_time_behind_map_rows_explode_and_concat_knows_its_partition() -> None:
    data = [events([1, 70]), events([2])]
    texts = ms.from_pandas(data).map_rows(lambda row: [row, row])
    both = ms.concat([texts, ms.from_pandas(data)]).with_watermark("ts", "2min")

    found = sums(both).compute()

    assert both.event_time == "ts"
    assert found["n"].tolist() == [6, 3]


def test_the_column_is_never_null_and_can_be_renamed() -> None:
    frame = ms.from_pandas(events([1])).with_watermark("ts", "10s")

    assert not frame.schema.field("ts").nullable
    assert frame.rename(columns={"ts": "at"}).event_time == "at"
    assert frame[frame["k"] == "a"].compute()["k"].tolist() == ["a"]


def test_columns_bound_before_stay_bound() -> None:
    frame = ms.from_pandas(events([1]))

    assert len(frame.with_watermark("ts", "1s")[frame["k"] == "a"].compute()) == 1


def test_another_delay_may_be_set_for_the_time_of_the_source() -> None:
    frame = ms.from_pandas([events([100]), events([30])], event_time="ts").with_watermark("ts", "5min")

    assert sums(frame).late.compute().empty
    assert "event time ts up to 5min late" in frame.explain()


def test_a_null_time_names_its_row_and_what_to_do() -> None:
    data = [events([1]), events([2]).assign(ts=pd.NaT).astype({"ts": "datetime64[us]"})]
    frame = ms.from_pandas(data).with_watermark("ts", "1s")

    with pytest.raises(UserFunctionError, match="frames-0 offset 1: ValueError: event time 'ts' is null.*dropna"):
        frame.compute()
    assert len(ms.from_pandas(data).dropna(subset="ts").with_watermark("ts", "1s").compute()) == 1


def two_times(f: ms.StreamFrame) -> object:
    return sums(ms.concat([f.with_watermark("ts", "1s"), f.with_watermark("ts", "2s")])).compute()


def own_and_set(_: ms.StreamFrame) -> object:
    frame = ms.from_pandas(events([1]), event_time="ts")
    return ms.compute(sums(frame), sums(frame.with_watermark("ts", "1s")).named("other"))


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda f: f.with_watermark("nope", "1s"), "no column 'nope'"),
        (lambda f: f.with_watermark("k", "1s"), "not a time.*astype"),
        (lambda f: f.with_watermark("ts", "soon"), "not a duration"),
        (lambda f: f.with_watermark("ts", "1s").with_watermark("ts", "2s"), "another with_watermark before"),
        (lambda f: f.map_batches(lambda b: b).with_watermark("ts", "1s"), "behind map_batches.*map_rows"),
        (lambda f: sums(f.with_watermark("ts", "1s")).with_watermark("window_end", "1s"), "before the first aggregate"),
        (lambda f: sums(f.with_watermark("ts", "1s")).late.with_watermark("ts", "1s"), "before the first aggregate"),
        (lambda f: sums(f), "by with_watermark"),
        (two_times, "in one place and"),
        (own_and_set, "in one place and"),
    ],
)
def test_a_wrong_watermark_fails_when_it_is_written(write: Callable[[ms.StreamFrame], object], says: str) -> None:
    with pytest.raises(PlanError, match=says):
        write(ms.from_pandas(events([1])))


def record(second: int, **more: Any) -> bytes:
    return json.dumps({"k": "a", "meta": {"at": str(START + pd.Timedelta(seconds=second))}, **more}).encode()


def nested(broker: Broker, topic: str, **options: Any) -> ms.StreamFrame:
    frame = ms.read_kafka(
        topic,
        bootstrap_servers=broker.bootstrap_servers,
        schema={"k": "str", "meta": {"at": "str"}},
        start="earliest",
        **options,
    )
    return frame.assign(ts=ms.col("meta").struct.field("at").astype("datetime64"))


@pytest.mark.broker
def test_each_partition_has_its_own_event_time(broker: Broker) -> None:
    topic = unique("marks")
    broker.create_topic(topic, partitions=2)
    produce(broker, topic, [record(s) for s in range(0, 600, 20)], partition=0)
    produce(broker, topic, [record(s) for s in range(0, 60, 5)], partition=1)
    totals = sums(nested(broker, topic, end="latest", idle_timeout=None).with_watermark("ts", "0s"))

    with dask.config.set({"microstream.max_records": 4}):
        found, lost = ms.compute(totals, totals.late)

    # The first partition is minutes ahead of the second in every batch but the first.
    assert found["n"].tolist() == [15, *[3] * 9]
    assert lost.empty


@pytest.mark.broker
def test_a_time_far_ahead_of_the_clock_is_a_bad_record(broker: Broker) -> None:
    topic = unique("ahead")
    broker.create_topic(topic)
    produce(broker, topic, [record(1), record(9_999_999_999)])
    frame = nested(broker, topic, end="latest").with_watermark("ts", "0s")

    with pytest.raises(BadRecordError, match=f"{topic}-0 offset 1: event time ts = 23.*max_ahead"):
        frame.compute()
