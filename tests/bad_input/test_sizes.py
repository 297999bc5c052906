"""Records that are too large for one side or the other, and a broker that slows its producers down."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from clicks import run, topic
from distributed import Client

import microstream as ms
from microstream.testing.kafka import Broker, consume_all, produce, unique

pytestmark = pytest.mark.broker

SCHEMA = {"n": "int64", "text": "str"}
LARGE = 5_000_000
ROOM = {"max.message.bytes": str(2 * LARGE)}


def texts(broker: Broker, source: str, sizes: list[int]) -> None:
    """Records n = 0, 1, ... with texts of so many characters, that no compression makes small."""
    noise = random.Random(7)
    values = [json.dumps({"n": n, "text": noise.randbytes(size // 2).hex()}).encode() for n, size in enumerate(sizes)]
    produce(broker, source, values)


def read(broker: Broker, source: str, **options: Any) -> ms.StreamFrame:
    options = {"schema": SCHEMA, "start": "earliest"} | options
    return ms.read_kafka(source, bootstrap_servers=broker.bootstrap_servers, **options)


def lengths(broker: Broker, sink: str) -> list[tuple[int, int]]:
    """(n, length of the text) of all records of `sink`."""
    rows = [json.loads(stored.value or b"{}") for stored in consume_all(broker, sink)]
    return sorted((row["n"], len(row["text"])) for row in rows)


@pytest.fixture(scope="module")
def large(broker: Broker) -> str:
    """A topic with a record of 5 MB between two small ones."""
    source = topic(broker, "large", **ROOM)
    texts(broker, source, [10, LARGE, 10])
    return source


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_a_record_of_5_mb_is_read_and_written_where_the_topics_have_room(
    broker: Broker, client: Client, tmp_path: Path, large: str, delivery: Any
) -> None:
    sink = topic(broker, "out", **ROOM)

    run(read(broker, large).to_kafka(sink, delivery=delivery), client, tmp_path / "ck")

    assert lengths(broker, sink) == [(0, 10), (1, LARGE), (2, 10)]


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_a_row_that_the_target_topic_refuses_is_told_with_sink_key_and_size_and_nothing_is_lost(
    broker: Broker, client: Client, tmp_path: Path, large: str, delivery: Any
) -> None:
    sink = topic(broker, "out")
    copied = read(broker, large).to_kafka(sink, key="n", name="copy", delivery=delivery)

    with pytest.raises(ms.BadRecordError) as caught:
        run(copied, client, tmp_path / "ck", name="q")
    before = lengths(broker, sink)
    small = read(broker, large).filter(ms.col("text").str.len() < 1000)
    run(small.to_kafka(sink, key="n", name="copy", delivery=delivery), client, tmp_path / "ck", name="q")

    error = caught.value
    assert (error.sink, error.key) == ("copy", b"1")
    assert LARGE < error.size < LARGE + 100
    for part in (
        "query q, batch 0",
        "sink 'copy'",
        f"topic '{sink}'",
        "key b'1'",
        str(error.size),
        "max.message.bytes",
    ):
        assert part in str(error)
    assert before == []
    assert lengths(broker, sink) == [(0, 10), (2, 10)]


def test_a_producer_that_the_broker_slows_down_is_slower_and_right(
    broker: Broker, client: Client, tmp_path: Path
) -> None:
    source, sink, slow = topic(broker), topic(broker, "out"), unique("slow")
    texts(broker, source, [100_000] * 8)
    broker.throttle(slow, 200_000)

    run(read(broker, source).to_kafka(sink, config={"client.id": slow}), client, tmp_path / "ck", max_records=4)

    assert lengths(broker, sink) == [(n, 100_000) for n in range(8)]
