"""Avro schemas and Arrow types: what a writer's schema holds as columns, and the schema for columns to write.

| Avro | Arrow |
|---|---|
| boolean, int, long, float, double, bytes and fixed, string and enum | bool, int32, int64, float, double, large_binary, large_string |
| date, time-*, timestamp-* and local-timestamp-*, decimal (of 38 digits at most), uuid | date32, time64[us], timestamp, decimal128, large_string |
| array, record, map | list, struct, list of structs (key, value) |
| a union of null and one other type | that type, nullable |

Unions of several types, and records within themselves, have no column; they may be there if nobody asks for them.
"""  # noqa: E501

from __future__ import annotations

import json
import re
from typing import Any

import pyarrow as pa

from microstream.errors import PlanError

__all__ = ["avro_of", "columns_of", "is_quick", "plain", "text_of"]

TIME = pa.timestamp("us")
PRIMITIVES: dict[str, pa.DataType] = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.large_binary(),
    "string": pa.large_string(),
}
LOGICAL: dict[str, pa.DataType] = {
    "date": pa.date32(),
    "time-millis": pa.time32("ms"),
    "time-micros": pa.time64("us"),
    "timestamp-millis": pa.timestamp("ms", "UTC"),
    "timestamp-micros": pa.timestamp("us", "UTC"),
    "timestamp-nanos": pa.timestamp("ns", "UTC"),
    "local-timestamp-millis": pa.timestamp("ms"),
    "local-timestamp-micros": pa.timestamp("us"),
    "local-timestamp-nanos": pa.timestamp("ns"),
}
BASES = {"date": "int", "time-millis": "int"}
MOST_DIGITS = 38
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def columns_of(schema: Any) -> pa.Schema:
    """The columns that a record of the Avro `schema` (parsed JSON, without references) holds, as they are there.

    Raises
    ------
    PlanError
        It is no record.
    """
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise PlanError(f"an Avro schema that is read as columns must be a record, not {json.dumps(schema)[:100]}.")
    fields = [(field["name"], _nullable(field["type"])) for field in schema["fields"]]
    return pa.schema([pa.field(name, kind, nullable=null) for name, (kind, null) in fields if kind is not None])


def _nullable(schema: Any) -> tuple[pa.DataType | None, bool]:
    """The type of a value, None where it has none here, and whether it may be null."""
    if isinstance(schema, list):
        others = [branch for branch in schema if branch != "null"]
        return (_type_of(others[0]) if len(others) == 1 else None), len(others) < len(schema)
    return _type_of(schema), schema == "null"


def _type_of(schema: Any) -> pa.DataType | None:
    if isinstance(schema, list):
        return _nullable(schema)[0]
    if isinstance(schema, str):
        return PRIMITIVES.get(schema)
    logical = schema.get("logicalType")
    kind = schema["type"]
    if logical in LOGICAL and kind == BASES.get(logical, "long"):
        return LOGICAL[logical]
    if logical == "decimal" and kind in ("bytes", "fixed") and schema.get("precision", 99) <= MOST_DIGITS:
        return pa.decimal128(schema["precision"], schema.get("scale", 0))
    match kind:
        case "array":
            return _list_of(schema["items"])
        case "map":
            value = _item("value", schema["values"])
            return None if value is None else pa.list_(pa.struct([pa.field("key", pa.large_string()), value]))
        case "record":
            fields = [_item(field["name"], field["type"]) for field in schema["fields"]]
            known = [field for field in fields if field is not None]
            return pa.struct(known) if len(known) == len(fields) else None
        case "enum":
            return pa.large_string()
        case "fixed":
            return pa.large_binary()
        case _:
            return _type_of(kind)


def _list_of(items: Any) -> pa.DataType | None:
    item = _item("item", items)
    return None if item is None else pa.list_(item)


def _item(name: str, schema: Any) -> pa.Field[Any] | None:
    kind, _ = _nullable(schema)
    return None if kind is None else pa.field(name, kind)


