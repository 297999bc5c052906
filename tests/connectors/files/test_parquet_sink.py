from __future__ import annotations

import datetime
import json
import pickle
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microstream.connectors.files.layout import check_columns, encode_parquet, partitioned
from microstream.connectors.files.sink import ParquetSink
from microstream.connectors.files.visible import open_parquet
from microstream.connectors.protocol import Confirmed, MarkerAheadError, Outgoing, Writer
from microstream.errors import BadRecordError, ConnectorError, PlanError

DAY = datetime.date(2026, 11, 24)
SCHEMA = pa.schema(
    [
        pa.field("country", pa.large_string()),
        pa.field("n", pa.int64(), nullable=False),
        pa.field("day", pa.date32()),
        pa.field("at", pa.timestamp("us")),
    ]
)
texts = st.one_of(st.none(), st.sampled_from(["de", "", "a b/ü=%41", "__x", "..", "null"]))
rows = st.lists(st.tuples(texts, st.integers(-(2**63), 2**63 - 1), st.sampled_from([None, DAY])), max_size=20)


def table(found: list[tuple[Any, ...]]) -> pa.Table:
    at = datetime.datetime(2026, 11, 24, 1, 2, 3, 4)
    records = [{"country": c, "n": n, "day": d, "at": at} for c, n, d in found]
    return pa.Table.from_pylist(records, schema=SCHEMA)


def opened(sink: ParquetSink, schema: pa.Schema = SCHEMA, *, job: str = "job", claimed: bool = True) -> Writer:
    if claimed:
        sink.open_probe().markers(job, "out", [0])
    return sink.open_writer(job=job, sink="out", lane=0, schema=schema)


def publish(writer: Writer, batch: int, stored: pa.Table, committed: int | None = None) -> Confirmed:
    return writer.publish(
        Outgoing(
            job="job",
            sink="out",
            lane=0,
            batch=batch,
            committed=batch if committed is None else committed,
            rows=stored,
            chunks=writer.chunks(stored),
        )
    )


def visible(folder: Path) -> list[tuple[Any, ...]]:
    found = open_parquet(str(folder)).to_table().select(["country", "n", "day"])
    return sorted(zip(*(column.to_pylist() for column in found.columns), strict=True), key=repr)


@settings(deadline=None, max_examples=25)
@given(
    batches=st.lists(rows, min_size=1, max_size=3),
    by=st.sampled_from([(), ("country",), ("day", "country"), ("at",), ("n", "country")]),
    rolled=st.booleans(),
)
def test_what_is_written_is_read_back_by_the_log_by_arrow_and_by_duckdb(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[tuple[Any, ...]]],
    by: tuple[str, ...],
    rolled: bool,
) -> None:
    folder = tmp_path_factory.mktemp("table")
    writer = opened(ParquetSink(url=str(folder), partition_cols=by, every_us=int(rolled)))

    for number, batch in enumerate(batches):
        publish(writer, number, writer.encode(table(batch), event_time=None))

    expected = sorted((row for batch in batches for row in batch), key=repr)
    if not expected:
        return
    assert visible(folder) == expected
    assert open_parquet(str(folder)).schema.equals(SCHEMA)
    assert ds.dataset(str(folder)).count_rows() == len(expected)
    [counted] = duckdb.sql(f"select count(*) from read_parquet('{folder}/**/*.parquet')").fetchall()
    assert counted == (len(expected),)


@given(found=rows)
def test_rows_of_a_folder_keep_their_order(found: list[tuple[Any, ...]]) -> None:
    parts = dict(partitioned(table(found), ["country"]))

    for part in parts.values():
        assert part.column_names == ["n", "day", "at"]
    by_hand: dict[str | None, list[int]] = {}
    for country, n, _ in found:
        by_hand.setdefault(country, []).append(n)
    assert [part["n"].to_pylist() for part in parts.values()] == list(by_hand.values())


def test_files_of_an_attempt_that_was_given_up_are_invisible_to_the_log_only(tmp_path: Path) -> None:
    writer = opened(ParquetSink(url=str(tmp_path)))
    writer.encode(table([("de", 1, DAY)]), event_time=None)

    publish(writer, 0, writer.encode(table([("de", 1, DAY)]), event_time=None))

    assert open_parquet(str(tmp_path)).count_rows() == 1
    assert ds.dataset(str(tmp_path)).count_rows() == 2


def test_a_roll_that_is_tried_again_by_another_worker_leaves_the_same_files(tmp_path: Path) -> None:
    sink = ParquetSink(url=str(tmp_path), partition_cols=("country",), every_us=1)
    stored = opened(sink).encode(table([("de", 1, DAY), ("fr", 2, DAY)]), event_time=None)

    answers = [publish(opened(sink), 0, stored) for _ in range(3)]

    assert [answer.skipped for answer in answers] == [False, True, True]
    assert len(list(tmp_path.rglob("*.parquet"))) == 2
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".parquet" and path.name.startswith(".")]


def test_a_roll_whose_log_entry_was_never_written_is_written_over_itself(tmp_path: Path) -> None:
    sink = ParquetSink(url=str(tmp_path), every_us=1)
    stored = opened(sink).encode(table([("de", 1, DAY)]), event_time=None)
    publish(opened(sink), 0, stored)
    (tmp_path / "_microstream" / f"{0:020d}.json").unlink()

    again = publish(opened(sink), 0, stored)

    assert not again.skipped
    assert ds.dataset(str(tmp_path)).count_rows() == open_parquet(str(tmp_path)).count_rows() == 1


