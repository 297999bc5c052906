"""Records that are one text, or bytes that nobody looks into: one column `value`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from microstream.errors import PlanError
from microstream.formats.protocol import Decoded, Encoded

__all__ = ["RAW", "TEXT", "RawDecoder", "TextDecoder", "ValueEncoder", "check_value_column"]

TEXT = pa.schema([pa.field("value", pa.large_string())])
RAW = pa.schema([pa.field("value", pa.large_binary())])
"""What a frame of such records has without `schema=`. Empty records are empty values, not null."""


class TextDecoder:
    """Each record is a text in UTF-8; another is bad.

    >>> decoded = TextDecoder(TEXT).decode(["é".encode(), b"", bytes([255])])
    >>> decoded.table["value"].to_pylist(), [index for index, _ in decoded.bad]
    (['é', ''], [2])
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema

    def decode(self, messages: Sequence[bytes], *, latest_us: int | None = None) -> Decoded:
        """One row per record; a text has no event time of its own."""
        values: Any = pa.array(messages, pa.large_binary())
        try:
            return Decoded(table=_table(values.cast(pa.large_string()), self._schema), bad=())
        except pa.ArrowInvalid:
            faults = {at: fault for at, message in enumerate(messages) if (fault := _fault(message))}
        good = values.take(pa.array([at for at in range(len(messages)) if at not in faults], pa.int64()))
        return Decoded(table=_table(good.cast(pa.large_string()), self._schema), bad=tuple(faults.items()))


class RawDecoder:
    """Each record is its bytes; none is bad."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema

    def decode(self, messages: Sequence[bytes], *, latest_us: int | None = None) -> Decoded:
        """One row per record."""
        return Decoded(table=_table(pa.array(messages, pa.large_binary()), self._schema), bad=())


class ValueEncoder:
    """The column `value` as it is; text in UTF-8, null as a tombstone (a record without a value)."""

    def encode(self, table: pa.Table) -> Encoded:
        """One record per row."""
        return Encoded(values=pc.cast(table.column("value").combine_chunks(), pa.large_binary()))


def check_value_column(where: str, schema: pa.Schema, kinds: Sequence[pa.DataType]) -> None:
    """Raise PlanError unless `schema` is one column `value` of one of `kinds`."""
    if schema.names != ["value"] or schema.field(0).type not in kinds:
        shown = ", ".join(f"{field.name}: {field.type}" for field in schema)
        raise PlanError(
            f"{where}: the columns must be one, value: {kinds[0]}, but are {shown or 'none'}. Select and rename the "
            "column to write; leave schema= out to read."
        )


def _table(values: Any, schema: pa.Schema) -> pa.Table:
    if not schema.names:  # a table without columns would forget how many rows it has
        return pa.table({"row": pa.nulls(len(values))}).select([])
    return pa.Table.from_arrays([values], schema=schema)


def _fault(message: bytes) -> str:
    try:
        message.decode()
    except UnicodeDecodeError as problem:
        return f"not UTF-8: {problem}"
    return ""
