"""Topics that are not there, hold nothing, or hold records that are never delivered."""

from __future__ import annotations

from pathlib import Path

import pytest
from clicks import CLOSING, append, clicks, numbers, record, run, sums, sums_of, topic, until, whole
from confluent_kafka import Producer
from distributed import Client

import microstream as ms
from microstream.testing.kafka import Broker, consume_all, produce, unique

pytestmark = pytest.mark.broker

SUMS = {"user": "str", "total": "int64", "window_end": "timestamp[us]"}


def test_a_source_topic_that_does_not_exist_is_named_with_those_that_do(
    broker: Broker, client: Client, tmp_path: Path
) -> None:
    there, missing = topic(broker), unique("missing")

    with pytest.raises(ms.ConnectorError) as caught:
        run(clicks(broker, missing).to_null(name="none"), client, tmp_path / "ck", name="totals")

    assert caught.value.missing == (missing,)
    assert there in caught.value.topics
    for part in ("query totals", f"{broker.bootstrap_servers} has no topic {missing!r}", "Create it, or correct"):
        assert part in str(caught.value)
    assert not (tmp_path / "ck" / "job.json").exists()


def test_a_sink_topic_that_does_not_exist_is_told_before_anything_is_read(
    broker: Broker, client: Client, tmp_path: Path
) -> None:
    source, sink = topic(broker), unique("out")
    append(broker, source, range(5))
    copied = clicks(broker, source).to_kafka(sink)
    with pytest.raises(ms.ConnectorError, match=f"query {sink}: .* has no topic '{sink}'") as caught:
        run(copied, client, tmp_path / "ck")
    assert "Create it, or correct the name." in str(caught.value)
    assert whole(tmp_path / "ck").batch == -1

    broker.create_topic(sink)
    run(copied, client, tmp_path / "ck")

    assert numbers(broker, sink) == list(range(5))


def test_an_empty_topic_is_read_to_its_end_at_once(broker: Broker, client: Client) -> None:
    query = run(clicks(broker, topic(broker)).to_memory(name="rows"), client)

    assert query.status == "stopped"
    assert query.exception is None
    assert query.last_progress is None
    assert len(query.table()) == 0


def test_on_an_empty_topic_a_continuous_query_is_caught_up_and_waits_for_rows(broker: Broker, client: Client) -> None:
    source = topic(broker)
    query = ms.start(clicks(broker, source).to_memory(name="rows"), trigger=ms.continuously(), client=client)
    query.process_all_available()
    assert query.is_active
    assert query.last_progress is None

    append(broker, source, range(3))
    query.process_all_available()

    assert sorted(query.table()["n"]) == [0, 1, 2]
    query.stop()


def test_our_own_output_is_read_to_its_end_though_it_ends_with_an_aborted_transaction(
    broker: Broker, client: Client, tmp_path: Path
) -> None:
    source, middle = topic(broker), topic(broker, "sums")
    append(broker, source, [*range(20), CLOSING])
    run(sums(clicks(broker, source)).to_kafka(middle), client, tmp_path / "ck")
    abort(broker, middle, b"never committed")
    published = len(consume_all(broker, middle))
    again = ms.read_kafka(middle, bootstrap_servers=broker.bootstrap_servers, schema=SUMS, start="earliest")

    once = run(again.to_memory(name="once"), client)
    query = ms.start(again.to_memory(name="live"), trigger=ms.continuously(), client=client)
    query.process_all_available()

    assert published == sum(sums_of(range(20)).values())
    assert len(once.table()) == len(query.table()) == published
    query.stop()


def test_a_topic_of_nothing_but_an_aborted_transaction_is_read_to_its_end(broker: Broker, client: Client) -> None:
    source = topic(broker)
    abort(broker, source, record(1))

    query = run(clicks(broker, source).to_memory(name="rows"), client)

    assert len(query.table()) == 0


def test_a_compacted_topic_gives_the_rows_that_are_left(broker: Broker, client: Client, tmp_path: Path) -> None:
    compacted = {"cleanup.policy": "compact", "segment.ms": "50", "min.cleanable.dirty.ratio": "0.001"}
    source, sink = topic(broker, "compacted", **compacted), topic(broker, "out")
    produce(broker, source, [record(n) for n in range(40)], key=[f"k{n % 4}".encode() for n in range(40)])

    def newest_of_each_key_is_left() -> bool:
        # The active segment is never compacted: another record of k0 closes it.
        produce(broker, source, [record(40)], key=b"k0")
        return sum(stored.offset < 40 for stored in consume_all(broker, source)) == 3

    until(newest_of_each_key_is_left, f"{source} to be compacted")
    run(clicks(broker, source).to_kafka(sink), client, tmp_path / "ck")

    assert set(numbers(broker, sink)) == {37, 38, 39, 40}


def abort(broker: Broker, to: str, value: bytes) -> None:
    """Leave a transaction at the end of `to` that nobody may read."""
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "transactional.id": unique("abort")})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(to, value)
    assert producer.flush(30) == 0
    producer.abort_transaction(30)
