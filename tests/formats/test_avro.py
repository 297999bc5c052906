"""Reading many records together gives what reading each by itself gives, and both what fastavro wrote."""

from __future__ import annotations

import datetime
import decimal
import io
import json
from typing import Any

import any_tables as tables
import fastavro
import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings

from microstream.errors import PlanError
from microstream.formats.avro import AvroDecoder, AvroReader
from microstream.formats.avro_encode import AvroEncoder
from microstream.formats.avro_schema import avro_of
from microstream.formats.registry import Registry, WrittenSchema, header_of, registry_of

EPOCH = datetime.datetime(1970, 1, 1)
times = st.datetimes(datetime.datetime(1, 1, 2), datetime.datetime(9998, 1, 1))
millis = st.integers(-(2**52), 2**52)


def nullable(kind: Any, values: st.SearchStrategy[Any]) -> tuple[Any, st.SearchStrategy[Any]]:
    return ["null", kind], st.none() | values


INNER = {
    "type": "record",
    "name": "Inner",
    "fields": [{"name": "a", "type": ["null", "long"]}, {"name": "s", "type": "string"}],
}
inner = st.fixed_dictionaries({"a": st.none() | st.integers(-9, 9), "s": st.text(max_size=2)})
FIELDS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "id": ("long", st.integers(-(2**63), 2**63 - 1)),
    "i": nullable("int", st.integers(-(2**31), 2**31 - 1)),
    "f": ("float", st.floats(width=32, allow_nan=False)),
    "g": nullable("double", st.floats(allow_nan=False)),
    "ok": ("boolean", st.booleans()),
    "s": nullable("string", st.text(max_size=4)),
    "raw": ("bytes", st.binary(max_size=4)),
    "two": ({"type": "fixed", "name": "Two", "size": 2}, st.binary(min_size=2, max_size=2)),
    "kind": ({"type": "enum", "name": "Kind", "symbols": ["A", "B"]}, st.sampled_from("AB")),
    "ms": ({"type": "long", "logicalType": "timestamp-millis"}, millis),
    "us": nullable({"type": "long", "logicalType": "local-timestamp-micros"}, millis),
    "day": nullable({"type": "int", "logicalType": "date"}, st.integers(-(10**5), 10**5)),
    "clock": ({"type": "int", "logicalType": "time-millis"}, st.integers(0, 86_399_999)),
    "cost": (
        {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
        st.integers(-(10**8), 10**8).map(lambda n: decimal.Decimal(n).scaleb(-2)),
    ),
    "tags": nullable(
        {"type": "array", "items": ["null", "string"]}, st.lists(st.none() | st.text(max_size=2), max_size=2)
    ),
    "inner": nullable(INNER, inner),
    "inners": ({"type": "array", "items": "Inner"}, st.lists(inner, max_size=2)),
}
QUICK = {
    "type": "record",
    "name": "Row",
    "fields": [{"name": name, "type": kind} for name, (kind, _) in FIELDS.items()],
}
SLOW = {**QUICK, "fields": [*QUICK["fields"], {"name": "more", "type": {"type": "map", "values": "long"}}]}
records = st.fixed_dictionaries({name: made for name, (_, made) in FIELDS.items()})
ALL = pa.schema(
    [
        pa.field("s", pa.large_string()),
        pa.field("id", pa.int64(), nullable=False),
        pa.field("i", pa.int64()),
        pa.field("f", pa.float64()),
        pa.field("g", pa.float64()),
        pa.field("ok", pa.bool_(), nullable=False),
        pa.field("raw", pa.large_binary()),
        pa.field("two", pa.large_binary()),
        pa.field("kind", pa.large_string()),
        pa.field("ms", pa.timestamp("us")),
        pa.field("us", pa.timestamp("us")),
        pa.field("day", pa.date32()),
        pa.field("clock", pa.time64("us")),
        pa.field("cost", pa.decimal128(12, 2)),
        pa.field("tags", pa.list_(pa.large_string())),
        pa.field("inner", pa.struct([pa.field("s", pa.large_string()), pa.field("a", pa.int64())])),
        pa.field("inners", pa.list_(pa.struct([pa.field("a", pa.int64())]))),
        pa.field("absent", pa.int32()),
    ]
)


@settings(deadline=None, max_examples=30)
@given(
    made=st.lists(records, max_size=5),
    damage=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 80), st.integers(0, 255)), max_size=2),
    extra=st.dictionaries(st.integers(0, 4), st.binary(min_size=1, max_size=9), max_size=1),
    cut=st.dictionaries(st.integers(0, 4), st.integers(1, 20), max_size=1),
)
def test_reading_together_is_reading_each_by_itself(
    made: list[dict[str, Any]], damage: list[tuple[int, int, int]], extra: dict[int, bytes], cut: dict[int, int]
) -> None:
    payloads = [bytearray(written(QUICK, row)) for row in made]
    for at, place, value in damage:
        if at < len(payloads):
            payloads[at][place % len(payloads[at])] = value
    broken = [bytes(p)[: len(p) - cut.get(at, 0)] + extra.get(at, b"") for at, p in enumerate(payloads)]
    reader = AvroReader.of(registered(QUICK))
    singly = [reader.read([payload]) for payload in broken]

    table, faults = reader.read(broken)

    assert reader.header is not None
    parts = [reader.columns.empty_table(), *(each for each, _ in singly)]
    assert without_nan(table).equals(without_nan(pa.concat_tables(parts)))
    assert sorted(faults) == [at for at, (_, fault) in enumerate(singly) if fault]
    untouched = [at for at, payload in enumerate(broken) if payload == written(QUICK, made[at])]
    assert not set(untouched) & set(faults)


