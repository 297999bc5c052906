"""Brokers that are away: the query waits, says so in its status and in the log, and goes on by itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest
from clicks import CLOSING, append, clicks, numbers, published_sums, sums, sums_of, topic, until, whole
from distributed import Client

import microstream as ms
from microstream.testing.kafka import Broker

pytestmark = pytest.mark.broker


@pytest.fixture
def away(mortal_broker: Broker) -> Iterator[Broker]:
    """A broker that the test may stop; it runs again afterwards."""
    yield mortal_broker
    try:
        mortal_broker.resume()
    except ms.ConnectorError:  # It is stopped.
        mortal_broker.start()


def waits(query: ms.StreamingQuery) -> bool:
    return query.status.startswith("waiting: ")


def test_a_broker_that_is_down_at_start_is_waited_for(
    away: Broker, client: Client, tmp_path: Path, log_records: list[logging.LogRecord]
) -> None:
    source, sink = topic(away), topic(away, "out")
    append(away, source, range(5))
    away.stop()

    query = ms.start(
        clicks(away, source).to_kafka(sink),
        checkpoint=str(tmp_path / "ck"),
        trigger=ms.continuously(),
        client=client,
    )
    at_start = query.status
    away.start()
    query.process_all_available()

    assert at_start.startswith(f"waiting: topic '{source}' cannot be reached at {away.bootstrap_servers}: ")
    assert at_start.endswith("Is the cluster up and reachable from this machine?")
    assert query.status == "running"
    assert numbers(away, sink) == list(range(5))
    query.stop()
    told = [record.getMessage() for record in log_records if record.name == "microstream.driver"]
    assert any("cannot be reached" in line and "Trying again for 300 s." in line for line in told)
    assert any(line.startswith("going on after") for line in told)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_broker_that_goes_away_while_a_query_runs_is_waited_for_and_nothing_is_lost(
    away: Broker, client: Client, tmp_path: Path, how: str
) -> None:
    source, sink = topic(away), topic(away, "out")
    append(away, source, range(10))
    query = ms.start(
        sums(clicks(away, source)).to_kafka(sink),
        checkpoint=str(tmp_path / "ck"),
        trigger=ms.continuously(),
        client=client,
    )
    query.process_all_available()

    getattr(away, how)()
    until(lambda: waits(query), "the query to notice")
    waiting = query.status
    away.start()
    append(away, source, [*range(10, 20), CLOSING])
    query.process_all_available()

    assert away.bootstrap_servers in waiting
    assert query.is_active
    assert query.status == "running"
    assert published_sums(away, sink) == sums_of(range(20))
    query.stop()
    whole(tmp_path / "ck")


def test_waiting_is_bounded_by_source_wait(client: Client, tmp_path: Path) -> None:
    nowhere = ms.read_kafka("clicks", bootstrap_servers="127.0.0.1:1", schema={"n": "int64"})

    with dask.config.set({"microstream.source_wait": "1s"}), pytest.raises(ms.UnreachableError) as caught:
        query = ms.start(nowhere.to_null(name="none"), name="bounded", checkpoint=str(tmp_path / "ck"), client=client)
        query.await_termination(60)

    assert "query bounded: topic 'clicks' cannot be reached at 127.0.0.1:1" in str(caught.value)
    assert not (tmp_path / "ck" / "job.json").exists()


def test_a_query_that_waits_for_its_broker_can_be_stopped(client: Client, tmp_path: Path) -> None:
    nowhere = ms.read_kafka("clicks", bootstrap_servers="127.0.0.1:1", schema={"n": "int64"})
    query = ms.start(nowhere.to_null(name="none"), checkpoint=str(tmp_path / "ck"), client=client)
    assert waits(query)

    query.stop()

    assert query.status == "stopped"
    assert query.exception is None
