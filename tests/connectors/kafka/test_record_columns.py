"""What records carry beside their value reaches the frame, from a real broker."""

from __future__ import annotations

import datetime

import pytest
from confluent_kafka import Producer

import microstream as ms
from microstream.errors import PlanError
from microstream.testing.kafka import Broker, unique

SCHEMA = {"n": "int64"}
EPOCH = datetime.datetime(1970, 1, 1)


@pytest.mark.broker
def test_a_frame_has_the_columns_of_records_that_were_asked_for(broker: Broker) -> None:
    topic = unique("carried-1")
    broker.create_topic(topic, partitions=2)
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    producer.produce(topic, b'{"n":1}', b"k", partition=1, timestamp=1_000, headers=[("h", b"\xff"), ("h", None)])
    producer.produce(topic, None, b"gone", partition=1, timestamp=3_000)
    producer.produce(topic, b'{"n":2}', partition=0, timestamp=2_000)
    assert producer.flush(30) == 0

    frame = ms.read_kafka(
        topic,
        bootstrap_servers=broker.bootstrap_servers,
        schema=SCHEMA,
        metadata=True,
        event_time="_timestamp",
        end="latest",
    )
    rows = frame.compute().to_dict("records")

    assert [row["_timestamp"].second for row in rows] == [1, 2, 3]
    assert [row["_topic"] for row in rows] == [topic] * 3
    assert [(row["_partition"], row["_offset"]) for row in rows] == [(1, 0), (0, 0), (1, 1)]
    assert [row["_key"] if isinstance(row["_key"], bytes) else None for row in rows] == [b"k", None, b"gone"]
    assert [list(row["_headers"]) for row in rows] == [
        [{"key": "h", "value": b"\xff"}, {"key": "h", "value": None}],
        [],
        [],
    ]
    assert frame.compute()["n"].tolist()[:2] == [1, 2]
    assert frame.compute()["n"].isna().tolist() == [False, False, True]


@pytest.mark.broker
def test_tombstones_are_rows_even_if_nobody_looks_at_the_key(broker: Broker) -> None:
    topic = unique("carried-2")
    broker.create_topic(topic)
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    for value in (b'{"n":1}', None, b'{"n":2}'):
        producer.produce(topic, value, b"k", timestamp=5_000)
    assert producer.flush(30) == 0

    def totals(**more: object) -> dict[str, int]:
        frame = ms.read_kafka(
            topic,
            bootstrap_servers=broker.bootstrap_servers,
            schema=SCHEMA,
            event_time="_timestamp",
            end="latest",
            **more,  # type: ignore[arg-type]
        )
        [found] = (
            frame.window(ms.tumbling("1min")).agg(rows=("n", "size"), n=("n", "count")).compute().to_dict("records")
        )
        return {name: found[name] for name in ("rows", "n")}

    assert totals() == {"rows": 2, "n": 2}
    assert totals(metadata=["_key"]) == {"rows": 3, "n": 2}


def test_columns_come_after_those_of_the_value_and_have_one_order() -> None:
    frame = ms.read_kafka("t", bootstrap_servers="x:1", schema=SCHEMA, metadata=["_offset", "_topic"])

    assert list(frame.columns) == ["n", "_topic", "_offset"]
    assert [str(kind) for kind in frame.dtypes] == ["int64", "str", "int64"]


def test_where_tombstones_are_rows_every_column_may_be_null() -> None:
    frame = ms.read_kafka("t", bootstrap_servers="x:1", schema=SCHEMA, metadata=["_key"])

    assert str(frame.dtypes["n"]) == "Int64"


def test_the_records_time_as_event_time_need_not_be_asked_for() -> None:
    frame = ms.read_kafka("t", bootstrap_servers="x:1", schema=SCHEMA, event_time="_timestamp")

    assert (list(frame.columns), frame.event_time) == (["n", "_timestamp"], "_timestamp")


def test_a_column_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(PlanError, match="'_ofset'.*Did you mean '_offset'"):
        ms.read_kafka("t", bootstrap_servers="x:1", schema=SCHEMA, metadata=["_ofset"])
    with pytest.raises(PlanError, match="'_key' is both"):
        ms.read_kafka("t", bootstrap_servers="x:1", schema={"_key": "str"}, metadata=["_key"])
