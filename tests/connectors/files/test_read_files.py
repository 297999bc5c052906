"""Files through the public API, against pandas and DuckDB."""

from __future__ import annotations

import gzip
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from distributed import Client
from pandas.testing import assert_frame_equal

import microstream as ms

SCHEMA = {"id": "int64", "price": "float64", "note": "str", "ts": "timestamp[us]"}
Write = Callable[[pd.DataFrame, Path], object]


def write_json(frame: pd.DataFrame, path: Path) -> None:
    rows = frame.assign(ts=frame["ts"].astype("str")).to_dict("records")
    clean = [{k: None if v is None or v != v else v for k, v in row.items()} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in clean))


WRITERS: dict[str, Write] = {
    "json": write_json,
    "csv": lambda frame, path: frame.to_csv(path, index=False),
    "parquet": lambda frame, path: frame.to_parquet(path, row_group_size=64, index=False),
}


def sample(rows: int, seed: int = 0) -> pd.DataFrame:
    """Rows in disorder of up to 10 s, with nulls."""
    random = np.random.default_rng(seed)
    seconds = np.arange(rows) + random.integers(0, 10, rows)
    return pd.DataFrame(
        {
            "id": random.integers(0, 9, rows),
            "price": np.where(random.random(rows) < 0.1, np.nan, random.integers(0, 1000, rows) / 4),
            "note": pd.array(random.choice(np.array(["a", "b,c", "", None], dtype=object), rows), dtype="str"),
            "ts": (pd.Timestamp("2026-01-01") + pd.to_timedelta(seconds, unit="s")).astype("datetime64[us]"),
        }
    )


def put(folder: Path, name: str, *ids: int) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f'{{"id": {one}}}\n' for one in ids))
    return path


def ids_of(folder: Any, **options: Any) -> list[int]:
    found = ms.read_files(folder, format="json", schema={"id": "int64"}, **options).compute()
    return found["id"].tolist()


@pytest.mark.parametrize("format", WRITERS)
@pytest.mark.parametrize("files", [1, 3, 40])
def test_files_hold_what_pandas_wrote(tmp_path: Path, format: str, files: int) -> None:
    frame = sample(400)
    for at in range(files):
        WRITERS[format](frame.iloc[at::files], tmp_path / f"{at:02d}")

    found = ms.read_files(tmp_path, format=format, schema=SCHEMA).compute()  # type: ignore[arg-type]

    order = list(SCHEMA)
    note = frame["note"].replace("", np.nan) if format == "csv" else frame["note"]
    expected = frame.assign(note=note).sort_values(order, ignore_index=True)
    assert_frame_equal(found.sort_values(order, ignore_index=True), expected)


@pytest.mark.parametrize("format", WRITERS)
def test_windows_over_files_equal_those_of_duckdb(tmp_path: Path, format: str) -> None:
    frame = sample(3_000)
    for at, part in enumerate(np.array_split(np.arange(len(frame)), 5)):
        WRITERS[format](frame.iloc[part], tmp_path / f"{at}.{format}")
    rows = ms.read_files(f"{tmp_path}/*.{format}", schema=SCHEMA, event_time="ts", watermark="10s")

    found = rows.groupby("id").window(ms.tumbling("1min")).agg(n=("id", "size"), top=("price", "max")).compute()

    oracle = duckdb.sql(
        "select id, time_bucket(interval '1 minute', ts) as window_start, count(*) as n, max(price) as top from frame "
        "group by all order by window_start, id"
    ).df()
    found = found.sort_values(["window_start", "id"], ignore_index=True)
    assert_frame_equal(found[["id", "n", "top"]], oracle[["id", "n", "top"]], check_dtype=False)
    assert (found["window_start"].to_numpy() == oracle["window_start"].to_numpy()).all()


@pytest.mark.parametrize("format", WRITERS)
def test_a_large_file_is_cut_into_many_batches(tmp_path: Path, threads: Client, format: str) -> None:
    frame = sample(2_000)
    WRITERS[format](frame, tmp_path / f"large.{format}")
    rows = ms.read_files(tmp_path / f"large.{format}", schema=SCHEMA)

    query = ms.start(rows.to_memory(), client=threads, trigger="1ms", max_records=20)
    query.await_termination(60)

    found = query.table()
    assert_frame_equal(found[["id", "price"]], frame[["id", "price"]])
    assert query.last_progress is not None
    assert query.last_progress["batchId"] > 3


