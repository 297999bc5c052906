"""Bad records that are kept: in a topic of their own, as they were, each exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from clicks import SCHEMA, append, clicks, numbers, record, run, topic, until
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from distributed import Client

import microstream as ms
from microstream.testing.kafka import Broker, consume_all, produce, unique

needs_broker = pytest.mark.broker

KEPT: dict[str, Any] = {"on_bad_record": "dead_letter"}


def letters(broker: Broker, of: str) -> Iterator[Message]:
    """All committed records of a topic of one partition, with headers."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": unique("letters")})
    consumer.assign([TopicPartition(of, 0, 0)])
    for _ in consume_all(broker, of):
        message = consumer.poll(30)
        assert message is not None
        yield message
    consumer.close()


@needs_broker
def test_a_bad_record_is_kept_as_it_was_with_the_reason_and_its_place(
    broker: Broker, client: Client, tmp_path: Path
) -> None:
    source, sink, dead = topic(broker), topic(broker, "out"), topic(broker, "dead")
    own = [("trace", b"\x01"), ("none", None)]
    produce(broker, source, [record(0)])
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    producer.produce(source, b"\xffjunk", b"key", timestamp=1_700_000_000_123, headers=own)
    assert producer.flush(30) == 0
    produce(broker, source, [record(2)])

    query = run(clicks(broker, source, dead_letter=dead, name="web", **KEPT).to_kafka(sink), client, tmp_path / "ck")

    [letter] = letters(broker, dead)
    assert (letter.value(), letter.key(), letter.timestamp()[1]) == (b"\xffjunk", b"key", 1_700_000_000_123)
    headers = letter.headers()
    assert headers is not None
    assert headers[:2] == own
    said = {name.removeprefix("__microstream."): (text or b"").decode() for name, text in headers[2:]}
    assert "JSON" in said.pop("error")
    assert said == {"topic": source, "partition": "0", "offset": "1", "source": "web"}
    assert numbers(broker, sink) == [0, 2]
    assert query.last_progress is not None
    assert query.last_progress["numBadRecords"] == 1


@needs_broker
def test_dead_letters_are_there_once_however_often_a_batch_is_tried_again(
    broker: Broker, client: Client, tmp_path: Path
) -> None:
    source, sink, dead = topic(broker), topic(broker, "out"), topic(broker, "dead")
    frame = clicks(broker, source, dead_letter=dead, **KEPT)
    copied = frame.filter(refuse_13).to_kafka(sink)
    produce(broker, source, [record(0), b"bad 1", record(2)])
    run(copied, client, tmp_path / "ck")
    produce(broker, source, [b"bad 3", record(13), b"bad 5"])

    for _ in range(2):
        with pytest.raises(ms.UserFunctionError):
            run(copied, client, tmp_path / "ck")
    before = [stored.value for stored in consume_all(broker, dead)]
    run(frame.to_kafka(sink), client, tmp_path / "ck")

    assert before == [b"bad 1"]
    assert [stored.value for stored in consume_all(broker, dead)] == [b"bad 1", b"bad 3", b"bad 5"]
    assert numbers(broker, sink) == [0, 2, 13]


def refuse_13(frame: pd.DataFrame) -> Any:
    if 13 in set(frame["n"]):
        raise ValueError("thirteen")
    return frame["n"] >= 0


@needs_broker
def test_a_batch_of_nothing_but_bad_records_of_several_lanes_is_kept_in_order(
    broker: Broker, client: Client, tmp_path: Path
) -> None:
    source, dead, sink = unique("clicks"), topic(broker, "dead"), topic(broker, "out")
    broker.create_topic(source, partitions=3)
    for number in range(3):
        produce(broker, source, [f"{number}-{n}".encode() for n in range(5)], partition=number)
    query = ms.start(
        clicks(broker, source, dead_letter=dead, **KEPT).to_kafka(sink),
        checkpoint=str(tmp_path / "ck"),
        trigger=ms.continuously(),
        client=client,
        lanes=2,
    )

    until(lambda: len(consume_all(broker, dead)) == 15, "dead letters")
    query.stop()

    found = [(stored.value or b"").decode() for stored in consume_all(broker, dead)]
    for number in range(3):
        assert [text for text in found if text[0] == str(number)] == [f"{number}-{n}" for n in range(5)]


@needs_broker
def test_a_dead_letter_topic_that_does_not_exist_is_told_before_anything_is_read(
    broker: Broker, client: Client, tmp_path: Path
) -> None:
    source, missing = topic(broker), unique("missing")
    append(broker, source, range(3))

    with pytest.raises(ms.ConnectorError, match=f"has no topic '{missing}'"):
        run(clicks(broker, source, dead_letter=missing, **KEPT).to_null(), client, tmp_path / "ck")


@needs_broker
def test_compute_passes_bad_records_over_and_keeps_nothing(broker: Broker) -> None:
    source, dead = topic(broker), topic(broker, "dead")
    produce(broker, source, [record(0), b"junk", record(2)])

    found = clicks(broker, source, end="latest", dead_letter=dead, **KEPT).compute()

    assert list(found["n"]) == [0, 2]
    assert consume_all(broker, dead) == []


def test_a_query_that_keeps_dead_letters_needs_a_checkpoint_and_explains_where_they_go() -> None:
    frame = ms.read_kafka(
        "clicks", bootstrap_servers="nowhere:9092", schema=SCHEMA, dead_letter="dead", on_bad_record="dead_letter"
    )

    with pytest.raises(ms.PlanError, match="'clicks-dead-letters' outlives this process"):
        frame.to_memory().start()
    assert "-> sink clicks-dead-letters: kafka dead raw, exactly once" in frame.to_null().explain()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"on_bad_record": "dead_letter"}, "dead_letter='bad-bids'"),
        ({"dead_letter": "dead"}, "on_bad_record='dead_letter'"),
        ({"on_bad_record": "dead_letter", "dead_letter": "clicks"}, "its own dead letters"),
        ({"on_bad_record": "keep"}, "'dead_letter'"),
    ],
)
def test_a_dead_letter_topic_that_cannot_be_meant_is_refused_when_written(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ms.PlanError, match=says):
        ms.read_kafka("clicks", bootstrap_servers="nowhere:9092", schema=SCHEMA, **wrong)
