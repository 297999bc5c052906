"""The handle of a running query, as a program uses it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dask
import orjson
import pandas as pd
import pytest
from confluent_kafka import Producer

import microstream as ms
from microstream.testing.inprocess import InProcessBroker

PARTITIONS = 4


class Clicks:
    """A topic of clicks, one second of event time apart."""

    def __init__(self, broker: InProcessBroker) -> None:
        self._broker = broker
        self._producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "log_level": 2})
        self._sent = 0
        broker.create_topic("clicks")

    def send(self, per_partition: int) -> None:
        for _ in range(per_partition):
            for partition in range(PARTITIONS):
                row = {"page": "a", "ts": self._sent * 1000}
                self._producer.produce("clicks", orjson.dumps(row), partition=partition)
            self._sent += 1
        self._producer.flush(10)

    def counts(self) -> ms.StreamFrame:
        clicks = ms.read_kafka(
            "clicks",
            bootstrap_servers=self._broker.bootstrap_servers,
            schema={"page": "str", "ts": "epoch[ms]"},
            event_time="ts",
            watermark="0s",
            start="earliest",
        )
        return clicks.groupby("page").window(ms.tumbling("10s")).size().named("per-page")


@pytest.fixture
def clicks() -> Iterator[Clicks]:
    with InProcessBroker() as broker, dask.config.set({"microstream.workers": 1}):
        yield Clicks(broker)


def test_a_handle_tells_how_its_query_stands(clicks: Clicks) -> None:
    clicks.send(15)
    query = clicks.counts().to_memory().start(name="told", trigger=ms.continuously())
    try:
        query.process_all_available()
        caught_up = query.lag()
        assert query in ms.queries()

        clicks.send(10)
        query.process_all_available()
        table = query.table()
        shown = query._repr_mimebundle_()
    finally:
        query.stop()

    assert list(caught_up["partition"]) == [f"clicks-{n}" for n in range(PARTITIONS)]
    assert (caught_up["position"] == 15).all()
    assert (caught_up["end"] == 15).all()
    assert (caught_up["lag"] == 0).all()
    assert (caught_up["max_event_time"] == pd.Timestamp("1970-01-01 00:00:14")).all()
    assert list(table["size"]) == [40, 40]
    assert "stage 1: one task per lane" in query.explain()
    assert "told" in shown["text/html"]
    assert "<td>40</td>" in shown["text/html"]
    assert "query &#x27;told&#x27;" not in shown["text/html"]
    assert query not in ms.queries()
    assert not query.is_active
    ended = query.lag()
    assert (ended["position"] == 25).all()
    assert ended["lag"].isna().all()
    assert [event["batchId"] for event in query.recent_progress] == list(range(len(query.recent_progress)))


def test_state_and_checkpoints_are_seen_from_the_query_and_from_outside(clicks: Clicks, tmp_path: Path) -> None:
    clicks.send(15)
    query = clicks.counts().to_memory().start(name="seen", checkpoint=str(tmp_path), trigger=ms.continuously())
    try:
        query.process_all_available()
        inside, outside = query.state("per-page"), ms.open_checkpoint(str(tmp_path)).state("per-page")
        listed = query.checkpoints()
    finally:
        query.stop()

    pd.testing.assert_frame_equal(inside, outside)
    assert inside.to_dict("records") == [
        {
            "page": "a",
            "window_start": pd.Timestamp("1970-01-01 00:00:10"),
            "window_end": pd.Timestamp("1970-01-01 00:00:20"),
            "size": 20,
        }
    ]
    assert listed["rows"].sum() == 60
    assert ms.open_checkpoint(str(tmp_path)).batches()["kind"].iloc[-1] == "stop"
    pd.testing.assert_frame_equal(query.state("per-page"), outside)


def test_a_query_without_a_checkpoint_has_none_to_look_at_once_it_ended() -> None:
    frame = pd.DataFrame({"page": ["a"], "ts": pd.to_datetime(["2026-01-01"])})
    counts = ms.from_pandas(frame, event_time="ts", watermark="0s").groupby("page").window(ms.tumbling("1h")).size()
    query = counts.to_memory().start(name="brief", trigger=ms.continuously())
    query.await_termination()

    with pytest.raises(ms.PlanError, match="give checkpoint="):
        query.checkpoints()


def test_starting_a_name_again_stops_the_query_that_had_it(clicks: Clicks) -> None:
    clicks.send(5)
    first = clicks.counts().to_memory().start(name="cell", trigger=ms.continuously())
    second = clicks.counts().to_memory().start(name="cell", trigger=ms.continuously())
    try:
        still = ms.queries()
    finally:
        second.stop()

    assert (first.is_active, first.status, first.exception) == (False, "stopped", None)
    assert still == (second,)
