"""The formats by name, as `read_kafka(format=)` and `to_kafka(format=)` choose them."""

from __future__ import annotations

import pyarrow as pa

from microstream.errors import PlanError
from microstream.formats.json import JsonDecoder
from microstream.formats.json_encode import JsonEncoder, check_rows
from microstream.formats.protocol import Decoder, Encoder

__all__ = ["FORMATS", "check_readable", "check_writable", "decoder_of", "encoder_of"]

FORMATS = ("json",)


def check_readable(where: str, format: str, schema: pa.Schema) -> None:
    """Raise PlanError where records of `format` cannot hold the columns of `schema`."""
    _require_known(where, format)
    decoder_of(format, schema, None)


def check_writable(where: str, format: str, schema: pa.Schema) -> None:
    """Raise PlanError where rows of `schema` have no form in `format`."""
    _require_known(where, format)
    if not schema.names:
        raise PlanError(f"{where}: the frame has no columns.")
    check_rows(schema)


def decoder_of(format: str, schema: pa.Schema, event_time: str | None) -> Decoder:
    """What reads the columns of `schema`; `event_time` as for `JsonDecoder`."""
    return JsonDecoder(schema, event_time)


def encoder_of(format: str, schema: pa.Schema) -> Encoder:
    """What writes rows of `schema`."""
    return JsonEncoder()


def _require_known(where: str, format: str) -> None:
    if format not in FORMATS:
        raise PlanError(f"{where}(format={format!r}): must be one of {', '.join(map(repr, FORMATS))}.")
