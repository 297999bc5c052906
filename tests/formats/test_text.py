"""A text or bytes are the record, and the other way round."""

from __future__ import annotations

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given, settings

from microstream.errors import PlanError
from microstream.formats.choice import check_format, check_readable, check_writable, schema_without_one
from microstream.formats.registry import registry_of
from microstream.formats.text import RAW, TEXT, RawDecoder, TextDecoder, ValueEncoder


@settings(deadline=None)
@given(made=st.lists(st.text(max_size=4)))
def test_texts_are_read_as_they_were_written(made: list[str]) -> None:
    table = pa.table({"value": made}, schema=TEXT)

    found = TextDecoder(TEXT).decode(ValueEncoder().encode(table).values.to_pylist())

    assert found.table.equals(table)


@settings(deadline=None)
@given(made=st.lists(st.binary(max_size=4)))
def test_bytes_are_read_as_they_were_written_and_texts_only_if_they_are_utf8(made: list[bytes]) -> None:
    table = pa.table({"value": made}, schema=RAW)
    texts = [each.decode() for each in made if is_utf8(each)]

    records = ValueEncoder().encode(table).values.to_pylist()

    assert RawDecoder(RAW).decode(records).table.equals(table)
    found = TextDecoder(TEXT).decode(records)
    assert found.table["value"].to_pylist() == texts
    assert [at for at, _ in found.bad] == [at for at, each in enumerate(made) if not is_utf8(each)]


def test_null_is_a_tombstone() -> None:
    encoded = ValueEncoder().encode(pa.table({"value": ["a", None]}, schema=TEXT))

    assert encoded.values.to_pylist() == [b"a", None]


def test_rows_are_counted_even_if_no_column_is_needed() -> None:
    assert RawDecoder(pa.schema([])).decode([b"a", b"b"]).table.num_rows == 2
    assert TextDecoder(pa.schema([])).decode([b"a", b"\xff"]).table.num_rows == 1


def test_the_columns_are_known_and_no_others_are_possible() -> None:
    assert schema_without_one("read_kafka", "text", ["t"], None) == TEXT
    with pytest.raises(PlanError, match="must be one, value: large_binary, but are n: int64"):
        check_readable("read_kafka", "raw", pa.schema([pa.field("n", pa.int64())]))
    with pytest.raises(PlanError, match="must be one, value: large_string, but are value: large_binary"):
        check_writable("to_kafka", "text", RAW)
    with pytest.raises(PlanError, match="give schema="):
        schema_without_one("read_kafka", "arrow", ["t"], None)
    with pytest.raises(PlanError, match="must be one of 'json', 'text'"):
        check_format("read_kafka", "cvs", None)
    with pytest.raises(PlanError, match="give schema_registry="):
        check_format("read_kafka", "avro", None)
    with pytest.raises(PlanError, match="schema_registry= is for 'avro', 'protobuf' only"):
        check_format("read_kafka", "json", registry_of("read_kafka", "avro", "mock://x"))
    check_writable("to_kafka", "raw", TEXT)


def is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
