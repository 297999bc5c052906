"""The formats by name, as `read_kafka(format=)` and `to_kafka(format=)` choose them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import pyarrow as pa

from microstream.errors import PlanError
from microstream.formats.arrow import ArrowDecoder, ArrowEncoder
from microstream.formats.avro import AvroDecoder, AvroReader
from microstream.formats.avro_encode import AvroEncoder
from microstream.formats.avro_schema import avro_of
from microstream.formats.json import JsonDecoder
from microstream.formats.json_encode import JsonEncoder, check_rows
from microstream.formats.protobuf import ProtobufDecoder, ProtobufEncoder, message_columns
from microstream.formats.protobuf_schema import file_of
from microstream.formats.protocol import Decoder, Encoder
from microstream.formats.registry import Registry, registry_of
from microstream.formats.text import RAW, TEXT, RawDecoder, TextDecoder, ValueEncoder, check_value_column

__all__ = [
    "FORMATS",
    "check_format",
    "check_readable",
    "check_writable",
    "decoder_of",
    "encoder_of",
    "schema_without_one",
]

FORMATS = ("json", "text", "raw", "arrow", "avro", "protobuf")
REGISTERED = ("avro", "protobuf")
"""Formats whose schemas a registry holds."""
PACKAGES = {"avro": "fastavro", "protobuf": "google.protobuf"}


def schema_without_one(where: str, format: str, topics: Sequence[str], registry: Registry | None) -> pa.Schema:
    """The columns of records of `format` in `topics` where the user declares none.

    With a registry they are those of the newest schema of the first topic's values; fields without a type are left out.

    Raises
    ------
    PlanError
        They must be declared.
    """
    match format:
        case "text":
            return TEXT
        case "raw":
            return RAW
        case "avro" if registry is not None:
            return AvroReader.of(registry.latest(subject_of(topics[0]))).columns
        case "protobuf" if registry is not None:
            return message_columns(registry.latest(subject_of(topics[0]), form="serialized"))
        case _:
            raise PlanError(f"{where}(format={format!r}): give schema=, as in schema={{'id': 'int64', 'name': 'str'}}.")


def check_format(where: str, format: str, registry: Registry | None) -> None:
    """Raise PlanError unless `format` is one, and has a registry if it needs one."""
    if format not in FORMATS:
        raise PlanError(f"{where}(format={format!r}): must be one of {', '.join(map(repr, FORMATS))}.")
    if format in REGISTERED and registry is None:
        registry_of(where, format, None)
    if format in REGISTERED and not _is_installed(PACKAGES[format]):
        raise PlanError(
            f"{where}(format={format!r}): needs a package that is not here: pip install 'microstream[{format}]', or in "
            f"a clone '.[{format}]'."
        )
    if registry is not None and format not in REGISTERED:
        raise PlanError(f"{where}(format={format!r}): schema_registry= is for {', '.join(map(repr, REGISTERED))} only.")


def check_readable(where: str, format: str, schema: pa.Schema) -> None:
    """Raise PlanError where records of `format` cannot hold the columns of `schema`."""
    match format:
        case "text":
            check_value_column(f"{where}(format='text')", schema, TEXT.types)
        case "raw":
            check_value_column(f"{where}(format='raw')", schema, RAW.types)
        case "json":
            decoder_of(format, schema, None, None)


def check_writable(where: str, format: str, schema: pa.Schema) -> None:
    """Raise PlanError where rows of `schema` have no form in `format`."""
    if not schema.names:
        raise PlanError(f"{where}: the frame has no columns.")
    match format:
        case "text":
            check_value_column(f"{where}(format='text')", schema, TEXT.types)
        case "raw":
            check_value_column(f"{where}(format='raw')", schema, [*RAW.types, *TEXT.types])
        case "json":
            check_rows(schema)
        case "avro":
            avro_of(schema)
        case "protobuf":
            file_of(schema)


def decoder_of(format: str, schema: pa.Schema, event_time: str | None, registry: Registry | None) -> Decoder:
    """What reads the columns of `schema`, which may be fewer than records have; `event_time` as for `JsonDecoder`."""
    match format:
        case "text":
            return TextDecoder(schema)
        case "raw":
            return RawDecoder(schema)
        case "arrow":
            return ArrowDecoder(schema, event_time)
        case "avro" if registry is not None:
            return AvroDecoder(schema, event_time, registry)
        case "protobuf" if registry is not None:
            return ProtobufDecoder(schema, event_time, registry)
        case _:
            return JsonDecoder(schema, event_time)


def encoder_of(format: str, schema: pa.Schema, *, topic: str, registry: Registry | None, together: bool) -> Encoder:
    """What writes rows of `schema`; `together`: several rows may share a record, where the format can do that."""
    match format:
        case "text" | "raw":
            return ValueEncoder()
        case "arrow":
            return ArrowEncoder(schema, together)
        case "avro" if registry is not None:
            return AvroEncoder(schema, registry, subject_of(topic))
        case "protobuf" if registry is not None:
            return ProtobufEncoder(schema, registry, subject_of(topic))
        case _:
            return JsonEncoder()


def subject_of(topic: str) -> str:
    """Under which the schemas of a topic's values are registered (the registries' TopicNameStrategy)."""
    return f"{topic}-value"


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # not even the package around it
        return False
