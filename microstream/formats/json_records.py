"""Flat JSON messages, one at a time in C: twice as fast as a parser of blocks while few of their fields are wanted.

msgspec decodes each message into a struct of the wanted fields and passes over the others; columns are taken from the
structs. It is as strict as pyarrow.json but for text that is not UTF-8 in fields that it passes over, which is looked
for here, and for fields that are given twice, of which it takes the last. What it refuses is not bad yet: NaN, and
nesting that is deeper than it goes, are for the block parser to judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Annotated, Any, cast

import msgspec
import numpy as np
import pyarrow as pa

__all__ = ["RecordReader"]

ESCAPED = re.compile(r'["\\\x00-\x1f]')

MOST_COST = 12
TEXT_COST = 3
"""A column of text costs as much as three of numbers; with seven columns, three of them text, blocks are as fast."""


class RecordReader:
    """Reads the fields of a flat schema.

    Parameters
    ----------
    schema
        The fields as they are declared: one that is not nullable must be there.
    wire
        The same fields in the types that are read.
    """

    def __init__(self, schema: pa.Schema, wire: pa.Schema) -> None:
        places = [f"f{at}" for at in range(len(wire))]
        fields: list[Any] = []
        for place, declared, read in zip(places, schema, wire, strict=True):
            kind = _python_type(read.type)
            fields.append((place, kind | None, None) if declared.nullable else (place, kind))
        # Ours, so that a field of the data may have any name; optional fields may precede required ones.
        names = dict(zip(places, wire.names, strict=True))
        record = msgspec.defstruct("Record", fields, rename=names.get, gc=False, kw_only=True)
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(record).decode
        self._wire = wire
        self._columns = [
            (attrgetter(place), read.type, _filled(read.type) if not declared.nullable else None)
            for place, declared, read in zip(places, schema, wire, strict=True)
        ]

    @staticmethod
    def fits(wire: pa.Schema) -> bool:
        """Whether all fields are of types that are judged alike here and by blocks, and few enough.

        msgspec does not look for names that JSON would have to escape.

        >>> RecordReader.fits(pa.schema({"n": pa.int64(), "s": pa.string()}))
        True
        >>> RecordReader.fits(pa.schema({"n": pa.list_(pa.int64())})), RecordReader.fits(pa.schema([]))
        (False, False)
        """
        kinds = wire.types
        cost = sum(TEXT_COST if _is_text(kind) else 1 for kind in kinds)
        judged_alike = all(_is_text(kind) or _is_number(kind) for kind in kinds)
        return 0 < cost <= MOST_COST and judged_alike and not any(map(ESCAPED.search, wire.names))

    def read(self, messages: Sequence[bytes]) -> tuple[pa.Table, list[int]]:
        """Rows of all messages but those whose indices are returned beside, which another parser must judge."""
        try:
            if not all(map(bytes.isascii, messages)):
                b"\n".join(messages).decode()
            return self._table(list(map(self._decode, messages))), []
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return self._one_by_one(messages)

    def _one_by_one(self, messages: Sequence[bytes]) -> tuple[pa.Table, list[int]]:
        records, others = [], []
        for at, message in enumerate(messages):
            try:
                message.decode()
                records.append(self._decode(message))
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                others.append(at)
        return self._table(records), others

    def _table(self, records: Sequence[Any]) -> pa.Table:
        columns: list[Any] = []
        for get, kind, filled in self._columns:
            values = map(get, records)
            if filled is not None:
                columns.append(pa.array(np.fromiter(values, filled, len(records)), kind))
            else:
                columns.append(pa.array(list(values), kind))
        return pa.Table.from_arrays(columns, schema=self._wire)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_number(kind: pa.DataType) -> bool:
    # float32 would be rounded twice; msgspec's bounds are int64.
    is_ = pa.types
    return is_.is_float64(kind) or is_.is_boolean(kind) or (is_.is_integer(kind) and not is_.is_uint64(kind))


def _python_type(kind: pa.DataType) -> Any:
    if _is_text(kind):
        return str
    if pa.types.is_float64(kind):
        return float
    if pa.types.is_boolean(kind):
        return bool
    bounds: Any = np.iinfo(cast("Any", kind.to_pandas_dtype()))
    return Annotated[int, msgspec.Meta(ge=int(bounds.min), le=int(bounds.max))]


def _filled(kind: pa.DataType) -> Any:
    """The NumPy type of a column without nulls; None for text."""
    return None if _is_text(kind) else kind.to_pandas_dtype()
