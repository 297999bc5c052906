"""Record keys: the same bytes for the same values, whatever the format of the value is."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from microstream.errors import PlanError
from microstream.formats.json_encode import check_rows, encode_rows

__all__ = ["check_key", "encode_keys"]


def check_key(fields: pa.Schema) -> None:
    """Raise PlanError where the columns `fields` cannot be a key."""
    if len(fields) > 1:
        check_rows(fields)
        return
    [field] = fields
    kind = field.type
    textual = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind)
    timely = pa.types.is_timestamp(kind) or pa.types.is_date(kind)
    if not (textual or timely or pa.types.is_integer(kind) or _is_binary(kind)):
        raise PlanError(
            f"to_kafka(key={field.name!r}): a key is text, binary, an integer, a bool or a time, but this column has "
            f"type {kind}. Assign a text column first, or name several columns for a JSON object."
        )


def encode_keys(table: pa.Table) -> pa.Array[Any]:
    """The key of each row as large_binary. Several columns: a JSON object of them, in their order.

    One column: the text of the value in UTF-8 (integers in decimal, times as in JSON rows) or the bytes of a binary
    one; null stays null.

    >>> encode_keys(pa.table({"n": [7, None, -1]})).to_pylist()
    [b'7', None, b'-1']
    >>> encode_keys(pa.table({"n": [7, None], "s": ["a", "b"]})).to_pylist()
    [b'{"n":7,"s":"a"}', b'{"n":null,"s":"b"}']
    """
    if table.num_columns > 1:
        return encode_rows(table)
    column: Any = table.column(0)
    if not len(column):
        return pa.array([], pa.large_binary())
    if _is_binary(column.type):
        key: pa.Array[Any] = column.combine_chunks().cast(pa.large_binary())
        return key
    from microstream.formats.json_text import texts_of

    return texts_of(column)


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
