"""Schema registries that are missing, away, or not those of the topic."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from clicks import run, topic
from distributed import Client

import microstream as ms
from microstream.testing.kafka import Broker, consume_all, produce

pytestmark = pytest.mark.broker

SCHEMA = {"n": "int64"}
NOWHERE = {"url": "http://127.0.0.1:1", "max.retries": 0}
WRITTEN = b"\0\0\0\0\7\0abc"
"""The record of a schema with the id 7."""

FORMATS = pytest.mark.parametrize("format", ["avro", "protobuf"])


@pytest.fixture
def impatient() -> Iterator[None]:
    with dask.config.set({"microstream.source_wait": "1s"}):
        yield


def reading(broker: Broker, source: str, format: Any, **options: Any) -> ms.StreamFrame:
    options = {"schema": SCHEMA, "start": "earliest"} | options
    return ms.read_kafka(source, bootstrap_servers=broker.bootstrap_servers, format=format, **options)


@FORMATS
def test_a_format_without_its_registry_fails_when_it_is_written(broker: Broker, format: Any) -> None:
    rows = ms.read_rate(1).select("value")

    for write in (
        lambda: reading(broker, "clicks", format),
        lambda: rows.to_kafka("out", bootstrap_servers=broker.bootstrap_servers, format=format),
    ):
        with pytest.raises(ms.PlanError, match="give schema_registry=, the URL of the registry .*='http://localhost"):
            write()


@FORMATS
def test_a_registry_that_does_not_answer_is_waited_for_and_then_named_with_the_schema_and_the_query(
    broker: Broker, client: Client, tmp_path: Path, format: Any, impatient: None
) -> None:
    source = topic(broker)
    produce(broker, source, [WRITTEN])
    rows = reading(broker, source, format, schema_registry=NOWHERE)

    with pytest.raises(ms.UnreachableError) as caught:
        run(rows.to_null(name="none"), client, tmp_path / "ck", name="q")

    for part in ("query q, batch 0", "schema registry http://127.0.0.1:1", "schema id 7", "Is it up and reachable?"):
        assert part in str(caught.value)


@FORMATS
def test_a_sink_whose_registry_does_not_answer_names_it_and_nothing_is_lost(
    broker: Broker, client: Client, tmp_path: Path, format: Any, impatient: None
) -> None:
    source, sink = topic(broker), topic(broker, "out")
    produce(broker, source, [b'{"n": 1}'])
    rows = reading(broker, source, "json")

    with pytest.raises(ms.UnreachableError) as caught:
        run(rows.to_kafka(sink, format=format, schema_registry=NOWHERE), client, tmp_path / "ck", name="q")
    before = consume_all(broker, sink)
    run(rows.to_kafka(sink, format=format, schema_registry=f"mock://{sink}"), client, tmp_path / "ck", name="q")

    for part in ("query q", "schema registry http://127.0.0.1:1", f"subject '{sink}-value'", "Is it up and reachable?"):
        assert part in str(caught.value)
    assert (len(before), len(consume_all(broker, sink))) == (0, 1)


@FORMATS
def test_a_registry_of_others_is_a_bad_record_with_its_place(broker: Broker, format: Any) -> None:
    source = topic(broker)
    produce(broker, source, [WRITTEN])
    rows = reading(broker, source, format, schema_registry=f"mock://{source}", end="latest")

    with pytest.raises(ms.BadRecordError) as caught:
        rows.compute()

    assert (caught.value.partition, caught.value.offset) == (f"{source}-0", 0)
    assert "schema id 7: there is none. Name the registry that those who write use. Record:" in str(caught.value)