@pytest.mark.parametrize("format", WRITERS)
def test_a_query_that_was_stopped_in_the_middle_of_a_file_goes_on_there(
    tmp_path: Path, threads: Client, format: str
) -> None:
    frame = sample(6_000)
    WRITERS[format](frame, tmp_path / f"large.{format}")
    rows = ms.read_files(tmp_path / f"large.{format}", schema=SCHEMA)
    tables = []
    while sum(map(len, tables)) < len(frame):
        query = ms.start(
            rows.to_memory(),
            name="stopped",
            checkpoint=str(tmp_path / "checkpoint"),
            client=threads,
            trigger="1ms",
            max_records=50,
        )
        while query.is_active and not len(query.table()):
            query.await_termination(0.01)
        if len(tables) < 2:
            query.stop()
        query.await_termination(60)
        tables.append(query.table())

    assert_frame_equal(pd.concat(tables, ignore_index=True)[["id", "price"]], frame[["id", "price"]])


def test_hidden_and_empty_files_and_those_below_hidden_folders_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, "a", 1)
    put(tmp_path, "deep/er/b", 2)
    for name in ("_c", ".d", "_temporary/e", "deep/.f/g"):
        put(tmp_path, name, 99)
    (tmp_path / "empty").touch()

    assert ids_of(tmp_path) == [1, 2]
    assert ids_of(tmp_path / "_c") == [99]
    assert ids_of(f"{tmp_path}/d*") == [2]
    assert ids_of([tmp_path / "deep", tmp_path / "a", tmp_path]) == [1, 2]


def test_an_empty_folder_has_no_rows_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    assert ids_of(tmp_path) == []

    for missing in (tmp_path / "no", f"{tmp_path}/*.json"):
        with pytest.raises(ms.ConnectorError, match="there is no file at"):
            ids_of(missing)


def test_compressed_text_is_read_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b"".join(b'{"id": %d}\n' % n for n in range(1000))))

    found = ms.read_files(tmp_path / "a.json.gz", schema={"id": "int64"}).compute()

    assert found["id"].tolist() == list(range(1000))


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.json", '{"id": 1}\n\n{"id": "x"}\n', r"a\.json line 3: id is 'x', not int64"),
        ("a.json", '{"id": 1}\n{"id": null}\n', r"a\.json line 2: id is null or missing"),
        ("a.csv", "id\n1\nx\n", r"a\.csv line 3: column 'id': CSV conversion error to int64: invalid value 'x'"),
        ("a.csv", "id,b\n1,2\n1,2,3\n", r"a\.csv line 3: Expected 2 columns, got 3"),
        ("a.csv", 'id,b\n1,"2\n3"\n', r"a\.csv line 2: a quote is not closed"),
        ("a.csv", 'id\n1\n"2\n', r"a\.csv line 3: "),
    ],
)
def test_a_bad_line_is_named_by_file_and_line_and_may_be_dropped(
    tmp_path: Path, name: str, text: str, says: str
) -> None:
    (tmp_path / name).write_text(text)

    with pytest.raises(ms.BadRecordError, match=says):
        ms.read_files(tmp_path / name, schema={"id": "int64"}).compute()

    dropped = ms.read_files(tmp_path / name, schema={"id": "int64"}, on_bad_record="drop").compute()
    assert set(dropped["id"]) <= {1}


@pytest.mark.parametrize("name", ["a.json", "a.parquet"])
def test_bad_rows_that_are_dropped_make_one_line_in_the_log(
    tmp_path: Path, name: str, log_records: list[logging.LogRecord]
) -> None:
    path = tmp_path / name
    if name == "a.parquet":
        pd.DataFrame({"id": [1.0, None, None]}).to_parquet(path)
    else:
        path.write_text('{"id": 1}\n{"id": null}\n{"id": "x"}\n')

    kept = ms.read_files(path, schema={"id": "int64"}, on_bad_record="drop").compute()

    assert kept["id"].tolist() == [1]
    (said,) = [record.getMessage() for record in log_records if "dropped" in record.getMessage()]
    assert "2 dropped, the first is" in said


