"""Topics that change under a query: they grow, lose what was not read yet, or are others than they were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from clicks import SCHEMA, append, clicks, numbers, record, run, topic, until, whole
from distributed import Client

import microstream as ms
from microstream.testing.kafka import Broker, produce

pytestmark = pytest.mark.broker


@pytest.fixture
def live(broker: Broker, client: Client, tmp_path: Path) -> Iterator[tuple[str, str, ms.StreamingQuery]]:
    """A source of one partition with clicks 0 to 4, a sink, and the query between them that has copied them."""
    source, sink = topic(broker), topic(broker, "out")
    append(broker, source, range(5))
    query = ms.start(
        clicks(broker, source).to_kafka(sink),
        checkpoint=str(tmp_path / "ck"),
        trigger=ms.continuously(),
        client=client,
    )
    query.process_all_available()
    yield source, sink, query
    if query.is_active:
        query.stop()


def test_partitions_that_appear_while_a_query_runs_are_read_from_their_first_record(
    broker: Broker, live: tuple[str, str, ms.StreamingQuery], tmp_path: Path
) -> None:
    source, sink, query = live

    broker.add_partitions(source, 3)
    for number in (1, 2):
        produce(broker, source, [record(10 * number + n) for n in range(5)], partition=number)
    append(broker, source, [5])
    until(lambda: len(numbers(broker, sink)) == 16, "the rows of the new partitions")
    query.stop()

    assert numbers(broker, sink) == [*range(6), *range(10, 15), *range(20, 25)]
    [ledger] = whole(tmp_path / "ck").sources
    assert [(line.partition, line.next_offset) for line in ledger.partitions] == [
        (f"{source}-0", 6),
        (f"{source}-1", 5),
        (f"{source}-2", 5),
    ]


def test_partitions_that_appear_while_a_query_is_stopped_are_read_from_their_first_record(
    broker: Broker, client: Client, tmp_path: Path
) -> None:
    source, sink = topic(broker), topic(broker, "out")
    append(broker, source, range(3))
    copied = clicks(broker, source, start="latest").to_kafka(sink)
    run(copied, client, tmp_path / "ck")
    broker.add_partitions(source, 2)
    produce(broker, source, [record(7), record(8)], partition=1)

    run(copied, client, tmp_path / "ck")

    assert numbers(broker, sink) == [7, 8]


def test_where_retention_overtook_the_checkpoint_the_query_stops_or_goes_on_as_it_was_told(
    broker: Broker, client: Client, tmp_path: Path
) -> None:
    source, sink = topic(broker), topic(broker, "out")
    append(broker, source, range(5))
    run(clicks(broker, source).to_kafka(sink), client, tmp_path / "ck")
    append(broker, source, range(5, 15))
    broker.delete_records(source, 0, before=8)

    with pytest.raises(ms.OffsetExpiredError) as caught:
        run(clicks(broker, source).to_kafka(sink), client, tmp_path / "ck", name="copy")
    before = numbers(broker, sink)
    run(clicks(broker, source, on_data_loss="skip").to_kafka(sink), client, tmp_path / "ck")

    error = caught.value
    assert (error.partition, error.wanted, error.earliest) == (f"{source}-0", 5, 8)
    for part in ("query copy", "3 records are lost", 'on_data_loss="skip"', "raise retention.ms"):
        assert part in str(error)
    assert before == list(range(5))
    assert numbers(broker, sink) == [*range(5), *range(8, 15)]


@dataclass(frozen=True)
class Gate:
    """A step that says when it is reached, and then lets rows through once it is open."""

    folder: Path

    def __call__(self, batch: pd.DataFrame) -> pd.DataFrame:
        (self.folder / "reached").touch()
        until((self.folder / "open").exists, "the gate to be opened")
        return batch

    def overtake(self, broker: Broker, source: str) -> None:
        """Append records 5 to 14 and delete those before 8, while a batch with the first 5 stands at the gate."""
        until((self.folder / "reached").exists, "the first batch to reach the gate")
        append(broker, source, range(5, 15))
        broker.delete_records(source, 0, before=8)
        (self.folder / "open").touch()


@pytest.mark.parametrize("told", ["fail", "skip"])
def test_where_retention_overtakes_a_query_that_runs_it_stops_or_goes_on_as_it_was_told(
    broker: Broker, client: Client, tmp_path: Path, told: str
) -> None:
    source, sink, gate = topic(broker), topic(broker, "out"), Gate(tmp_path)
    append(broker, source, range(5))

    def start(on_data_loss: str) -> ms.StreamingQuery:
        rows = clicks(broker, source, on_data_loss=on_data_loss).map_batches(gate, schema=SCHEMA)
        where = {"checkpoint": str(tmp_path / "ck"), "client": client, "name": "copy"}
        return ms.start(rows.to_kafka(sink), trigger=ms.continuously(), **where)

    query = start(told)
    gate.overtake(broker, source)
    error = finish(query)
    if error is not None:
        assert told == "fail"
        assert (error.partition, error.wanted, error.earliest) == (f"{source}-0", 5, 8)
        for part in ("query copy", f"{source}-0 offset 5", "3 records are lost", 'on_data_loss="skip"'):
            assert part in str(error)
        assert not set(numbers(broker, sink)) - set(range(5))
        assert finish(start("skip")) is None

    # A worker that reads ahead may have had the records before they were deleted: then none is lost.
    assert numbers(broker, sink) in ([*range(5), *range(8, 15)], [*range(15)])


def finish(query: ms.StreamingQuery) -> ms.OffsetExpiredError | None:
    """Stop `query` once it has read all there is; or the error that ended it before."""
    try:
        query.process_all_available()
        query.stop()
    except ms.OffsetExpiredError as error:
        return error
    return None


def test_a_topic_that_was_created_again_while_the_query_was_stopped_is_refused_though_it_has_the_offsets(
    broker: Broker, client: Client, tmp_path: Path
) -> None:
    source, sink = topic(broker), topic(broker, "out")
    append(broker, source, range(3))
    copied = clicks(broker, source).to_kafka(sink)
    run(copied, client, tmp_path / "ck")
    broker.delete_topic(source)
    broker.create_topic(source)
    append(broker, source, range(100, 110))

    with pytest.raises(ms.ConnectorError, match=f"topic {source} was deleted and created again .* new checkpoint"):
        run(copied, client, tmp_path / "ck")

    assert numbers(broker, sink) == [0, 1, 2]


def test_a_topic_that_is_deleted_while_it_is_read_ends_the_query_also_if_it_is_created_again(
    broker: Broker, live: tuple[str, str, ms.StreamingQuery]
) -> None:
    source, sink, query = live

    broker.delete_topic(source)
    broker.create_topic(source)
    with pytest.raises(ms.ConnectorError, match=f"has no topic '{source}'|created again|not in the source") as caught:
        query.await_termination(60)

    assert not isinstance(caught.value, ms.UnreachableError)
    assert numbers(broker, sink) == [0, 1, 2, 3, 4]
