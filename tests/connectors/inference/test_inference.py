"""A schema that nobody gave: learnt, shown, stored, and used by every later start."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from distributed import Client
from pandas.testing import assert_frame_equal

import microstream as ms
from microstream.testing.kafka import Broker, produce, unique


def put(folder: Path, name: str, *rows: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / name


def sales() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": pd.array([1, 2, None], dtype="Int64"),
            "price": [1.5, None, 3.0],
            "note": pd.array(["x", None, "z"], dtype="str"),
            "ts": pd.to_datetime(["2026-01-01T00:00:01", "2026-01-01T00:00:02", "2026-01-01T00:01:03"]).as_unit("us"),
        }
    )


@pytest.mark.parametrize("format", ["json", "csv", "parquet"])
def test_files_without_a_schema_are_what_pandas_wrote(
    tmp_path: Path, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, frame = tmp_path / f"sales.{format}", sales()
    match format:
        case "json":
            frame.to_json(path, orient="records", lines=True, date_format="iso", date_unit="us")
        case "csv":
            frame.to_csv(path, index=False)
        case _:
            frame.to_parquet(path)

    found = ms.read_files(path, event_time="ts")

    assert_frame_equal(found.compute(), frame)
    printed = capsys.readouterr().out
    assert str(path) in printed
    assert "'id': 'Int64',\n    'price': 'float64',\n    'note': 'str',\n    'ts': 'timestamp[us]'," in printed


def test_what_was_printed_can_be_given_as_the_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"n": 1, "flag": True, "tags": ["a"], "of": {"deep": [1.5]}, "at": 1_700_000_000_000}
    path = put(tmp_path, "a.json", row)
    inferred = ms.read_files(path, event_time="at")

    schema = ast.literal_eval(capsys.readouterr().out.partition("schema=")[2])

    assert ms.read_files(path, event_time="at", schema=schema).schema.equals(inferred.schema, True)


def test_lines_that_disagree_and_missing_files_are_plan_errors(tmp_path: Path) -> None:
    put(tmp_path, "a.json", {"price": 1})
    put(tmp_path, "b.json", {"price": "one"})

    with pytest.raises(ms.PlanError, match=r"price is 1 in .*a\.json line 1, but 'one' in .*b\.json line 1"):
        ms.read_files(f"{tmp_path}/*.json")
    with pytest.raises(ms.PlanError, match="no file to infer a schema from"):
        ms.read_files(tmp_path / "none.json")


def double(batch: pd.DataFrame) -> pd.DataFrame:
    return batch.assign(twice=batch["price"] * 2)


def test_a_restart_goes_by_the_schema_of_the_first_start(
    tmp_path: Path, threads: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"

    def run() -> pd.DataFrame:
        rows = ms.read_files(folder, format="json", watch=True, name="in")
        out = rows.map_batches(double).assign(half=ms.col("price") / 2).select("price", "twice", "half")
        query = ms.start(
            out.to_memory(),
            name="inferred",
            checkpoint=str(tmp_path / "checkpoint"),
            trigger=ms.available_now(),
            client=threads,
        )
        query.await_termination(60)
        return query.table()

    put(folder, "a", {"price": 1.5, "more": "x"})
    first = run()
    (folder / "a").unlink()
    put(folder, "b", {"price": 2, "new": True})
    capsys.readouterr()
    second = run()

    assert first.dtypes.equals(second.dtypes)
    assert second.to_dict("records") == [{"price": 2.0, "twice": 4.0, "half": 1.0}]
    assert "'price': 'Int64'" in capsys.readouterr().out  # what the newest files alone would say


def test_a_restart_by_processing_time_goes_by_the_columns_that_were_read_first(tmp_path: Path, threads: Client) -> None:
    folder = tmp_path / "in"

    def run() -> pd.DataFrame:
        rows = ms.read_files(folder, format="json", watch=True, name="in", event_time="_processing_time")
        query = ms.start(
            rows.to_memory(),
            name="clocked",
            checkpoint=str(tmp_path / "checkpoint"),
            trigger=ms.available_now(),
            client=threads,
        )
        query.await_termination(60)
        return query.table()

    put(folder, "a", {"price": 1.5, "more": "x"})
    first = run()
    (folder / "a").unlink()
    put(folder, "b", {"price": 2, "new": True})
    second = run()

    assert second.columns.tolist() == ["price", "more", "_processing_time"]
    assert second.dtypes.equals(first.dtypes)
    assert second["price"].tolist() == [2.0]
    assert second["_processing_time"][0] > first["_processing_time"][0]


def test_a_column_that_the_stored_schema_lacks_is_refused_until_a_schema_is_given(
    tmp_path: Path, threads: Client
) -> None:
    folder = tmp_path / "in"
    options: dict[str, Any] = {
        "name": "lacking",
        "checkpoint": str(tmp_path / "checkpoint"),
        "trigger": ms.available_now(),
        "client": threads,
    }

    def rows(**given: Any) -> ms.StreamFrame:
        return ms.read_files(folder, format="json", watch=True, name="in", **given)

    put(folder, "a", {"n": 1})
    ms.start(rows().to_memory(), **options).await_termination(60)
    (folder / "a").unlink()
    put(folder, "b", {"n": 2, "new": 3})

    with pytest.raises(ms.PlanError, match=r"no column 'new'.*Give schema= to read other columns"):
        ms.start(rows()[["new"]].to_memory(), **options)

    query = ms.start(rows(schema={"new": "int64"}).to_memory(), **options)
    query.await_termination(60)
    assert query.table()["new"].tolist() == [3]


@pytest.mark.broker
def test_a_topic_says_what_its_newest_records_hold(broker: Broker) -> None:
    topic = unique("inferred")
    broker.create_topic(topic, partitions=2)
    produce(broker, topic, [b'{"old": 1}'] * 10, partition=0)
    fresh = [json.dumps({"id": n, "at": 1_700_000_000_000 + n, "tags": ["a"]}).encode() for n in range(600)]
    for partition in (0, 1):
        produce(broker, topic, fresh, partition=partition)

    schema = ms.infer_schema(topic, bootstrap_servers=broker.bootstrap_servers, event_time="at")

    assert schema == {"id": "Int64", "at": "epoch[ms]", "tags": "list[str]"}


@pytest.mark.broker
def test_a_topic_can_be_read_without_a_schema_and_again_after_its_records_changed(
    broker: Broker, tmp_path: Path, threads: Client
) -> None:
    topic = unique("inferred")
    broker.create_topic(topic)

    def run() -> pd.DataFrame:
        rows = ms.read_kafka(topic, bootstrap_servers=broker.bootstrap_servers)
        query = ms.start(
            rows.to_memory(),
            name="topic",
            checkpoint=str(tmp_path),
            trigger=ms.available_now(),
            client=threads,
        )
        query.await_termination(60)
        return query.table()

    produce(broker, topic, [b'{"id": 1, "price": 2.5}'])
    first = run()
    produce(broker, topic, [b'{"id": 2, "price": 7, "more": "x"}'] * 1001)
    second = run()

    assert first.to_dict("records") == [{"id": 1, "price": 2.5}]
    assert second.dtypes.equals(first.dtypes)
    assert second["price"].tolist() == [7.0] * 1001


@pytest.mark.broker
def test_an_empty_topic_and_one_with_a_broken_record_are_plan_errors(broker: Broker) -> None:
    topic = unique("empty")
    broker.create_topic(topic)
    with pytest.raises(ms.PlanError, match=rf"topic {topic} cannot be inferred: there are no records"):
        ms.read_kafka(topic, bootstrap_servers=broker.bootstrap_servers)

    produce(broker, topic, [b"<xml/>"])
    with pytest.raises(ms.PlanError, match=rf"{topic}-0 offset 0 is b'<xml/>', not a JSON object"):
        ms.infer_schema(topic, bootstrap_servers=broker.bootstrap_servers)
