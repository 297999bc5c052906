"""The contract suites' view of a real broker."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import Producer

from microstream.connectors.kafka import KafkaSink, KafkaSource
from microstream.testing.kafka import Broker, consume_all, produce, unique


class KafkaSourceHarness:
    """A topic with two partitions."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.topic = unique("source")
        broker.create_topic(self.topic, partitions=2)

    @property
    def partitions(self) -> tuple[str, str]:
        return f"{self.topic}-0", f"{self.topic}-1"

    def connector(self, **options: Any) -> KafkaSource:
        return KafkaSource(topics=(self.topic,), bootstrap_servers=self.broker.bootstrap_servers, **options)

    def append(self, partition: str, values: Sequence[int | None]) -> None:
        produce(self.broker, self.topic, [record(n) for n in values], partition=number_of(partition))

    def append_bad(self, partition: str) -> None:
        produce(self.broker, self.topic, [b'{"n": "one"}'], partition=number_of(partition))

    def append_aborted(self, partition: str, values: Sequence[int]) -> None:
        begin(self.broker, self.topic, number_of(partition), values).abort_transaction(30)

    def append_open(self, partition: str, values: Sequence[int]) -> Callable[[], None]:
        producer = begin(self.broker, self.topic, number_of(partition), values)
        return lambda: producer.commit_transaction(30)

    def expire(self, partition: str, before: int) -> None:
        self.broker.delete_records(self.topic, number_of(partition), before)


class KafkaSinkHarness:
    """A topic with two partitions."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.topic = unique("sink")
        broker.create_topic(self.topic, partitions=2)

    def connector(self, **options: Any) -> KafkaSink:
        return KafkaSink(topic=self.topic, bootstrap_servers=self.broker.bootstrap_servers, **options)

    def published(self) -> list[int]:
        return sorted(json.loads(each.value or b"{}")["n"] for each in consume_all(self.broker, self.topic))


def record(n: int | None) -> bytes | None:
    return None if n is None else json.dumps({"n": n}).encode()


def number_of(partition: str) -> int:
    return int(partition.rpartition("-")[2])


def begin(broker: Broker, topic: str, number: int, values: Sequence[int]) -> Producer:
    """A producer whose transaction is open, with `values` acknowledged by the broker."""
    producer = Producer(
        {"bootstrap.servers": broker.bootstrap_servers, "transactional.id": unique("test"), "linger.ms": 0}
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    for n in values:
        producer.produce(topic, record(n), partition=number)
    assert producer.flush(30) == 0
    return producer