def test_a_parquet_row_that_breaks_the_schema_is_named_and_a_wrong_column_is_the_file_s_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"id": [1.0, None], "s": ["x", "y"]}).to_parquet(path)

    with pytest.raises(ms.BadRecordError, match=r"a\.parquet row 1: id is null or missing"):
        ms.read_files(path, schema={"id": "int64"}).compute()
    with pytest.raises(ms.ConnectorError, match=r"a\.parquet: column 's' has type .*string, but schema= says int64"):
        ms.read_files(path, schema={"s": "Int64"}).compute()
    assert ms.read_files(path, schema={"more": "Int64"}).compute()["more"].isna().tolist() == [True, True]


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    path = put(tmp_path, "a.parquet", 1)

    with pytest.raises(ms.ConnectorError, match=r"a\.parquet is no Parquet file"):
        ms.read_files(path, schema={"id": "int64"}).compute()


def test_an_event_time_too_far_ahead_is_a_bad_record(tmp_path: Path) -> None:
    for format, write in WRITERS.items():
        write(sample(1).assign(ts=pd.Timestamp("9999-01-01").as_unit("us")), tmp_path / f"a.{format}")
        with pytest.raises(ms.BadRecordError, match="later than max_ahead allows"):
            ms.read_files(tmp_path / f"a.{format}", schema=SCHEMA, event_time="ts").compute()


class Watched:
    """A query that copies the ids of a folder into memory, as often as it is started."""

    def __init__(self, folder: Path, checkpoint: Path, client: Client, **options: Any) -> None:
        self.folder, self.checkpoint, self.client, self.options = folder, checkpoint, client, options
        folder.mkdir(exist_ok=True)

    def start(self, **arguments: Any) -> ms.StreamingQuery:
        rows = ms.read_files(
            self.folder, format="json", schema={"id": "int64"}, name="in", **{"watch": True, **self.options}
        )
        return ms.start(
            rows.to_memory(),
            name="watched",
            checkpoint=str(self.checkpoint),
            trigger="5ms",
            client=self.client,
            **arguments,
        )


def until(query: ms.StreamingQuery, rows: int) -> list[int]:
    while len(query.table()) < rows and query.is_active:
        query.process_all_available()
    return sorted(query.table()["id"].tolist())


def test_a_watched_folder_is_read_once_however_often_the_query_starts(tmp_path: Path, threads: Client) -> None:
    watched = Watched(tmp_path / "in", tmp_path / "checkpoint", threads)
    put(watched.folder, "first", 1, 2)

    query = watched.start()
    assert until(query, 2) == [1, 2]
    put(watched.folder, "second", 3)
    assert until(query, 3) == [1, 2, 3]
    query.stop()
    put(watched.folder, "third", 4, 5)
    (watched.folder / "first").unlink()

    again = watched.start()
    assert until(again, 2) == [4, 5]
    again.stop()


def test_available_now_reads_the_files_that_are_there_and_stops(tmp_path: Path, threads: Client) -> None:
    watched = Watched(tmp_path / "in", tmp_path / "checkpoint", threads)
    read = []
    for at in range(3):
        put(watched.folder, f"{at}", at)
        query = ms.start(
            ms.read_files(watched.folder, format="json", schema={"id": "int64"}, watch=True, name="in").to_memory(),
            name="now",
            checkpoint=str(watched.checkpoint),
            trigger=ms.available_now(),
            client=threads,
        )
        query.await_termination(60)
        read.append(query.table()["id"].tolist())

    assert read == [[0], [1], [2]]


def test_a_file_that_is_changed_after_it_was_found_stops_the_query(tmp_path: Path, threads: Client) -> None:
    watched = Watched(tmp_path / "in", tmp_path / "checkpoint", threads)
    path = put(watched.folder, "a", 1)
    query = watched.start()
    until(query, 1)
    query.stop()
    put(watched.folder, "a", 1, 2)

    with pytest.raises(ms.ConnectorError, match=r"in/a was changed after it was found"):
        watched.start().await_termination(60)

    skipping = Watched(watched.folder, watched.checkpoint, threads, on_data_loss="skip").start()
    put(watched.folder, "b", 3)
    assert until(skipping, 1) == [3]
    skipping.stop()
    assert path.exists()


def test_a_finished_query_refuses_files_that_came_later(tmp_path: Path, threads: Client) -> None:
    watched = Watched(tmp_path / "in", tmp_path / "checkpoint", threads, watch=False)
    put(watched.folder, "a", 1)
    watched.start().await_termination(60)
    watched.start().await_termination(60)
    put(watched.folder, "b", 2)

    with pytest.raises(ms.PlanError, match="is finished, but source in has more input"):
        watched.start().await_termination(60)


