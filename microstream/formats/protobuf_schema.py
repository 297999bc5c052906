"""Protobuf messages and Arrow types: what a message holds as columns, and the message for columns to write.

| Protobuf | Arrow |
|---|---|
| int32, int64, uint32, uint64 and kin, float, double, bool | the same |
| string, bytes | large_string, large_binary |
| enum | large_string: the name, or the number where it has none |
| google.protobuf.Timestamp, Duration, and the wrappers | timestamp[us], duration[us], the nullable value |
| message, repeated, map | struct, list, list of structs (key, value) |

A field that knows whether it was set is nullable; others have proto3's default instead. A message within itself has no
column.
"""

from __future__ import annotations

import base64
import binascii
from importlib import import_module
from typing import Any

import pyarrow as pa

from microstream.errors import PlanError
from microstream.formats.registry import WrittenSchema

__all__ = ["descriptors_of", "file_of", "is_wrapper", "type_of"]

TIME = pa.timestamp("us")
MESSAGE = "google.protobuf."
SPECIAL: dict[str, pa.DataType] = {MESSAGE + "Timestamp": TIME, MESSAGE + "Duration": pa.duration("us")}


def descriptors_of(written: WrittenSchema) -> Any:
    """The file descriptor of a registered schema, and its references, in a pool of their own.

    Raises
    ------
    PlanError
        It is no Protobuf schema, or the registry gave its source and not its serialised form.
    """
    from google.protobuf.descriptor_pool import DescriptorPool

    if written.kind != "PROTOBUF":
        raise PlanError(f"schema {written.id} is {written.kind}, not PROTOBUF. Use format='{written.kind.lower()}'.")
    pool = DescriptorPool()
    return pool.FindFileByName(_add(pool, "schema.proto", written))


def _add(pool: Any, name: str, written: WrittenSchema) -> str:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.message import DecodeError

    try:
        file = FileDescriptorProto.FromString(base64.b64decode(written.text, validate=True))
    except (binascii.Error, DecodeError, ValueError) as problem:
        raise PlanError(
            f"schema {written.id}: the registry did not give the serialised form of a .proto file (format=serialized), "
            "which Confluent's and Karapace give. Use one that does."
        ) from problem
    file.name = name
    known = dict(written.references)
    for needed in file.dependency:
        if needed in known:
            _add(pool, needed, known[needed])
        elif needed.startswith("google/protobuf/"):
            _add_well_known(pool, needed)
        else:
            raise PlanError(f"schema {written.id} imports {needed!r}, which is none of its references.")
    pool.Add(file)
    return name


def _add_well_known(pool: Any, name: str) -> None:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    module = import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
    pool.Add(FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb))


def is_wrapper(message: Any) -> bool:
    """Whether a message is one of the wrappers, such as Int64Value, that make a value nullable."""
    return bool(message.file.name == "google/protobuf/wrappers.proto")


def type_of(field: Any, around: frozenset[str] = frozenset()) -> pa.DataType | None:
    """The Arrow type of a field descriptor within the messages `around`; None where it has no column."""
    one = _single_type(field, around | {field.containing_type.full_name})
    return pa.list_(one) if one is not None and field.is_repeated else one


def _single_type(field: Any, around: frozenset[str]) -> pa.DataType | None:
    kinds: dict[int, pa.DataType] = {
        field.CPPTYPE_INT32: pa.int32(),
        field.CPPTYPE_INT64: pa.int64(),
        field.CPPTYPE_UINT32: pa.uint32(),
        field.CPPTYPE_UINT64: pa.uint64(),
        field.CPPTYPE_FLOAT: pa.float32(),
        field.CPPTYPE_DOUBLE: pa.float64(),
        field.CPPTYPE_BOOL: pa.bool_(),
        field.CPPTYPE_ENUM: pa.large_string(),
    }
    if field.cpp_type == field.CPPTYPE_STRING:
        return pa.large_binary() if field.type == field.TYPE_BYTES else pa.large_string()
    if field.cpp_type != field.CPPTYPE_MESSAGE:
        return kinds[field.cpp_type]
    message = field.message_type
    if message.full_name in SPECIAL:
        return SPECIAL[message.full_name]
    if is_wrapper(message):
        return _single_type(message.fields_by_name["value"], around)
    if message.full_name in around:
        return None
    types = [type_of(inner, around) for inner in message.fields]
    known = [pa.field(inner.name, kind) for inner, kind in zip(message.fields, types, strict=True) if kind is not None]
    return pa.struct(known) if len(known) == len(types) else None


def file_of(schema: pa.Schema) -> Any:
    """The file descriptor (as a message) of one message `Row` for rows of `schema`: columns are numbered from 1.

    Raises
    ------
    PlanError
        A column has a type that Protobuf does not have.
    """
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    file = FileDescriptorProto(name="row.proto", package="microstream", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    row = file.message_type.add(name="Row")
    _fill(row, schema, ".microstream.Row", "")
    return file


def _fill(message: Any, fields: Any, scope: str, path: str) -> None:
    for number, column in enumerate(fields, 1):
        kind: Any = column.type
        repeated = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        field = message.field.add(name=column.name, number=number)
        field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
        _set_type(field, message, kind.value_type if repeated else kind, scope, f"{path}{column.name}")
        if column.nullable and not repeated and field.type != field.TYPE_MESSAGE:
            field.proto3_optional = True
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{column.name}")


def _set_type(field: Any, message: Any, kind: Any, scope: str, path: str) -> None:
    if kind == TIME:
        field.type, field.type_name = field.TYPE_MESSAGE, f".{MESSAGE}Timestamp"
        return
    if pa.types.is_struct(kind):
        nested = message.nested_type.add(name=f"Of_{field.name}")
        field.type, field.type_name = field.TYPE_MESSAGE, f"{scope}.{nested.name}"
        _fill(nested, list(kind), field.type_name, f"{path}.")
        return
    names = [name for name, belongs in SIMPLE if belongs(kind)]
    if not names:
        raise PlanError(
            f"to_kafka(format='protobuf'): column {path!r} has type {kind}, which has no Protobuf form here. There "
            "are: integers, floats, bool, text, binary, timestamps, lists of these, and structs. Drop or convert it."
        )
    field.type = getattr(field, f"TYPE_{names[0]}")


SIMPLE: tuple[tuple[str, Any], ...] = (
    ("INT32", lambda kind: pa.types.is_signed_integer(kind) and kind.bit_width <= 32),
    ("INT64", pa.types.is_int64),
    ("UINT32", lambda kind: pa.types.is_unsigned_integer(kind) and kind.bit_width <= 32),
    ("UINT64", pa.types.is_uint64),
    ("FLOAT", pa.types.is_float32),
    ("DOUBLE", pa.types.is_float64),
    ("BOOL", pa.types.is_boolean),
    ("STRING", lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind)),
    ("BYTES", lambda kind: pa.types.is_binary(kind) or pa.types.is_large_binary(kind)),
)