def test_an_entry_is_json_that_names_the_files(tmp_path: Path) -> None:
    writer = opened(ParquetSink(url=str(tmp_path), partition_cols=("country",)))
    publish(writer, 7, writer.encode(table([("de", 1, DAY), (None, 2, DAY)]), event_time=None))

    entry = json.loads((tmp_path / "_microstream" / "00000000000000000007.json").read_bytes())

    assert (entry["format"], entry["job"], entry["sink"], entry["batch"]) == (1, "job", "out", 7)
    assert [file["rows"] for file in entry["files"]] == [1, 1]
    for file in entry["files"]:
        assert (tmp_path / file["path"]).stat().st_size == file["bytes"]
    assert [file["path"].split("/")[0] for file in entry["files"]] == [
        "country=de",
        "country=__HIVE_DEFAULT_PARTITION__",
    ]


@pytest.mark.parametrize(("old", "new"), [(b'"format":1', b'"format":2'), (b'"batch":0', b'"lot":0'), (b"{", b"")])
def test_an_entry_of_a_newer_version_or_a_damaged_one_is_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    writer = opened(ParquetSink(url=str(tmp_path)))
    publish(writer, 0, writer.encode(table([("de", 1, DAY)]), event_time=None))
    entry = tmp_path / "_microstream" / f"{0:020d}.json"
    entry.write_bytes(entry.read_bytes().replace(old, new, 1))

    with pytest.raises(ConnectorError, match=r"0\.json: .*upgrade microstream"):
        open_parquet(str(tmp_path))


def test_columns_that_came_later_are_null_in_older_batches(tmp_path: Path) -> None:
    old = pa.schema([pa.field("n", pa.int64(), nullable=False)])
    new = pa.schema([pa.field("n", pa.int64(), nullable=False), pa.field("m", pa.int64(), nullable=False)])
    sink = ParquetSink(url=str(tmp_path))
    first = opened(sink, old)
    publish(first, 0, first.encode(pa.table({"n": [1]}, schema=old), event_time=None))
    second = opened(sink, new)

    publish(second, 1, second.encode(pa.table({"n": [2], "m": [3]}, schema=new), event_time=None))

    assert open_parquet(str(tmp_path)).to_table().to_pydict() == {"n": [1, 2], "m": [None, 3]}


def test_a_folder_belongs_to_one_sink_of_one_job(tmp_path: Path) -> None:
    sink = ParquetSink(url=str(tmp_path))
    opened(sink)

    for job, name, says in (("other", "out", "belongs to the query"), ("job", "in", "belongs to sink 'out'")):
        with pytest.raises(ConnectorError, match=says):
            sink.open_probe().markers(job, name, [0])
    with pytest.raises(ConnectorError, match="is partitioned by"):
        ParquetSink(url=str(tmp_path), partition_cols=("day",)).open_probe().markers("job", "out", [0])


def test_a_folder_with_files_of_others_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "theirs.csv").write_text("a,b")

    with pytest.raises(ConnectorError, match=r"such as theirs\.csv"):
        ParquetSink(url=str(tmp_path)).open_probe().check()

    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["theirs.csv"]


def test_a_writer_that_finds_a_newer_batch_than_is_committed_publishes_nothing(tmp_path: Path) -> None:
    sink = ParquetSink(url=str(tmp_path))
    writer = opened(sink)
    publish(writer, 5, writer.encode(table([("de", 1, DAY)]), event_time=None))
    late = opened(sink)

    with pytest.raises(MarkerAheadError, match="holds batch 5, but only batch 4"):
        publish(late, 4, late.encode(table([("de", 2, DAY)]), event_time=None), committed=4)

    assert visible(tmp_path) == [("de", 1, DAY)]


def test_nothing_can_be_read_where_nothing_was_published(tmp_path: Path) -> None:
    with pytest.raises(ConnectorError, match="to_parquet never wrote here"):
        open_parquet(str(tmp_path))
    opened(ParquetSink(url=str(tmp_path)))
    with pytest.raises(ConnectorError, match="no batch with rows is committed yet"):
        open_parquet(str(tmp_path))


@pytest.mark.parametrize(
    ("cols", "says"),
    [
        (("land",), "no column 'land'"),
        (("price",), "folders can be named by"),
        (("n", "n"), "named twice"),
        (("_n",), "begins with '_'"),
        (("n", "_n", "price", "month"), "folders can be named by|begins with"),
        ((), "Parquet has no type for 'month'"),
    ],
)
def test_columns_that_cannot_be_written_are_plan_errors(cols: tuple[str, ...], says: str) -> None:
    schema = pa.schema(
        [("n", pa.int64()), ("_n", pa.int64()), ("price", pa.float64()), ("month", pa.month_day_nano_interval())]
    )

    with pytest.raises(PlanError, match=says):
        check_columns(schema, cols)
    with pytest.raises(PlanError, match="no column would be left"):
        check_columns(pa.schema([("n", pa.int64())]), ("n",))


@pytest.mark.parametrize("every_us", [0, 1])
def test_a_value_that_can_name_no_folder_is_found_before_the_batch_is_committed(tmp_path: Path, every_us: int) -> None:
    writer = opened(ParquetSink(url=str(tmp_path), partition_cols=("country",), every_us=every_us))

    with pytest.raises(BadRecordError, match="folder .* would have a name of"):
        writer.encode(table([("x" * 300, 1, DAY)]), event_time=None)


def test_the_sink_can_be_shipped_and_shows_no_credentials() -> None:
    sink = ParquetSink(url="s3://bucket/table", storage_options={"secret": "hush"})

    assert pickle.loads(pickle.dumps(sink)) == sink
    assert "hush" not in repr(sink)


def test_a_file_is_a_parquet_file() -> None:
    assert encode_parquet(pa.table({"n": [1]}))[:4] == b"PAR1"
