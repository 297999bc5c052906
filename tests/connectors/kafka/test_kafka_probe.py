"""What the driver asks of Kafka."""

from __future__ import annotations

import pytest
from harness import KafkaSourceHarness

from microstream.connectors.kafka import KafkaSink, KafkaSource
from microstream.errors import ConnectorError, PlanError
from microstream.testing.kafka import Broker, produce, unique

pytestmark = pytest.mark.broker


def test_a_missing_topic_is_named_with_those_that_exist(broker: Broker) -> None:
    harness = KafkaSourceHarness(broker)
    missing = unique("missing")
    source = KafkaSource(topics=(harness.topic, missing), bootstrap_servers=broker.bootstrap_servers)
    sink = KafkaSink(topic=missing, bootstrap_servers=broker.bootstrap_servers)

    with pytest.raises(ConnectorError, match=missing) as of_source:
        source.open_probe().bounds()
    with pytest.raises(ConnectorError, match=missing) as of_sink:
        sink.open_probe().check()

    assert of_source.value.missing == of_sink.value.missing == (missing,)
    assert harness.topic in of_source.value.topics


def test_a_topic_that_was_created_again_has_another_identity(broker: Broker) -> None:
    harness = KafkaSourceHarness(broker)
    probe = harness.connector().open_probe()
    before, again = probe.identity(), probe.identity()

    broker.delete_topic(harness.topic)
    broker.create_topic(harness.topic, partitions=2)
    after = probe.identity()

    assert before == again
    assert before[harness.topic] != after[harness.topic]


def test_new_partitions_are_seen(broker: Broker) -> None:
    topic = unique("growing")
    broker.create_topic(topic, partitions=1)
    probe = KafkaSource(topics=(topic,), bootstrap_servers=broker.bootstrap_servers).open_probe()
    before = set(probe.bounds())

    broker.add_partitions(topic, 3)
    after = set(probe.bounds())

    assert (before, after) == ({f"{topic}-0"}, {f"{topic}-{number}" for number in range(3)})


def test_offsets_are_found_by_record_time(broker: Broker) -> None:
    harness = KafkaSourceHarness(broker)
    produce(broker, harness.topic, [b"{}"] * 3, timestamp=[1_000, 2_000, 3_000])
    first, second = harness.partitions
    probe = harness.connector().open_probe()

    found = [probe.offsets_at(time_us, [first, second]) for time_us in (0, 2_000_000, 2_000_001, 9_000_000)]

    assert [each[first] for each in found] == [0, 1, 2, None]
    assert [each[second] for each in found] == [None] * 4


def test_a_finite_source_ends_where_it_ended_when_it_was_opened(broker: Broker) -> None:
    harness = KafkaSourceHarness(broker)
    first, second = harness.partitions
    harness.append(first, [1, 2])
    probe = harness.connector(end="latest").open_probe()
    before = probe.bounds()

    harness.append(first, [3])
    after = probe.bounds()

    assert before == after
    assert {name: (each.end, each.finished) for name, each in after.items()} == {first: (2, True), second: (0, True)}


def test_what_is_there_now_is_read_from_the_beginning() -> None:
    topic = {"topics": ("t",), "bootstrap_servers": "any:9092"}

    assert KafkaSource(**topic, end="latest").start == "earliest"
    assert KafkaSource(**topic, end="latest", start="latest").start == "latest"
    assert KafkaSource(**topic, end="2999-01-01").start is None
    assert KafkaSource(**topic).start is None


def test_settings_that_would_break_the_protocol_are_refused() -> None:
    with pytest.raises(PlanError, match=r"isolation\.level.*never read"):
        KafkaSource(topics=("t",), bootstrap_servers="any:9092", config=(("isolation.level", "read_uncommitted"),))
    with pytest.raises(PlanError, match="transactional"):
        KafkaSink(topic="t", bootstrap_servers="any:9092", config=(("transactional.id", "mine"),))