def plain(schema: Any) -> Any:
    """`schema` without logical types but decimal: times are numbers, which have no first and last year."""
    if isinstance(schema, list):
        return [plain(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: value for name, value in schema.items() if name != "logicalType" or value == "decimal"}
    for name in ("type", "items", "values"):
        if name in kept:
            kept[name] = plain(kept[name])
    if "fields" in kept:
        kept["fields"] = [{**field, "type": plain(field["type"])} for field in kept["fields"]]
    return kept


def is_quick(schema: Any) -> bool:
    """Whether polars reads `schema` by columns: no maps, no unions but of null and one, no nullable enums."""
    match schema:
        case str():
            return schema in PRIMITIVES and schema != "null"
        case list():
            others = [branch for branch in schema if branch != "null"]
            enum = any(isinstance(branch, dict) and branch.get("type") == "enum" for branch in others)
            return len(schema) == 2 and len(others) == 1 and not enum and is_quick(others[0])
        case {"logicalType": "timestamp-nanos" | "local-timestamp-nanos" | "duration"}:
            return False
        case {"logicalType": "decimal", "precision": int(precision)} if precision > MOST_DIGITS:
            return False
        case {"type": "record", "fields": fields}:
            return bool(fields) and all(is_quick(field["type"]) for field in fields)
        case {"type": "array", "items": items}:
            return is_quick(items)
        case {"type": "enum" | "fixed"}:
            return True
        case {"type": kind}:
            return is_quick(kind)
        case _:
            return False


def avro_of(schema: pa.Schema) -> dict[str, Any]:
    """The Avro record for rows of `schema`: nullable columns are unions with null, which is their default.

    Raises
    ------
    PlanError
        A column has a name or type that Avro does not have.

    >>> avro_of(pa.schema([pa.field("n", pa.int64(), nullable=False)]))["fields"]
    [{'name': 'n', 'type': 'long'}]
    """
    return {"type": "record", "name": "Row", "namespace": "microstream", "fields": _fields_of(schema, "Row")}


def text_of(avro: Any) -> str:
    """`avro` as it is registered."""
    return json.dumps(avro, separators=(",", ":"))


def _fields_of(fields: Any, path: str) -> list[dict[str, Any]]:
    return [_field_of(field, f"{path}_{field.name}") for field in fields]


def _field_of(field: pa.Field[Any], path: str) -> dict[str, Any]:
    if not NAME.fullmatch(field.name):
        raise PlanError(f"to_kafka(format='avro'): {field.name!r} is no name in Avro. Rename the column.")
    kind = _avro_type(field.type, path)
    if not field.nullable:
        return {"name": field.name, "type": kind}
    return {"name": field.name, "type": ["null", kind], "default": None}


def _avro_type(kind: Any, path: str) -> Any:
    for belongs, name in SIMPLE:
        if belongs(kind):
            return name
    if pa.types.is_decimal128(kind):
        return {"type": "bytes", "logicalType": "decimal", "precision": kind.precision, "scale": kind.scale}
    if kind == TIME:
        return {"type": "long", "logicalType": "timestamp-micros"}
    if pa.types.is_date32(kind):
        return {"type": "int", "logicalType": "date"}
    if kind == pa.time64("us"):
        return {"type": "long", "logicalType": "time-micros"}
    if pa.types.is_struct(kind):
        return {"type": "record", "name": path, "fields": _fields_of(list(kind), path)}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        item = _avro_type(kind.value_type, f"{path}_item")
        return {"type": "array", "items": ["null", item] if kind.value_field.nullable else item}
    raise PlanError(
        f"to_kafka(format='avro'): column {path.partition('_')[2]!r} has type {kind}, which has no Avro form here. "
        "There are: integers of 64 bits at most (uint64 has none), floats, bool, text, binary, decimals, dates, times, "
        "timestamps, and lists and structs of these. Drop or convert it."
    )


def _is_int(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) and kind not in (pa.int64(), pa.uint32(), pa.uint64())


SIMPLE: tuple[tuple[Any, str], ...] = (
    (_is_int, "int"),
    (lambda kind: kind in (pa.int64(), pa.uint32()), "long"),
    (pa.types.is_float32, "float"),
    (pa.types.is_float64, "double"),
    (pa.types.is_boolean, "boolean"),
    (lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind), "string"),
    (lambda kind: pa.types.is_binary(kind) or pa.types.is_large_binary(kind), "bytes"),
)
