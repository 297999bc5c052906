"""Any cut of a file gives the same rows: the law that slicing and every retry rest on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microstream.checkpoint.memory import MemoryStore
from microstream.checkpoint.source_log import SourceLog
from microstream.connectors.files.decode import Format
from microstream.connectors.files.lines import Text, line_number, lines_between
from microstream.connectors.files.source import FileSource
from microstream.connectors.protocol import Range, Reader

BOM = b"\xef\xbb\xbf"
SCHEMA = pa.schema([pa.field("n", pa.int64(), nullable=False), pa.field("note", pa.large_string())])

lines = st.lists(st.binary(max_size=300).map(lambda b: b.replace(b"\n", b"").replace(b"\r", b"")), max_size=20)
notes = st.one_of(
    st.none(), st.text(st.characters(exclude_characters='\n\r\x00"', exclude_categories=["Cs"]), min_size=1)
)


def cut(data: st.DataObject, end: int) -> list[int]:
    return [0, *sorted(data.draw(st.lists(st.integers(0, end), max_size=4), label="cuts")), end]


@settings(deadline=None, max_examples=200)
@given(texts=lines, ends=st.sampled_from([b"\n", b"\r\n"]), closed=st.booleans(), data=st.data())
def test_every_line_is_in_the_range_where_it_starts_and_in_no_other(
    texts: list[bytes], ends: bytes, closed: bool, data: st.DataObject
) -> None:
    whole = ends.join(texts) + (ends if closed else b"")
    text = Text(size=len(whole), read=lambda start, end: whole[start:end])
    bounds = cut(data, len(whole) // 200 + 1)

    pieces = [lines_between(text, a, b) for a, b in pairwise(bounds)]

    expected = whole.removeprefix(BOM).split(b"\n")
    expected = [line.removesuffix(b"\r") for line in (expected[:-1] if not expected[-1] else expected)]
    assert [line for piece in pieces for line in piece.texts] == expected
    starts = [int(start) for piece in pieces for start in piece.starts]
    assert [line_number(text, start) for start in starts] == list(range(1, len(expected) + 1))


def test_a_line_longer_than_what_is_read_ahead_is_one_line() -> None:
    whole = b"a\n" + b"x" * 1_000_000 + b"\nb"
    text = Text(size=len(whole), read=lambda start, end: whole[start:end])

    assert [len(line) for line in lines_between(text, 0, 1).texts] == [1, 1_000_000]
    assert [len(line) for line in lines_between(text, 1, len(whole)).texts] == [1]


def write(path: Path, format: Format, rows: Sequence[dict[str, Any]], group: int) -> None:
    match format:
        case "json":
            path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        case "csv":
            frame = pd.DataFrame(rows, columns=SCHEMA.names)
            frame.to_csv(path, index=False)
        case "parquet":
            pq.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), path, row_group_size=group)


def read(reader: Reader, partition: str, start: int, end: int) -> list[dict[str, Any]]:
    found = reader.read([Range(source="s", partition=partition, start=start, end=end)], batch_time_us=0)
    assert all(start <= offset < end for offset in found.offsets.tolist())
    assert found.offsets.tolist() == sorted(found.offsets.tolist())
    assert sum(count.rows for count in found.counts) == found.table.num_rows == len(found.offsets)
    return found.table.to_pylist()


@pytest.mark.parametrize("format", ["json", "csv", "parquet"])
@settings(deadline=None, max_examples=25)
@given(
    files=st.lists(st.lists(st.tuples(st.integers(-5, 5), notes), min_size=1, max_size=30), min_size=1, max_size=3),
    group=st.integers(1, 12),
    data=st.data(),
)
def test_rows_do_not_depend_on_where_a_file_is_cut(
    format: Format, files: list[list[tuple[int, str | None]]], group: int, data: st.DataObject
) -> None:
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{at}" for at in range(len(files))]
        rows = [[{"n": n, "note": note} for n, note in file] for file in files]
        for path, some in zip(paths, rows, strict=True):
            write(path, format, some, group)
        source = FileSource(paths=tuple(map(str, paths)), format=format).with_log(SourceLog(MemoryStore(), "s"))
        bounds = source.open_probe().bounds()
        reader = source.open_reader(name="s", schema=SCHEMA, event_time=None, max_ahead_us=0)

        pieces = {}
        for partition, at in bounds.items():
            edges = cut(data, at.end)
            cuts = [read(reader, partition, a, b) for a, b in pairwise(edges)]
            pieces[partition] = [row for piece in cuts for row in piece]

    assert list(pieces.values()) == rows