def test_backfill_then_live_is_a_concat(tmp_path: Path) -> None:
    put(tmp_path, "a", 1, 2)
    files = ms.read_files(tmp_path, format="json", schema={"id": "int64"})

    both = ms.concat([files, ms.from_pandas(pd.DataFrame({"id": [3]}))]).compute()

    assert both["id"].tolist() == [1, 2, 3]


def test_files_of_one_partition_follow_each_other_by_time_of_change(tmp_path: Path) -> None:
    for at in range(40):
        os.utime(put(tmp_path, f"{at % 7}-{at}", at), (1_000_000 + at, 1_000_000 + at))

    found = ms.read_files(tmp_path, format="json", schema={"id": "int64"}).map_batches(in_order).compute()

    partitions = [part.tolist() for _, part in found.groupby("partition")["id"]]
    assert sorted(partitions) == [list(range(first, 40, 16)) for first in range(16)]


def in_order(batch: pd.DataFrame) -> pd.DataFrame:
    return batch.assign(partition=(batch["id"] < batch["id"].shift(fill_value=-1)).cumsum())


def test_a_bucket_is_read_like_a_folder(s3_options: dict[str, Any], threads: Client, tmp_path: Path) -> None:
    url = "s3://bucket/in-" + tmp_path.name
    frame = sample(300)
    for at in range(3):
        frame.iloc[at::3].to_parquet(f"{url}/{at}.parquet", storage_options=to_pandas(s3_options))
    frame.to_csv(f"{url}/_hidden.csv", storage_options=to_pandas(s3_options))

    files = ms.read_files(url, format="parquet", schema=SCHEMA, storage_options=s3_options)

    order = list(SCHEMA)
    expected = frame.sort_values(order, ignore_index=True)
    assert_frame_equal(files.compute().sort_values(order, ignore_index=True), expected)
    with pytest.raises(ms.ConnectorError, match="there is no file at s3://bucket/nothing"):
        ids_of("s3://bucket/nothing", storage_options=s3_options)


def test_a_watched_bucket_is_read_once(s3_options: dict[str, Any], threads: Client, tmp_path: Path) -> None:
    url, read = "s3://bucket/" + tmp_path.name, []
    for at in range(3):
        if at < 2:
            sample(5 + at).to_parquet(f"{url}/in/{at}.parquet", storage_options=to_pandas(s3_options))
        query = ms.start(
            ms.read_files(f"{url}/in", format="parquet", watch=True, storage_options=s3_options).to_memory(),
            name="bucket",
            checkpoint=str(tmp_path),
            trigger=ms.available_now(),
            client=threads,
        )
        query.await_termination(60)
        read.append(len(query.table()))

    assert read == [5, 6, 0]


def to_pandas(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "key": options["key"],
        "secret": options["secret"],
        "client_kwargs": {"endpoint_url": options["endpoint_url"]},
    }


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"path": []}, "name at least one file"),
        ({"path": "in/*"}, "do not say which format"),
        ({"path": ["a.csv", "b.json"]}, "do not say which format"),
        ({"path": "a.csv", "format": "orc"}, "'json', 'csv', 'parquet'"),
        ({"path": "a.csv", "schema": {"tags": "list[str]"}}, "'tags' has type list"),
        ({"path": "a.csv", "schema": {"id": "int65"}}, "int65"),
        ({"path": "a.csv", "event_time": "idd"}, "Did you mean 'id'"),
        ({"path": "a.csv", "event_time": "id"}, "not a time"),
        ({"path": "a.csv", "watermark": "1s"}, "needs event_time"),
        ({"path": ["a.csv", "s3://b/b.csv"]}, "file and s3 paths in one source"),
        ({"path": "wrong://x/a.csv"}, "wrong"),
        ({"path": "a.csv", "on_bad_record": "ignore"}, "on_bad_record='ignore'"),
    ],
)
def test_wrong_files_fail_when_they_are_written(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ms.PlanError, match=says):
        ms.read_files(**{"schema": {"id": "int64"}, **arguments})


def test_files_that_never_end_cannot_be_computed(tmp_path: Path) -> None:
    with pytest.raises(ms.PlanError, match="never ends"):
        ids_of(tmp_path, watch=True)
