"""Each format goes through a real broker and comes back as it was."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Producer
from distributed import Client

import microstream as ms
from microstream.connectors.kafka import KafkaSink
from microstream.connectors.protocol import Outgoing
from microstream.errors import BadRecordError
from microstream.formats.choice import REGISTERED
from microstream.formats.registry import registry_of
from microstream.testing.kafka import Broker, consume_all, produce, unique

pytestmark = pytest.mark.broker

MOCK = "mock://formats"
REGISTRY = registry_of("test", "avro", MOCK)
AT = datetime.datetime(2026, 1, 2, 3, 4, 5, 6)
COLUMNS = {"id": "int64", "name": "str", "at": "timestamp[us]", "tags": "list[str]"}
ROWS = [
    {"id": 1, "name": "é", "at": AT, "tags": ["a", None]},
    {"id": 2, "name": None, "at": AT + datetime.timedelta(seconds=1), "tags": None},
    {"id": 3, "name": "", "at": AT + datetime.timedelta(seconds=2), "tags": []},
]
OF_FORMAT: dict[str, tuple[dict[str, str] | None, list[dict[str, Any]]]] = {
    "json": (COLUMNS, ROWS),
    "arrow": (COLUMNS, ROWS),
    "avro": (COLUMNS, ROWS),
    "protobuf": (COLUMNS, [{**row, "tags": ["a"] if row["tags"] else []} for row in ROWS]),
    "text": (None, [{"value": "é"}, {"value": ""}]),
    "raw": (None, [{"value": b"\xff"}, {"value": b""}]),
}


@pytest.mark.parametrize("format", OF_FORMAT)
def test_what_is_written_to_a_topic_is_read_from_it(broker: Broker, format: Any) -> None:
    declared, rows = OF_FORMAT[format]
    topic = unique(f"format-{format}")
    broker.create_topic(topic)
    registry = REGISTRY if format in REGISTERED else None
    frame = reading(broker, topic, format, declared)
    sink = KafkaSink(topic=topic, bootstrap_servers=broker.bootstrap_servers, format=format, registry=registry)
    write(sink, frame.schema, rows)

    found = pa.Table.from_pandas(frame.compute(), frame.schema, preserve_index=False)

    assert sorted(found.to_pylist(), key=str) == sorted(rows, key=str)


@pytest.mark.parametrize("format", REGISTERED)
def test_columns_come_from_the_registry_where_none_are_declared(broker: Broker, format: Any) -> None:
    topic = unique(f"registered-{format}")
    broker.create_topic(topic)
    declared = reading(broker, topic, format, COLUMNS)
    sink = KafkaSink(topic=topic, bootstrap_servers=broker.bootstrap_servers, format=format, registry=REGISTRY)
    write(sink, declared.schema, OF_FORMAT[format][1])

    frame = reading(broker, topic, format, None)

    assert [str(kind) for kind in frame.dtypes] == [str(kind) for kind in declared.dtypes]
    assert frame.compute()["id"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("format", "reason"),
    [
        ("text", "not UTF-8"),
        ("arrow", "not an Arrow stream"),
        ("avro", "not in the wire"),
        ("protobuf", "not in the wire"),
    ],
)
def test_a_bad_record_is_named_in_every_format(broker: Broker, format: Any, reason: str) -> None:
    topic = unique(f"bad-{format}")
    broker.create_topic(topic)
    produce(broker, topic, [None, b"\xff\xff"])

    with pytest.raises(BadRecordError, match=f"{topic}-0 offset 1: {reason}") as caught:
        reading(broker, topic, format, OF_FORMAT[format][0]).compute()

    assert (caught.value.partition, caught.value.offset) == (f"{topic}-0", 1)


def test_rows_without_a_key_share_a_record_which_has_the_latest_time_of_theirs(broker: Broker) -> None:
    topic = unique("packed")
    broker.create_topic(topic)
    frame = reading(broker, topic, "arrow", COLUMNS)
    packed = KafkaSink(topic=topic, bootstrap_servers=broker.bootstrap_servers, format="arrow")
    keyed = KafkaSink(topic=topic, bootstrap_servers=broker.bootstrap_servers, format="arrow", key="id")

    write(packed, frame.schema, ROWS, event_time="at")
    write(keyed, frame.schema, ROWS, event_time="at")

    stored = consume_all(broker, topic)
    at_ms = int(AT.replace(tzinfo=datetime.UTC).timestamp()) * 1000
    assert [(each.key, each.timestamp) for each in stored] == [
        (None, at_ms + 2000),
        (b"1", at_ms),
        (b"2", at_ms + 1000),
        (b"3", at_ms + 2000),
    ]
    assert sorted(frame.compute()["id"]) == [1, 1, 2, 2, 3, 3]


def test_a_query_turns_records_of_one_format_into_those_of_another_with_key_and_headers(
    broker: Broker, tmp_path: Path
) -> None:
    source, target = unique("query-json"), unique("query-avro")
    for topic in (source, target):
        broker.create_topic(topic)
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    for number in range(3):
        producer.produce(source, b'{"id":%d}' % number, b"k%d" % number, headers=[("trace", b"%d" % number)])
    assert producer.flush(30) == 0
    frame = ms.read_kafka(
        source, bootstrap_servers=broker.bootstrap_servers, schema={"id": "int64"}, metadata=["_key", "_headers"]
    )

    with Client(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None, set_as_default=False
    ) as client:
        query = frame.to_kafka(target, format="avro", schema_registry=MOCK).start(
            checkpoint=str(tmp_path), trigger=ms.available_now(), client=client
        )
        query.await_termination(60)
    found = ms.read_kafka(
        target,
        bootstrap_servers=broker.bootstrap_servers,
        format="avro",
        schema_registry=MOCK,
        metadata=["_key", "_headers"],
        end="latest",
    ).compute()

    rows = [(row["id"], row["_key"], list(row["_headers"])) for row in found.to_dict("records")]
    assert sorted(rows, key=str) == [(n, b"k%d" % n, [{"key": "trace", "value": b"%d" % n}]) for n in range(3)]


def reading(broker: Broker, topic: str, format: Any, schema: dict[str, str] | None) -> ms.StreamFrame:
    return ms.read_kafka(
        topic,
        bootstrap_servers=broker.bootstrap_servers,
        format=format,
        schema_registry=MOCK if format in REGISTERED else None,
        schema=schema,
        end="latest",
    )


def write(sink: KafkaSink, schema: pa.Schema, rows: list[dict[str, Any]], event_time: str | None = None) -> None:
    sink.check(schema)
    writer = sink.open_writer(job=unique("job"), sink="out", lane=0, schema=schema)
    encoded = writer.encode(pa.Table.from_pylist(rows, schema=schema), event_time=event_time)
    chunks = writer.chunks(encoded)
    writer.publish(Outgoing(job="job", sink="out", lane=0, batch=0, committed=0, rows=encoded, chunks=chunks))
    writer.close()
