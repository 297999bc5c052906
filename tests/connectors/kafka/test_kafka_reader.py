"""What only Kafka does: compaction, brokers that go away, partitions far ahead of the others."""

from __future__ import annotations

import json
import time
from threading import Thread

import pytest
from harness import KafkaSourceHarness

from microstream.connectors.kafka import KafkaSource
from microstream.connectors.protocol import Read
from microstream.errors import BadRecordError, UnreachableError
from microstream.testing.connectors import BATCH_TIME_US, numbers, open_reader, ranges_of, read_all, read_range
from microstream.testing.kafka import Broker, consume_all, produce, unique, wait_until

pytestmark = pytest.mark.broker


def test_a_compacted_topic_is_read_to_its_end(broker: Broker) -> None:
    topic = unique("compacted")
    config = {"cleanup.policy": "compact", "segment.ms": "1000", "min.cleanable.dirty.ratio": "0.001"}
    broker.create_topic(topic, config=config)
    produce(broker, topic, [b'{"n":%d}' % n for n in range(50)], key=b"same", timestamp=1_000)
    produce(broker, topic, [b'{"n":50}'], key=b"other", timestamp=time.time_ns() // 1_000_000)
    wait_until(lambda: len(consume_all(broker, topic)) < 51, "compaction")
    left = consume_all(broker, topic)
    reader = open_reader(Source(broker, topic))

    before, gap, rest = (read_range(reader, f"{topic}-0", *cut) for cut in [(0, 10), (10, 40), (40, 51)])
    reader.close()

    found = [offset for read in (before, gap, rest) for offset in read.offsets.tolist()]
    assert found == [each.offset for each in left]


def test_a_reader_waits_for_a_broker_that_comes_back(mortal_broker: Broker) -> None:
    harness = KafkaSourceHarness(mortal_broker)
    first, _ = harness.partitions
    harness.append(first, range(100))
    reader = open_reader(harness)
    reads = [read_range(reader, first, 0, 10)]

    mortal_broker.stop()
    rest = Thread(target=lambda: reads.append(read_range(reader, first, 50, 100)))
    rest.start()
    mortal_broker.start()
    rest.join(60)
    reader.close()

    assert [numbers(read) for read in reads] == [list(range(10)), list(range(50, 100))]


def test_a_broker_that_stays_away_is_an_error_that_may_be_retried() -> None:
    source = KafkaSource(topics=("any",), bootstrap_servers="127.0.0.1:1", wait_us=200_000)
    reader = open_reader(Fixed(source))

    with pytest.raises(UnreachableError, match="any-0 \\(to 5\\)"):
        read_range(reader, "any-0", 0, 5)
    reader.close()


def test_a_partition_that_was_far_ahead_is_read_on_without_a_gap(broker: Broker) -> None:
    harness = KafkaSourceHarness(broker)
    first, second = harness.partitions
    large = [json.dumps({"n": n, "filler": "x" * 50_000}).encode() for n in range(700)]
    produce(broker, harness.topic, large, partition=0)
    harness.append(second, range(20_000))
    reader = open_reader(harness)
    starts = {first: (0, 1), second: (0, 1)}
    reads: list[Read] = [reader.read(ranges_of(starts), batch_time_us=BATCH_TIME_US)]

    reads.append(read_range(reader, second, 1, 20_000))
    reads.append(read_range(reader, first, 1, 700))
    reader.close()

    assert [n for read in reads for n in numbers(read)] == [0, 0, *range(1, 20_000), *range(1, 700)]


def test_several_topics_are_kept_apart(broker: Broker) -> None:
    one, other = KafkaSourceHarness(broker), KafkaSourceHarness(broker)
    one.append(one.partitions[0], [1, 2])
    other.append(other.partitions[0], [10, 20, 30])
    reader = open_reader(one)

    cuts = {other.partitions[0]: (0, 3), one.partitions[0]: (0, 2)}
    read = reader.read(ranges_of(cuts), batch_time_us=BATCH_TIME_US)
    reader.close()

    assert numbers(read) == [10, 20, 30, 1, 2]


def test_a_record_can_be_skipped_by_its_coordinates(broker: Broker) -> None:
    harness = KafkaSourceHarness(broker)
    first, _ = harness.partitions
    harness.append(first, [1])
    harness.append_bad(first)
    with pytest.raises(BadRecordError, match=r"n is 'one', not int64.*skip="):
        read_all(harness, (first,))

    source = harness.connector(skip=((first, 1),))
    read = read_range(open_reader(Fixed(source)), first, 0, 2)

    assert numbers(read) == [1]
    assert read.counts[0].bad == 1


class Fixed:
    """A harness that knows only its connector."""

    def __init__(self, source: KafkaSource) -> None:
        self.source = source

    def connector(self, **_: str) -> KafkaSource:
        return self.source


class Source(Fixed):
    """One topic that exists."""

    def __init__(self, broker: Broker, topic: str) -> None:
        super().__init__(KafkaSource(topics=(topic,), bootstrap_servers=broker.bootstrap_servers))
