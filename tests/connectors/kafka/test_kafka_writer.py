"""Exactly once, whatever happens to the broker, the producer or the driver between two calls."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from harness import KafkaSinkHarness

import microstream as ms
from microstream.connectors.kafka import KafkaSink
from microstream.connectors.kafka.client import Cluster
from microstream.connectors.kafka.outbox import RecordRules, TopicLimits, chunk_bounds
from microstream.connectors.kafka.writer import TransactionalWriter
from microstream.connectors.protocol import Confirmed, MarkerAheadError, Outgoing
from microstream.errors import BadRecordError, CheckpointError, ConnectorError, PlanError, UnreachableError
from microstream.formats.avro_encode import AvroEncoder
from microstream.formats.json_encode import JsonEncoder
from microstream.formats.registry import registry_of
from microstream.plan.dtypes import to_table
from microstream.testing.connectors import SCHEMA, OutputContract, open_writer, publish
from microstream.testing.kafka import Broker, consume_all, unique

pytestmark = pytest.mark.broker


class Disturbed:
    """A producer whose n-th commit runs `around` with the real commit."""

    def __init__(self, producer: Any, at: int, around: Callable[[Callable[[], None]], None]) -> None:
        self._producer, self._left, self._around = producer, at, around

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def commit_transaction(self, timeout: float) -> None:
        self._left -= 1
        if self._left == 0:
            self._around(lambda: self._producer.commit_transaction(timeout))
        else:
            self._producer.commit_transaction(timeout)


@dataclass(frozen=True, slots=True, kw_only=True)
class DisturbedCluster(Cluster):
    """A cluster whose first producer is disturbed at its `at`-th commit."""

    at: int
    around: Callable[[Callable[[], None]], None]
    made: list[Any]

    def producer(self, settings: Mapping[str, Any], fixed: Mapping[str, Any]) -> Any:
        real = Cluster.producer(self, settings, fixed)
        self.made.append(real)
        return Disturbed(real, self.at, self.around) if len(self.made) == 1 else real


def disturbed_writer(
    harness: KafkaSinkHarness, at: int, around: Callable[[Callable[[], None]], None], wait_s: float = 30
) -> TransactionalWriter:
    cluster = DisturbedCluster(bootstrap_servers=harness.broker.bootstrap_servers, at=at, around=around, made=[])
    rules = RecordRules(cluster=cluster, topic=harness.topic, key=(), encoder=JsonEncoder())
    return TransactionalWriter(rules, job="job", sink="out", lane=0, wait_s=wait_s)


def lose_request(_: Callable[[], None]) -> None:
    raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


def lose_reply(commit: Callable[[], None]) -> None:
    commit()
    raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


@pytest.mark.parametrize("fault", [lose_request, lose_reply])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_batch_goes_on_after_the_chunk_that_is_known(
    broker: Broker, fault: Callable[[Callable[[], None]], None], at: int
) -> None:
    harness = KafkaSinkHarness(broker)
    writer = disturbed_writer(harness, at, fault)
    with pytest.raises(UnreachableError, match="not confirmed"):
        publish(writer, 0, [1, 2, 3, 4, 5, 6], chunks=(2, 4, 6))
    there = at if fault is lose_reply else at - 1

    answer = publish(writer, 0, [1, 2, 3, 4, 5, 6], chunks=(2, 4, 6))
    writer.close()

    assert harness.published() == [1, 2, 3, 4, 5, 6]
    assert answer == Confirmed(rows=6 - 2 * there, skipped=there == 3)


def test_a_broker_killed_during_a_commit_leaves_the_batch_there_once(mortal_broker: Broker) -> None:
    harness = KafkaSinkHarness(mortal_broker)

    def kill_meanwhile(commit: Callable[[], None]) -> None:
        killer = Thread(target=mortal_broker.kill)
        killer.start()
        try:
            commit()
        finally:
            killer.join()

    writer = disturbed_writer(harness, 1, kill_meanwhile, wait_s=2)
    with suppress(UnreachableError):
        publish(writer, 0, [1, 2, 3])
    mortal_broker.start()

    heir = open_writer(harness)
    publish(heir, 0, [1, 2, 3])
    publish(heir, 1, [4])
    heir.close()
    writer.close()

    assert harness.published() == [1, 2, 3, 4]


def test_a_zombie_in_the_middle_of_a_transaction_is_fenced(broker: Broker) -> None:
    harness = KafkaSinkHarness(broker)
    heir = open_writer(harness)

    def wake_late(commit: Callable[[], None]) -> None:
        publish(heir, 0, [1, 2])
        commit()

    zombie = disturbed_writer(harness, 1, wake_late)
    with pytest.raises(ConnectorError):
        publish(zombie, 0, [1, 2])

    answer = publish(zombie, 0, [1, 2])
    zombie.close()
    heir.close()

    assert answer.skipped
    assert harness.published() == [1, 2]


def test_a_marker_ahead_of_the_checkpoint_says_both_batches(broker: Broker) -> None:
    harness = KafkaSinkHarness(broker)
    publish(open_writer(harness), 7, [7])

    with pytest.raises(MarkerAheadError) as caught:
        publish(open_writer(harness), 5, [5], committed=6)

    assert (caught.value.marker, caught.value.committed) == (7, 6)


def test_a_batch_cut_into_other_chunks_than_before_is_refused(broker: Broker) -> None:
    harness = KafkaSinkHarness(broker)
    publish(open_writer(harness), 0, [1, 2], chunks=(1, 2))

    with pytest.raises(CheckpointError, match="2 chunks, the outbox holds 1"):
        publish(open_writer(harness), 0, [1, 2], chunks=(2,))


def test_records_carry_key_and_event_time(broker: Broker) -> None:
    harness = KafkaSinkHarness(broker)
    schema = pa.schema([("user", pa.int64()), ("at", pa.timestamp("us"))])
    moment = datetime.datetime(2020, 1, 2, 3, 4, 5, 678_901)
    table = pa.table({"user": [7, None], "at": [moment, None]}, schema=schema)
    writer = harness.connector(key="user").open_writer(job="job", sink="out", lane=0, schema=schema)

    rows = writer.encode(table, event_time="at")
    writer.publish(outgoing(rows))
    writer.close()

    found = {each.key: each for each in consume_all(broker, harness.topic)}
    assert json.loads(found[b"7"].value or b"") == {"user": 7, "at": "2020-01-02T03:04:05.678901Z"}
    assert found[b"7"].timestamp == 1_577_934_245_678
    assert json.loads(found[None].value or b"") == {"user": None, "at": None}


def test_equal_keys_go_to_one_partition(broker: Broker) -> None:
    harness = KafkaSinkHarness(broker)
    writer = harness.connector(key="n").open_writer(job="job", sink="out", lane=0, schema=SCHEMA)

    publish(writer, 0, [1, 2, 3, 4, 5, 6, 7, 8] * 3)
    writer.close()

    places = {(each.key, each.partition) for each in consume_all(broker, harness.topic)}
    assert len(places) == 8
    assert len({partition for _, partition in places}) == 2


def test_an_event_time_that_the_broker_would_refuse_does_not_stop_the_sink(broker: Broker) -> None:
    harness = KafkaSinkHarness(broker)
    schema = pa.schema([("at", pa.timestamp("us"))])
    times = [datetime.datetime(2100, 1, 1), datetime.datetime(1960, 1, 1)]
    writer = harness.connector().open_writer(job="job", sink="out", lane=0, schema=schema)

    writer.publish(outgoing(writer.encode(pa.table({"at": times}, schema=schema), event_time="at")))
    writer.close()

    found = consume_all(broker, harness.topic)
    assert len(found) == 2
    assert all(1 <= each.timestamp < 4_102_444_800_000 for each in found)


@pytest.mark.parametrize("limit", ["client", "topic"])
def test_a_record_too_large_for_the_topic_is_found_before_it_is_stored(broker: Broker, limit: str) -> None:
    harness = KafkaSinkHarness(broker)
    if limit == "topic":
        harness.topic += "-small"
        broker.create_topic(harness.topic, config={"max.message.bytes": "2000"})
    size = 1_900 if limit == "topic" else 999_900
    config = () if limit == "topic" else (("message.max.bytes", 1_000_000),)
    schema = pa.schema([("s", pa.large_string())])
    writer = harness.connector(config=config).open_writer(job="job", sink="out", lane=0, schema=schema)
    fits = writer.encode(pa.table({"s": ["x" * (size - 200)]}, schema=schema), event_time=None)

    with pytest.raises(BadRecordError, match=r"sink 'out': .* with key None takes .* Row 1: "):
        writer.encode(pa.table({"s": ["x", "x" * size]}, schema=schema), event_time=None)
    writer.publish(outgoing(fits))
    writer.close()

    assert len(consume_all(broker, harness.topic)) == 1


def test_at_least_once_produces_what_it_encodes_and_leaves_nothing_to_publish(broker: Broker) -> None:
    harness = KafkaSinkHarness(broker)
    sink = harness.connector(delivery="at_least_once")
    writer = sink.open_writer(job="job", sink="out", lane=0, schema=SCHEMA)

    left = [writer.encode(pa.table({"n": numbers}, schema=SCHEMA), event_time=None) for numbers in ([1, 2], [3], [])]
    answer = writer.publish(outgoing(left[0]))
    writer.close()

    assert sink.guarantee.startswith("at least once")
    assert [rows.num_rows for rows in left] == [0, 0, 0]
    assert (answer.rows, answer.skipped) == (0, False)
    assert harness.published() == [1, 2, 3]


def test_what_an_exactly_once_sink_left_is_published_at_least_once(broker: Broker) -> None:
    harness = KafkaSinkHarness(broker)
    before = harness.connector().open_writer(job="job", sink="out", lane=0, schema=SCHEMA)
    rows = before.encode(pa.table({"n": [1, 2]}, schema=SCHEMA), event_time=None)
    writer = harness.connector(delivery="at_least_once").open_writer(job="job", sink="out", lane=0, schema=SCHEMA)

    answers = [writer.publish(outgoing(rows)) for _ in range(2)]
    writer.close()

    assert [answer.rows for answer in answers] == [2, 2]
    assert harness.published() == [1, 1, 2, 2]


class EagerHarness(KafkaSinkHarness):
    def connector(self, **options: Any) -> KafkaSink:
        return super().connector(**{"delivery": "at_least_once", **options})


class TestAtLeastOnce(OutputContract):
    @pytest.fixture
    def harness(self, broker: Broker) -> EagerHarness:
        return EagerHarness(broker)


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_a_cluster_that_is_away_is_an_error_that_may_be_retried(delivery: Any) -> None:
    sink = KafkaSink(topic="any", bootstrap_servers="127.0.0.1:1", delivery=delivery, wait_us=300_000)
    cluster = sink.cluster
    rules = RecordRules(cluster=cluster, topic="any", key=(), encoder=JsonEncoder())
    rows = rules.encode(pa.table({"n": [1]}, schema=SCHEMA), event_time=None, limits=TopicLimits())
    writer = sink.open_writer(job="job", sink="out", lane=0, schema=SCHEMA)

    with pytest.raises(UnreachableError):
        writer.publish(outgoing(rows))
    writer.close()


def test_a_registry_that_is_away_is_told_with_the_sink_that_needs_it() -> None:
    registry = registry_of("test", "avro", {"url": "http://127.0.0.1:1", "max.retries": 0})
    rules = RecordRules(
        cluster=Cluster(bootstrap_servers="127.0.0.1:1"),
        topic="any",
        key=(),
        encoder=AvroEncoder(SCHEMA, registry, "any-value"),
        sink="totals",
    )

    with pytest.raises(UnreachableError, match="sink 'totals': schema registry http://127.0.0.1:1"):
        rules.encode(pa.table({"n": [1]}, schema=SCHEMA), event_time=None, limits=TopicLimits())


def test_rows_are_cut_by_bytes_and_the_last_bound_is_the_end() -> None:
    sizes = [40 << 20, 10, 30 << 20, 70 << 20, 5]
    values = pa.array([bytes(size) for size in sizes], pa.large_binary())

    bounds = chunk_bounds(pa.table({"value": values}))

    assert bounds == (2, 3, 4, 5)
    assert chunk_bounds(pa.table({"value": values.slice(0, 0)})) == (0,)


def outgoing(rows: pa.Table) -> Outgoing:
    return Outgoing(job="job", sink="out", lane=0, batch=0, committed=0, rows=rows, chunks=(rows.num_rows,))


def test_key_and_headers_of_a_record_come_from_columns_that_its_value_does_not_have(broker: Broker) -> None:
    source, target = unique("from"), unique("to")
    for topic in (source, target):
        broker.create_topic(topic)
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    own_headers: list[Any] = [("trace", b"\xff"), ("none", None)]
    producer.produce(source, b'{"n":1}', b"k", timestamp=7_000, headers=own_headers)
    producer.produce(source, b'{"n":2}', timestamp=8_000)
    assert producer.flush(30) == 0
    sink = KafkaSink(topic=target, bootstrap_servers=broker.bootstrap_servers)

    read = read_with_metadata(broker, source)
    sink.check(read.schema)
    writer = sink.open_writer(job="job", sink="out", lane=0, schema=read.schema)
    table = to_table(read.compute(), read.schema, "test")
    writer.publish(outgoing(writer.encode(table, event_time="_timestamp")))
    writer.close()

    stored = consume_all(broker, target)
    assert [json.loads(each.value or b"") for each in stored] == [
        {"n": 1, "_timestamp": "1970-01-01T00:00:07.000000Z"},
        {"n": 2, "_timestamp": "1970-01-01T00:00:08.000000Z"},
    ]
    assert [(each.key, each.timestamp) for each in stored] == [(b"k", 7_000), (None, 8_000)]
    assert [list(headers) for headers in read_with_metadata(broker, target).compute()["_headers"]] == [
        [{"key": name, "value": value} for name, value in own_headers],
        [],
    ]


def read_with_metadata(broker: Broker, topic: str) -> ms.StreamFrame:
    return ms.read_kafka(
        topic,
        bootstrap_servers=broker.bootstrap_servers,
        schema={"n": "int64"},
        metadata=["_timestamp", "_key", "_headers"],
        event_time="_timestamp",
        end="latest",
    )


def test_a_column_called_headers_must_hold_headers() -> None:
    sink = KafkaSink(topic="t", bootstrap_servers="x:1")

    with pytest.raises(PlanError, match="'_headers' has type"):
        sink.check(pa.schema([pa.field("n", pa.int64()), pa.field("_headers", pa.large_string())]))
    with pytest.raises(PlanError, match="no columns"):
        sink.check(pa.schema([pa.field("_key", pa.large_binary())]))
