"""Messages are read as they were written, and as protobuf itself reads them."""

from __future__ import annotations

import base64
import datetime
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings

from microstream.errors import BadRecordError, PlanError
from microstream.formats.protobuf import ProtobufDecoder, ProtobufEncoder, message_columns
from microstream.formats.protobuf_schema import descriptors_of, file_of
from microstream.formats.registry import Registry, header_of, registry_of

TIME = pa.timestamp("us")
LINE = pa.struct([pa.field("at", TIME), pa.field("n", pa.int64()), pa.field("raw", pa.large_binary())])
times = st.datetimes(datetime.datetime(1, 1, 2), datetime.datetime(9998, 1, 1))
lines = st.fixed_dictionaries(
    {"at": st.none() | times, "n": st.none() | st.integers(-9, 9), "raw": st.none() | st.binary(max_size=3)}
)
KINDS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "n": (pa.int64(), st.none() | st.integers(-(2**63), 2**63 - 1)),
    "u": (pa.uint64(), st.none() | st.integers(0, 2**64 - 1)),
    "i": (pa.int16(), st.none() | st.integers(-(2**15), 2**15 - 1)),
    "f": (pa.float64(), st.none() | st.floats(allow_nan=False)),
    "b": (pa.bool_(), st.none() | st.booleans()),
    "s": (pa.large_string(), st.none() | st.text(max_size=4)),
    "raw": (pa.large_binary(), st.none() | st.binary(max_size=4)),
    "t": (TIME, st.none() | times),
    "l": (pa.list_(pa.int64()), st.lists(st.integers(-99, 99), max_size=3)),
    "o": (LINE, st.none() | lines),
    "lines": (pa.list_(LINE), st.lists(lines, max_size=2)),
}
SCHEMA = pa.schema(
    [pa.field("id", pa.int64(), nullable=False), *(pa.field(name, kind) for name, (kind, _) in KINDS.items())]
)
rows = st.lists(
    st.fixed_dictionaries({"id": st.integers(-9, 9), **{name: made for name, (_, made) in KINDS.items()}}), max_size=5
)


@settings(deadline=None, max_examples=30)
@given(made=rows)
def test_what_is_written_can_be_read_again(made: list[dict[str, Any]]) -> None:
    registry = unused_registry()
    table = pa.Table.from_pylist(made, schema=SCHEMA)

    values = ProtobufEncoder(SCHEMA, registry, "t-value").encode(table).values.to_pylist()
    found = ProtobufDecoder(SCHEMA, None, registry).decode(values)

    assert found.bad == ()
    assert found.table.equals(table)
    assert found.table.schema == SCHEMA


def test_special_messages_enums_maps_and_nested_messages_have_columns() -> None:
    registry = unused_registry()
    file = everything()
    schema_id = registry.register("t-value", base64.b64encode(file.SerializeToString()).decode(), "PROTOBUF")
    written = registry.schema(schema_id)
    outer = GetMessageClass(descriptors_of(written).message_types_by_name["Outer"])
    one = outer(kind=1, counts={"a": 2}, name={"value": ""}, wait={"seconds": 3}, inner={"x": 5}, plain=0)
    columns = message_columns(written)

    messages = [
        header_of(schema_id) + b"\0" + one.SerializeToString(),
        header_of(schema_id) + b"\0" + outer(kind=7).SerializeToString(),
        header_of(schema_id) + b"\x04\x00\x00" + outer.Inner(x=9).SerializeToString(),
    ]
    decoder = ProtobufDecoder(pa.schema([*columns, pa.field("x", pa.int32())]), None, registry)
    found = decoder.decode(messages).table.to_pylist()

    empty = {"kind": None, "counts": None, "name": None, "wait": None, "inner": None, "plain": None, "x": None}
    second = {**empty, "kind": "7", "counts": [], "plain": 0}
    assert "itself" not in columns.names
    assert found[:2] == [
        {
            "kind": "ONE",
            "counts": [{"key": "a", "value": 2}],
            "name": "",
            "wait": datetime.timedelta(seconds=3),
            "inner": {"x": 5},
            "plain": 0,
            "x": None,
        },
        second,
    ]


