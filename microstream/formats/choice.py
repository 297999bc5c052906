"""The formats by name, as `read_kafka(format=)` and `to_kafka(format=)` choose them."""

from __future__ import annotations

import pyarrow as pa

from microstream.errors import PlanError
from microstream.formats.arrow import ArrowDecoder, ArrowEncoder
from microstream.formats.json import JsonDecoder
from microstream.formats.json_encode import JsonEncoder, check_rows
from microstream.formats.protocol import Decoder, Encoder
from microstream.formats.text import RAW, TEXT, RawDecoder, TextDecoder, ValueEncoder, check_value_column

__all__ = ["FORMATS", "check_readable", "check_writable", "decoder_of", "encoder_of", "schema_without_one"]

FORMATS = ("json", "text", "raw", "arrow")


def schema_without_one(where: str, format: str) -> pa.Schema:
    """The columns of records of `format` where the user declares none.

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
        case _:
            raise PlanError(f"{where}(format={format!r}): give schema=, as in schema={{'id': 'int64', 'name': 'str'}}.")


def check_readable(where: str, format: str, schema: pa.Schema) -> None:
    """Raise PlanError where records of `format` cannot hold the columns of `schema`."""
    _require_known(where, format)
    match format:
        case "text":
            check_value_column(f"{where}(format='text')", schema, TEXT.types)
        case "raw":
            check_value_column(f"{where}(format='raw')", schema, RAW.types)
        case _:
            decoder_of(format, schema, None)


def check_writable(where: str, format: str, schema: pa.Schema) -> None:
    """Raise PlanError where rows of `schema` have no form in `format`."""
    _require_known(where, format)
    if not schema.names:
        raise PlanError(f"{where}: the frame has no columns.")
    match format:
        case "text":
            check_value_column(f"{where}(format='text')", schema, TEXT.types)
        case "raw":
            check_value_column(f"{where}(format='raw')", schema, [*RAW.types, *TEXT.types])
        case "json":
            check_rows(schema)


def decoder_of(format: str, schema: pa.Schema, event_time: str | None) -> Decoder:
    """What reads the columns of `schema`, which may be fewer than records have; `event_time` as for `JsonDecoder`."""
    match format:
        case "text":
            return TextDecoder(schema)
        case "raw":
            return RawDecoder(schema)
        case "arrow":
            return ArrowDecoder(schema, event_time)
        case _:
            return JsonDecoder(schema, event_time)


def encoder_of(format: str, schema: pa.Schema, *, together: bool) -> Encoder:
    """What writes rows of `schema`; `together`: several rows may share a record, where the format can do that."""
    match format:
        case "text" | "raw":
            return ValueEncoder()
        case "arrow":
            return ArrowEncoder(schema, together)
        case _:
            return JsonEncoder()


def _require_known(where: str, format: str) -> None:
    if format not in FORMATS:
        raise PlanError(f"{where}(format={format!r}): must be one of {', '.join(map(repr, FORMATS))}.")
