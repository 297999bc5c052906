"""Records that cannot be rows: the query stops and shows the record, or drops and counts it, as it was told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from clicks import SCHEMA, append, clicks, numbers, record, run, topic, whole
from distributed import Client

import microstream as ms
from microstream.testing.kafka import Broker, produce

pytestmark = pytest.mark.broker

BAD: dict[str, tuple[bytes, str]] = {
    "no JSON": (b'{"user": "u1", oops', "not one JSON object"),
    "another type": (record(5, n="five"), "n is 'five', not int64"),
    "a missing column": (record(5, n=...), "n is null or missing"),
    "a null event time": (record(5, at=None), "at is null or missing"),
    "a time that is none": (record(5, at="yesterday"), "at is 'yesterday'"),
    "the year 9999": (record(5, at="9999-12-31T00:00:00"), "later than max_ahead allows"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_record_stops_the_query_and_is_shown_with_its_place(
    broker: Broker, client: Client, tmp_path: Path, kind: str
) -> None:
    bad, reason = BAD[kind]
    source, sink = topic(broker), topic(broker, "out")
    produce(broker, source, [record(0), record(1), bad, record(3)])

    with pytest.raises(ms.BadRecordError) as caught:
        run(clicks(broker, source).to_kafka(sink), client, tmp_path / "ck", name="copy")

    error = caught.value
    assert (error.partition, error.offset, error.record) == (f"{source}-0", 2, bad)
    assert reason in error.reason
    for part in ("query copy, batch 0", f"{source}-0 offset 2", reason, repr(bad)[:40], "on_bad_record='drop'"):
        assert part in str(error)
    assert numbers(broker, sink) == []
    assert whole(tmp_path / "ck").batch == -1


def test_dropped_records_are_counted_and_every_good_row_is_there(
    broker: Broker, client: Client, tmp_path: Path
) -> None:
    source, sink = topic(broker), topic(broker, "out")
    mixed = [piece for n, (bad, _) in enumerate(BAD.values()) for piece in (record(n), bad)]
    produce(broker, source, [*mixed, record(len(BAD))])

    query = run(clicks(broker, source, on_bad_record="drop").to_kafka(sink), client, tmp_path / "ck")

    assert query.last_progress is not None
    assert query.last_progress["numBadRecords"] == len(BAD)
    assert query.last_progress["numInputRows"] == len(BAD) + 1
    assert numbers(broker, sink) == list(range(len(BAD) + 1))


def test_after_skipping_the_record_that_stopped_it_the_query_goes_on_where_it_was(
    broker: Broker, client: Client, tmp_path: Path
) -> None:
    source, sink = topic(broker), topic(broker, "out")
    append(broker, source, range(4))
    run(clicks(broker, source).to_kafka(sink), client, tmp_path / "ck")
    produce(broker, source, [record(4), b"junk", record(5)])
    with pytest.raises(ms.BadRecordError) as caught:
        run(clicks(broker, source).to_kafka(sink), client, tmp_path / "ck")

    passed = [(caught.value.partition, caught.value.offset)]
    query = run(clicks(broker, source, skip=passed).to_kafka(sink), client, tmp_path / "ck")

    assert numbers(broker, sink) == list(range(6))
    assert query.last_progress is not None
    assert query.last_progress["numBadRecords"] == 1


def test_one_row_of_the_year_9999_does_not_make_the_others_late(broker: Broker, client: Client) -> None:
    source = topic(broker)
    produce(broker, source, [record(0), record(1, at="9999-12-31T00:00:00"), record(2)])
    append(broker, source, [3, 4])

    counted = clicks(broker, source, on_bad_record="drop").groupby("user").window(ms.tumbling("1s")).size()
    query = run(counted.to_memory(name="counted"), client)

    assert len(query.table()) == 2  # seconds 0 and 2: the watermark is second 3
    assert query.last_progress is not None
    assert query.last_progress["stateOperators"][0]["numRowsDroppedByWatermark"] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda frame: frame[["usr", "n"]], id="select"),
        pytest.param(lambda frame: frame.assign(double=ms.col("usr") * 2), id="assign"),
        pytest.param(lambda frame: frame.filter(ms.col("usr") == "u1"), id="filter"),
        pytest.param(lambda frame: frame.groupby("usr"), id="groupby"),
        pytest.param(lambda frame: frame.groupby("user").window(ms.tumbling("1s")).agg(s=("usr", "sum")), id="agg"),
        pytest.param(lambda frame: frame.to_kafka("out", key="usr"), id="key"),
    ],
)
def test_a_plan_with_a_missing_column_fails_when_it_is_written_and_names_those_there_are(wrong: Any) -> None:
    frame = ms.read_kafka("clicks", bootstrap_servers="nowhere:9092", schema=SCHEMA, event_time="at")

    with pytest.raises(ms.PlanError) as caught:
        wrong(frame)

    assert "no column 'usr'. Did you mean 'user'? Columns here: user, n, at." in str(caught.value)
