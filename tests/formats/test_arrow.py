"""Streams are read as they were written, whoever packed the rows; and a bad one costs only itself."""

from __future__ import annotations

import datetime
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from any_tables import SCHEMA, rows, table_of
from hypothesis import given, settings

from microstream.formats.arrow import MOST_BYTES, ArrowDecoder, ArrowEncoder

NARROW = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("s", pa.large_string())])


@settings(deadline=None)
@given(made=rows, together=st.booleans())
def test_what_is_written_can_be_read_again(made: list[dict[str, Any]], together: bool) -> None:
    table = table_of(made)

    encoded = ArrowEncoder(SCHEMA, together).encode(table)
    found = ArrowDecoder(SCHEMA).decode(encoded.values.to_pylist())

    assert found.bad == ()
    assert found.table.equals(table)
    assert found.table.schema == SCHEMA
    assert found.record is not None
    assert found.record.tolist() == ([0] * len(made) if together else list(range(len(made))))


@settings(deadline=None)
@given(
    made=st.lists(st.lists(st.tuples(st.none() | st.integers(0, 9), st.text(max_size=2)), max_size=3), max_size=5),
    damage=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 700), st.integers(0, 255)), max_size=2),
    extra=st.dictionaries(st.integers(0, 4), st.binary(min_size=1, max_size=9), max_size=2),
)
def test_decoding_all_at_once_is_decoding_each_by_itself(
    made: list[list[tuple[int | None, str]]], damage: list[tuple[int, int, int]], extra: dict[int, bytes]
) -> None:
    messages = [bytearray(stream_of(part, wide=at == 3)) for at, part in enumerate(made)]
    for at, place, value in damage:
        if at < len(messages):
            messages[at][place % len(messages[at])] = value
    records = [bytes(message) + extra.get(at, b"") for at, message in enumerate(messages)]
    singly = [ArrowDecoder(NARROW).decode([record]) for record in records]

    found = ArrowDecoder(NARROW).decode(records)

    assert found.table.to_pylist() == [row for each in singly for row in each.table.to_pylist()]
    assert [at for at, _ in found.bad] == [at for at, each in enumerate(singly) if each.bad]
    assert found.record is not None
    assert np.bincount(found.record, minlength=len(records)).tolist() == [each.table.num_rows for each in singly]


def test_one_row_that_breaks_a_rule_makes_its_record_bad() -> None:
    good, bad = stream_of([(1, "a"), (2, "b")]), stream_of([(3, "c"), (None, "d")])

    found = ArrowDecoder(NARROW).decode([good, bad, b"nonsense", good])

    assert found.table["id"].to_pylist() == [1, 2, 1, 2]
    assert [at for at, _ in found.bad] == [1, 2]
    assert found.bad[0][1] == "id is null or missing, but declared not null"
    assert found.bad[1][1].startswith("not an Arrow stream")


def test_types_are_made_to_fit_and_what_does_not_fit_is_named() -> None:
    held = pa.table(
        {
            "small": pa.array([1, 300], pa.int32()),
            "at": pa.array([5, None], pa.timestamp("ms", "Europe/Rome")),
            "epoch": pa.array([7, 8], pa.int64()),
            "name": pa.array(["x", "y"], pa.string()),
        }
    )
    wanted = pa.schema(
        [
            pa.field("name", pa.large_string()),
            pa.field("small", pa.int8()),
            pa.field("at", pa.timestamp("us")),
            pa.field("epoch", pa.timestamp("us"), metadata={"microstream": "epoch[s]"}),
            pa.field("absent", pa.float64()),
        ]
    )

    found = ArrowDecoder(wanted).decode([stream(held.slice(0, 1)), stream(held.slice(1, 1))])

    start = datetime.datetime(1970, 1, 1)
    assert found.table.to_pylist() == [
        {
            "name": "x",
            "small": 1,
            "at": start + datetime.timedelta(milliseconds=5),
            "epoch": start + datetime.timedelta(seconds=7),
            "absent": None,
        }
    ]
    assert found.bad == ((1, "small is 300, not int8"),)


def test_a_type_that_never_fits_makes_every_such_record_bad() -> None:
    found = ArrowDecoder(NARROW).decode([stream(pa.table({"id": ["1"]}))])

    assert found.bad[0][0] == 0
    assert "'id' is declared int64, but records hold string" in found.bad[0][1]


def test_rows_are_counted_even_if_no_column_is_needed() -> None:
    found = ArrowDecoder(pa.schema([])).decode([stream_of([(1, "a"), (2, "b")]), b""])

    assert found.table.num_rows == 2
    assert [at for at, _ in found.bad] == [1]


def test_an_event_time_too_far_ahead_makes_its_record_bad() -> None:
    schema = pa.schema([pa.field("t", pa.timestamp("us"), nullable=False)])
    record = stream(pa.table({"t": pa.array([1, 9], pa.timestamp("us"))}))

    found = ArrowDecoder(schema, "t").decode([record], latest_us=5)

    assert found.table.num_rows == 0
    assert "max_ahead" in found.bad[0][1]


@pytest.mark.parametrize("width", [1, 200, MOST_BYTES])
def test_rows_share_records_of_a_bounded_size(width: int) -> None:
    schema = pa.schema([pa.field("s", pa.large_string())])
    table = pa.table({"s": ["x" * width] * 3_000 if width < 1_000 else ["y", "x" * width, "z"]}, schema=schema)

    encoded = ArrowEncoder(schema, together=True).encode(table)

    values = encoded.values.to_pylist()
    assert encoded.ends is not None
    lengths = np.diff(encoded.ends, prepend=0)
    assert lengths.sum() == table.num_rows
    assert all(len(value) <= MOST_BYTES + 1_000 or n == 1 for value, n in zip(values, lengths, strict=True))
    assert len(values) <= 15
    assert ArrowDecoder(schema).decode(values).table.equals(table)


def stream_of(part: list[tuple[int | None, str]], *, wide: bool = False) -> bytes:
    kind = pa.int32() if wide else pa.int64()
    return stream(
        pa.table({"id": pa.array([n for n, _ in part], kind), "s": pa.array([s for _, s in part], pa.string())})
    )


def stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())