def test_a_record_that_cannot_be_read_costs_only_itself_and_says_why() -> None:
    registry = unused_registry()
    narrow = pa.schema([pa.field("id", pa.int64(), nullable=False)])
    [good] = (
        ProtobufEncoder(narrow, registry, "t-value").encode(pa.table({"id": [300]}, schema=narrow)).values.to_pylist()
    )
    messages = [
        good,
        b"",
        b'{"n":1}',
        good[:5],
        header_of(99) + good[5:],
        good[:6] + b"\x08",
        good[:5] + b"\x02\x09",
        good,
    ]

    found = ProtobufDecoder(narrow, None, registry).decode(messages)
    small = ProtobufDecoder(pa.schema([pa.field("id", pa.int8())]), None, registry).decode([good])

    assert found.table["id"].to_pylist() == [300, 300]
    reasons = dict(found.bad)
    assert sorted(reasons) == [1, 2, 3, 4, 5, 6]
    assert "not in the wire format" in reasons[2]
    assert "schema id 99: there is none" in reasons[4]
    assert "names message [-5]" in reasons[6] or "names no message" in reasons[6]
    assert small.bad == ((0, "id is 300, not int8"),)


def test_rows_are_counted_even_if_no_column_is_needed() -> None:
    registry = unused_registry()
    values = (
        ProtobufEncoder(SCHEMA, registry, "t-value").encode(pa.Table.from_pylist([{"id": 1}] * 2, schema=SCHEMA)).values
    )

    found = ProtobufDecoder(pa.schema([]), None, registry).decode([*values.to_pylist(), b"x"])

    assert found.table.num_rows == 2


def test_what_protobuf_does_not_have_is_refused() -> None:
    with pytest.raises(PlanError, match="'o.d' has type date32"):
        file_of(pa.schema([pa.field("o", pa.struct([pa.field("d", pa.date32())]))]))
    schema = pa.schema([pa.field("l", pa.list_(pa.int64()))])
    with pytest.raises(BadRecordError, match="may hold no null"):
        ProtobufEncoder(schema, unused_registry(), "t").encode(pa.table({"l": [[1, None]]}, schema=schema))


def everything() -> FileDescriptorProto:
    file = FileDescriptorProto(name="x.proto", package="x", syntax="proto3")
    file.dependency.extend(["google/protobuf/wrappers.proto", "google/protobuf/duration.proto"])
    enum = file.enum_type.add(name="Kind")
    for number, name in enumerate(["NONE", "ONE"]):
        enum.value.add(name=name, number=number)
    outer = file.message_type.add(name="Outer")
    inner = outer.nested_type.add(name="Inner")
    inner.field.add(name="x", number=1, type=5, label=1)
    entry = outer.nested_type.add(name="CountsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=9, label=1)
    entry.field.add(name="value", number=2, type=3, label=1)
    outer.field.add(name="kind", number=1, type=14, label=1, type_name=".x.Kind")
    outer.field.add(name="counts", number=2, type=11, label=3, type_name=".x.Outer.CountsEntry")
    outer.field.add(name="name", number=3, type=11, label=1, type_name=".google.protobuf.StringValue")
    outer.field.add(name="wait", number=4, type=11, label=1, type_name=".google.protobuf.Duration")
    outer.field.add(name="inner", number=5, type=11, label=1, type_name=".x.Outer.Inner")
    outer.field.add(name="plain", number=6, type=5, label=1)
    outer.field.add(name="itself", number=7, type=11, label=1, type_name=".x.Outer")
    return file


def unused_registry() -> Registry:
    return registry_of("test", "protobuf", f"mock://{datetime.datetime.now().isoformat()}")