@settings(deadline=None, max_examples=30)
@given(made=st.lists(records, max_size=4), slow=st.lists(st.booleans(), min_size=4, max_size=4))
def test_columns_are_what_was_written_whatever_the_schema_of_each_record(
    made: list[dict[str, Any]], slow: list[bool]
) -> None:
    registry = unused_registry()
    ids = {False: register(registry, QUICK), True: register(registry, SLOW)}
    messages = [
        header_of(ids[odd]) + written(SLOW if odd else QUICK, {**row, "more": {"x": 1}})
        for row, odd in zip(made, slow, strict=False)
    ]

    found = AvroDecoder(ALL, None, registry).decode(messages)

    assert found.bad == ()
    assert found.table.schema == ALL
    assert found.table.equals(pa.Table.from_pylist([expected(row) for row in made], schema=ALL))


def test_a_record_that_cannot_be_read_costs_only_itself_and_says_why() -> None:
    registry = unused_registry()
    number = register(registry, {"type": "record", "name": "R", "fields": [{"name": "n", "type": ["null", "long"]}]})
    text = register(registry, {"type": "record", "name": "S", "fields": [{"name": "n", "type": "string"}]})
    schema = pa.schema([pa.field("n", pa.int8(), nullable=False)])
    one, much, null = b"\x02\x02", b"\x02\xf4\x03", b"\x00"
    messages = [
        header_of(number) + one,
        b'{"n":1}',
        b"",
        header_of(99) + one,
        header_of(text) + b"\x02x",
        header_of(number) + much,
        header_of(number) + null,
        header_of(number) + one + b"more",
        header_of(number) + b"\x02",
        header_of(number) + one,
    ]

    found = AvroDecoder(schema, None, registry).decode(messages)

    assert found.table["n"].to_pylist() == [1, 1]
    reasons = dict(found.bad)
    assert sorted(reasons) == list(range(1, 9))
    assert reasons[1].startswith("not in the wire format")
    assert "schema id 99: there is none" in reasons[3]
    assert "records hold large_string" in reasons[4]
    assert reasons[5] == "n is 250, not int8"
    assert reasons[6] == "n is null or missing, but declared not null"
    assert "4 bytes follow its end" in reasons[7]
    assert "not a record of its schema" in reasons[8]


def test_rows_are_counted_even_if_no_column_is_needed() -> None:
    registry = unused_registry()
    number = register(registry, {"type": "record", "name": "R", "fields": [{"name": "n", "type": "long"}]})

    found = AvroDecoder(pa.schema([]), None, registry).decode([header_of(number) + b"\x02", b"", header_of(number)])

    assert found.table.num_rows == 1
    assert [at for at, _ in found.bad] == [1, 2]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_numbers_are_times_in_the_declared_unit(unit: str) -> None:
    registry = unused_registry()
    number = register(registry, {"type": "record", "name": "R", "fields": [{"name": "t", "type": "long"}]})
    schema = pa.schema([pa.field("t", pa.timestamp("us"), metadata={"microstream": f"epoch[{unit}]"})])

    found = AvroDecoder(schema, "t", registry).decode([header_of(number) + b"\x80\xa4\xe8\x03"], latest_us=10**16)

    assert found.table["t"].cast(pa.int64()).to_pylist() == [
        4_000_000 * {"s": 10**6, "ms": 1000, "us": 1, "ns": 1e-3}[unit]
    ]


def without_nan(table: pa.Table) -> pa.Table:
    """`table`, in which damage made NaN of floats: they are equal to nothing."""
    for name in ("f", "g"):
        at = table.column_names.index(name)
        column = table.column(name)
        table = table.set_column(at, name, pc.if_else(pc.is_nan(column), None, column).cast(column.type))
    return table


def unused_registry() -> Registry:
    return registry_of("test", "avro", f"mock://{datetime.datetime.now().isoformat()}")


def register(registry: Registry, schema: Any) -> int:
    return registry.register(f"t-{schema['name']}-{len(schema['fields'])}-value", json.dumps(schema), "AVRO")


def registered(schema: Any) -> WrittenSchema:
    return WrittenSchema(id=1, kind="AVRO", text=json.dumps(schema))


def written(schema: Any, row: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    fastavro.schemaless_writer(sink, fastavro.parse_schema(schema), row)
    return sink.getvalue()


def expected(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: row[name] for name in ALL.names if name in row},
        "ms": row["ms"] * 1000,
        "clock": row["clock"] * 1000,
        "inners": [{"a": one["a"]} for one in row["inners"]],
        "absent": None,
    }


@settings(deadline=None, max_examples=30)
@given(made=tables.rows)
def test_what_is_written_can_be_read_again(made: list[dict[str, Any]]) -> None:
    registry = unused_registry()
    table = tables.table_of(made)

    encoded = AvroEncoder(tables.SCHEMA, registry, "t-value").encode(table)
    found = AvroDecoder(tables.SCHEMA, None, registry).decode(encoded.values.to_pylist())

    assert found.bad == ()
    assert found.table.equals(table)
    assert AvroReader.of(registry.latest("t-value")).header is not None


@pytest.mark.parametrize("kind", [pa.uint64(), pa.duration("us"), pa.list_(pa.duration("us"))])
def test_what_avro_does_not_have_is_refused_when_the_plan_is_built(kind: pa.DataType) -> None:
    with pytest.raises(PlanError, match="'n' has type|'n_item' has type"):
        avro_of(pa.schema([pa.field("n", kind)]))
    with pytest.raises(PlanError, match="is no name in Avro"):
        avro_of(pa.schema([pa.field("a b", pa.int64())]))
