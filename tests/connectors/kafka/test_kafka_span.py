"""From which record to which a topic is read, through the public API."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import microstream as ms
from microstream.testing.kafka import Broker, consume_all, produce, unique

pytestmark = pytest.mark.broker

DAY = pd.Timestamp("2026-01-01")
SHARES = {"n": "int64", "x": "float64"}


def at(day: int) -> pd.Timestamp:
    return DAY + pd.Timedelta(days=day)


@pytest.fixture(scope="module")
def days(broker: Broker) -> str:
    """Record n has the record time of day n; even days in partition 0, odd ones in partition 1."""
    topic = unique("days")
    broker.create_topic(topic, partitions=2)
    for number in (0, 1):
        ns = range(number, 10, 2)
        append(broker, topic, ns, partition=number, timestamp=[int(at(n).timestamp() * 1000) for n in ns])
    return topic


def append(broker: Broker, topic: str, ns: Any, **options: Any) -> None:
    produce(broker, topic, [json.dumps({"n": n}).encode() for n in ns], **options)


def read(broker: Broker, topic: str, **options: Any) -> ms.StreamFrame:
    return ms.read_kafka(topic, bootstrap_servers=broker.bootstrap_servers, schema={"n": "int64"}, **options)


def computed(broker: Broker, topic: str, **options: Any) -> list[int]:
    return sorted(read(broker, topic, **options).compute()["n"])


@pytest.mark.parametrize(
    ("start", "end", "gives"),
    [
        (None, "latest", range(10)),
        ("earliest", "latest", range(10)),
        ("2026-01-04", "latest", range(3, 10)),
        (at(3) + pd.Timedelta("1ms"), "latest", range(4, 10)),
        (at(3).tz_localize("UTC").tz_convert("Asia/Tokyo"), at(7).to_pydatetime(), range(3, 7)),
        ("earliest", "2026-01-01T00:00", ()),
        ("earliest", "2026-01-03T00:00:00.001Z", range(3)),
        ("earliest", "-1s", range(10)),
        ("2027-01-01", "latest", ()),
        ("-100000D", "latest", range(10)),
        ("latest", "latest", ()),
        ("latest", "2026-01-05", ()),
    ],
)
def test_records_are_those_from_the_start_up_to_before_the_end_by_record_time(
    broker: Broker, days: str, start: Any, end: Any, gives: Any
) -> None:
    assert computed(broker, days, start=start, end=end) == list(gives)


def test_a_duration_counts_back_from_the_start_of_the_query(broker: Broker) -> None:
    topic, now_ms = unique("ago"), time.time_ns() // 1_000_000
    broker.create_topic(topic)
    append(broker, topic, range(5), timestamp=[now_ms - hours * 3_600_000 for hours in (50, 30, 20, 10, 1)])

    assert computed(broker, topic, start="-1D", end="latest") == [2, 3, 4]
    assert computed(broker, topic, start="-40h", end="-5h") == [1, 2, 3]


def test_with_an_end_in_the_future_a_query_runs_until_each_partition_has_reached_it(broker: Broker) -> None:
    topic = unique("future")
    broker.create_topic(topic, partitions=2)
    append(broker, topic, [0], partition=0)
    append(broker, topic, [1], partition=1)
    end = pd.Timestamp.now("UTC") + pd.Timedelta("30min")
    after_ms = end.value // 1_000_000 + 1
    query = read(broker, topic, start="earliest", end=end).to_memory().start(trigger=ms.continuously(), lanes=1)
    query.process_all_available()
    before = sorted(query.table()["n"])

    append(broker, topic, [2, 99, 3], partition=0, timestamp=[0, after_ms, 0])
    append(broker, topic, [4, 98], partition=1, timestamp=[0, after_ms])
    assert query.await_termination(60)

    assert before == [0, 1]
    assert sorted(query.table()["n"]) == [0, 1, 2, 4]


def test_a_checkpoint_goes_on_where_it_is_whatever_start_says(broker: Broker, tmp_path: Path) -> None:
    source, sink = unique("source"), unique("sink")
    broker.create_topic(source)
    broker.create_topic(sink)
    for part, start in (([0, 1], "earliest"), ([2, 3], "latest"), ([4], "2000-01-01")):
        append(broker, source, part)
        rows = read(broker, source, start=start).to_kafka(sink)
        assert rows.start(checkpoint=str(tmp_path), trigger=ms.available_now(), lanes=1).await_termination(60)

    assert [json.loads(stored.value or b"")["n"] for stored in consume_all(broker, sink)] == [0, 1, 2, 3, 4]


def test_an_end_before_what_the_checkpoint_has_read_is_a_plan_error(broker: Broker, days: str, tmp_path: Path) -> None:
    def start(**options: Any) -> None:
        sink = read(broker, days, start="earliest", **options).to_null()
        sink.start(checkpoint=str(tmp_path), trigger=ms.available_now(), lanes=1).await_termination(60)

    start()

    with pytest.raises(ms.PlanError, match="the checkpoint has read up to 5. Give the source a later end"):
        start(end="2026-01-05")


def test_a_record_that_a_function_cannot_bear_is_passed_with_the_skip_that_its_error_shows(
    broker: Broker, days: str
) -> None:
    def share(row: dict[str, Any]) -> dict[str, Any]:
        return {"n": row["n"], "x": 1 / (row["n"] - 6)}

    def shares(**options: Any) -> list[int]:
        return sorted(read(broker, days, end="latest", **options).map_rows(share, schema=SHARES).compute()["n"])

    with pytest.raises(ms.UserFunctionError) as caught:
        shares()
    assert str(caught.value).endswith(f"or pass the record with skip=[('{days}-0', 3)].")

    assert shares(skip=[(f"{days}-0", 3)]) == [0, 1, 2, 3, 4, 5, 7, 8, 9]
