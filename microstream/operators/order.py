"""The one row order: (event time, source, topic, partition, offset), or (event time, key columns) of derived rows.

A row's *place* is text that sorts as what stands between event time and offset, so that it compares the same in every
lane and batch. What is equal in all of that (elements of one exploded row) stays in the order in which it came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from microstream.operators.rows import UNKNOWN, Positions

__all__ = ["NOWHERE", "ORDER", "Order", "Places", "key_text", "partition_text"]

Ints = npt.NDArray[np.int64]

ORDER: Final = pa.struct(
    [
        pa.field("at", pa.int64()),
        pa.field("place", pa.large_string()),
        pa.field("offset", pa.int64()),
        pa.field("ordinal", pa.int64()),
    ]
)
"""An order in the state: event time in microseconds, place, offset, and the number of the row within its batch."""

_NULL_LAST: Final = "\U0010ffff"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Places:
    """Places of the rows that entered a stage, by their position there.

    Attributes
    ----------
    names
        Distinct places, ascending; large_string.
    codes
        Position in `names`, one per row.
    offsets
        One per row.
    """

    names: pa.Array[Any]
    codes: Ints
    offsets: Ints

    @classmethod
    def of(cls, text: Any, offsets: Ints) -> Places:
        """From the place of each row."""
        names, codes = _sorted_codes(text)
        return cls(names=names, codes=codes, offsets=offsets)

    def of_rows(self, origin: Positions | None, at_us: Ints) -> Order:
        """Order of rows at `at_us` that came from the rows at `origin`; those of unknown origin come first."""
        count = len(at_us)
        ordinals = np.arange(count)
        if origin is None or not len(self.codes):
            lost = np.zeros(count, np.int64)
            return Order(at_us=at_us, place=_coded(lost, _NO_NAMES), offsets=lost, ordinals=ordinals)
        known = origin != UNKNOWN
        if known.all():
            codes, offsets, names = self.codes[origin], self.offsets[origin], self.names
        else:
            names = pa.concat_arrays([_NO_NAMES, self.names])
            codes = np.where(known, self.codes[origin] + 1, 0)
            offsets = np.where(known, self.offsets[origin], 0)
        return Order(at_us=at_us, place=_coded(codes, names), offsets=offsets, ordinals=ordinals)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Order:
    """Rows' place in the one row order; `place` is text, plain or encoded by a dictionary."""

    at_us: Ints
    place: Any
    offsets: Ints
    ordinals: Ints

    @classmethod
    def stored(cls, structs: Any) -> Order:
        """From an array of `ORDER`; nulls have any order."""
        at, place, offset, ordinal = structs.flatten()
        at_us, offsets, ordinals = (column.fill_null(0).to_numpy() for column in (at, offset, ordinal))
        return cls(at_us=at_us, place=place.fill_null(""), offsets=offsets, ordinals=ordinals)

    def sorted(self, groups: Ints | None = None) -> Ints:
        """Row numbers in order; with `groups`, those of the smallest group first."""
        rows = np.argsort(self.at_us, kind="stable") if groups is None else np.lexsort((self.at_us, groups))
        # Times mostly differ, and comparing text is slow: only what is equal up to here is compared further.
        at_us = self.at_us[rows]
        equal = at_us[1:] == at_us[:-1]
        if groups is not None:
            equal &= groups[rows[1:]] == groups[rows[:-1]]
        tied = np.append(equal, False) | np.append(False, equal)
        if tied.any():
            which = rows[tied]
            _, codes = _sorted_codes(self.place.take(pa.array(which)))
            columns = (self.ordinals[which], self.offsets[which], codes, self.at_us[which])
            order = np.lexsort(columns if groups is None else (*columns, groups[which]))
            rows[tied] = which[order]
        return rows

    def take(self, rows: pa.Array[Any]) -> pa.StructArray:
        """Order of the rows at `rows`, as an array of `ORDER`; null where a number is null."""
        text = self.place.take(rows)
        if pa.types.is_dictionary(text.type):
            text = text.dictionary_decode()
        numbers: list[Any] = [pa.array(column).take(rows) for column in (self.at_us, self.offsets, self.ordinals)]
        missing = rows.is_null() if rows.null_count else None
        return pa.StructArray.from_arrays([numbers[0], text, *numbers[1:]], fields=list(ORDER), mask=missing)


def partition_text(source: str, partition: str) -> str:
    """Place of a row of a source: its name, topic and partition, whose numbers compare as numbers.

    >>> partition_text("clicks", "topic-2") < partition_text("clicks", "topic-10")
    True
    """
    head, dash, tail = partition.rpartition("-")
    number = tail if dash else partition
    known = number.isdigit()
    return f"{source}\0{head if known else partition}\0{number.zfill(20) if known else ''}"


def key_text(table: pa.Table, keys: Sequence[str]) -> Any:
    """Place of a derived row: text that sorts as its key columns do, null last."""
    if not keys:
        return pa.repeat(pa.scalar("", pa.large_string()), table.num_rows)
    texts = [_sortable(table.column(key).combine_chunks()) for key in keys]
    if len(texts) == 1:
        return texts[0]
    return pc.binary_join_element_wise(*texts, pa.scalar("\0", pa.large_string()))


def _sortable(values: Any) -> Any:
    kind = values.type
    if pa.types.is_floating(kind):
        bits = values.cast(pa.float64()).fill_null(0.0).to_numpy().view(np.int64)
        # Bits of negative floats descend.
        ranked = _digits(np.where(bits < 0, bits ^ np.int64(2**63 - 1), bits))
    elif pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        ranked = _digits(values.cast(pa.int64(), safe=False).fill_null(0).to_numpy())
    elif pa.types.is_date32(kind):
        ranked = _digits(values.cast(pa.int32()).cast(pa.int64()).fill_null(0).to_numpy())
    elif pa.types.is_temporal(kind):
        ranked = _digits(values.cast(pa.int64()).fill_null(0).to_numpy())
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        ranked = pc.binary_join_element_wise(values.cast(pa.large_binary()), b"").cast(pa.large_string(), safe=False)
    else:
        ranked = values.cast(pa.large_string())
    return pc.if_else(values.is_valid(), ranked, pa.scalar(_NULL_LAST, pa.large_string()))


def _digits(numbers: Ints) -> Any:
    """Twenty digits each, ascending with the signed number."""
    shifted = pa.array(numbers.view(np.uint64) ^ np.uint64(2**63))
    return pc.utf8_lpad(shifted.cast(pa.large_string()), 20, "0")


def _sorted_codes(text: Any) -> tuple[pa.Array[Any], Ints]:
    """Distinct values of `text`, ascending, and each row's position among them."""
    encoded: Any = text if pa.types.is_dictionary(text.type) else text.dictionary_encode()
    order = pc.sort_indices(encoded.dictionary)
    rank = np.empty(len(order), np.int64)
    rank[order.to_numpy()] = np.arange(len(order))
    return encoded.dictionary.take(order), rank[encoded.indices.to_numpy()]


def _coded(codes: Ints, names: pa.Array[Any]) -> Any:
    indices: Any = pa.array(codes)
    return pa.DictionaryArray.from_arrays(indices, names)


_NO_NAMES: Final[pa.Array[Any]] = pa.array([""], pa.large_string())
_NONE: Final = np.zeros(0, np.int64)

NOWHERE: Final = Places(names=_NO_NAMES.slice(0, 0), codes=_NONE, offsets=_NONE)
"""Nothing is known of any row."""
